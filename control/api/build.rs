//! Derives the type table and the OpenAPI definitions from the Rust bindings of Kubernetes' API, joined with the facts in
//! `data/` that the bindings do not carry (merge keys, list types, enumerations, defaults).
//!
//! Output: `types.json` (compact, read once at start) and `definitions.json.z` (with descriptions, inflated on demand).

#[path = "build/openapi.rs"]
mod openapi;

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::io::Write as _;
use std::path::Path;

use k8s_openapi::schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

/// The types that the walk starts from; everything they refer to comes along.
macro_rules! roots {
    ($generator:ident: $($path:path),* $(,)?) => { $( root::<$path>(&mut $generator); )* };
}

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";

/// Types whose JSON is free.
const OPAQUE: [&str; 3] = [
    "io.k8s.apimachinery.pkg.runtime.RawExtension",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=data");
    println!("cargo::rerun-if-changed=src/openapi");
    let facts: BTreeMap<String, BTreeMap<String, Value>> =
        serde_json::from_str(include_str!("data/schema-facts.json")).expect("the facts are JSON");
    let definitions = definitions();
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let out = Path::new(&out);
    let tags: Tags =
        serde_json::from_str(include_str!("data/protobuf.json")).expect("the struct tags are JSON");
    let types = type_table(&definitions, &facts, &tags);
    std::fs::write(out.join("types.json"), types.to_string()).expect("OUT_DIR takes files");

    let documents = openapi::definitions(definitions, &facts, &tags);
    let text = serde_json::to_vec(&documents).expect("values serialise");
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&text).expect("memory takes bytes");
    std::fs::write(out.join("definitions.json.z"), encoder.finish().expect("memory takes bytes"))
        .expect("OUT_DIR takes files");
    println!("cargo::rustc-env=SKEP_OPENAPI_HASH={:016X}", fingerprint(&text));
}

/// A number that changes whenever the OpenAPI documents may: definitions, discovery data, or the code that joins them.
fn fingerprint(definitions: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    definitions.hash(&mut hasher);
    include_str!("data/discovery.json").hash(&mut hasher);
    let mut sources: Vec<_> = std::fs::read_dir("src/openapi")
        .map(|dir| dir.filter_map(|entry| entry.ok().map(|e| e.path())).collect())
        .unwrap_or_default();
    sources.sort();
    for source in sources {
        std::fs::read(source).unwrap_or_default().hash(&mut hasher);
    }
    hasher.finish()
}

fn root<T: JsonSchema>(generator: &mut SchemaGenerator) {
    generator.subschema_for::<T>();
}

fn definitions() -> Map<String, Value> {
    use k8s_openapi::api::*;
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
    use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 as apiregistration;
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    roots!(generator:
        core::v1::Binding, core::v1::ComponentStatus, core::v1::ConfigMap, core::v1::Endpoints, core::v1::Event,
        core::v1::LimitRange, core::v1::Namespace, core::v1::Node, core::v1::PersistentVolume,
        core::v1::PersistentVolumeClaim, core::v1::Pod, core::v1::PodTemplate, core::v1::ReplicationController,
        core::v1::ResourceQuota, core::v1::Secret, core::v1::Service, core::v1::ServiceAccount,
        apps::v1::ControllerRevision, apps::v1::DaemonSet, apps::v1::Deployment, apps::v1::ReplicaSet,
        apps::v1::StatefulSet, events::v1::Event, authentication::v1::SelfSubjectReview,
        authentication::v1::TokenRequest, authentication::v1::TokenReview,
        authorization::v1::LocalSubjectAccessReview, authorization::v1::SelfSubjectAccessReview,
        authorization::v1::SelfSubjectRulesReview, authorization::v1::SubjectAccessReview,
        autoscaling::v1::HorizontalPodAutoscaler, autoscaling::v1::Scale, autoscaling::v2::HorizontalPodAutoscaler,
        batch::v1::CronJob, batch::v1::Job, certificates::v1::CertificateSigningRequest, coordination::v1::Lease,
        discovery::v1::EndpointSlice, flowcontrol::v1::FlowSchema, flowcontrol::v1::PriorityLevelConfiguration,
        networking::v1::IPAddress, networking::v1::Ingress, networking::v1::IngressClass,
        networking::v1::NetworkPolicy, networking::v1::ServiceCIDR, node::v1::RuntimeClass, policy::v1::Eviction,
        policy::v1::PodDisruptionBudget, rbac::v1::ClusterRole, rbac::v1::ClusterRoleBinding, rbac::v1::Role,
        rbac::v1::RoleBinding, resource::v1::DeviceClass, resource::v1::ResourceClaim,
        resource::v1::ResourceClaimTemplate, resource::v1::ResourceSlice, scheduling::v1::PriorityClass,
        storage::v1::CSIDriver, storage::v1::CSINode, storage::v1::CSIStorageCapacity, storage::v1::StorageClass,
        storage::v1::VolumeAttachment, storage::v1::VolumeAttributesClass,
        admissionregistration::v1::MutatingAdmissionPolicy, admissionregistration::v1::MutatingAdmissionPolicyBinding,
        admissionregistration::v1::MutatingWebhookConfiguration,
        admissionregistration::v1::ValidatingAdmissionPolicy,
        admissionregistration::v1::ValidatingAdmissionPolicyBinding,
        admissionregistration::v1::ValidatingWebhookConfiguration,
        apiextensions::CustomResourceDefinition, apiregistration::APIService,
        meta::APIGroup, meta::APIGroupList, meta::APIResourceList, meta::APIVersions, meta::DeleteOptions,
        meta::ListMeta, meta::Status, meta::WatchEvent<meta::Status>, meta::Patch,
    );
    let mut definitions = generator.take_definitions(false);
    // The bindings insist on metadata so that Rust need not unwrap; the API does not.
    for schema in definitions.values_mut() {
        let refers = reference(&schema["properties"]["metadata"]) == Some(OBJECT_META);
        if let (true, Some(required)) = (refers, schema.get_mut("required").and_then(Value::as_array_mut)) {
            required.retain(|name| name != "metadata");
            let none_left = required.is_empty();
            if let (true, Some(schema)) = (none_left, schema.as_object_mut()) {
                schema.remove("required");
            }
        }
    }
    definitions
}

fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.rsplit('/').next()
}

/// Per message its fields: number, name, type, and letters of which `o` is `omitempty` and `p` a pointer.
type Tags = BTreeMap<String, Vec<(u64, String, String, String)>>;

/// What Go's encoder does with the zero of a field.
struct Zero {
    /// It leaves it out (`omitempty` of something that can be empty).
    omitted: bool,
    /// What it writes for a field that nobody has set: `null`, or the zero of the type.
    written: Option<&'static str>,
}

/// The types whose zero `omitempty` does not leave out, beside messages: they are structs in Go.
const STRUCTS: [&str; 5] = ["time", "micro", "quantity", "intstr", "raw"];

fn zero(tags: &Tags, name: &str, field: &str) -> Zero {
    // `io.k8s.api.core.v1.Pod` is `core/v1.Pod` there.
    let mut parts = name.rsplit('.');
    let none = Zero { omitted: false, written: None };
    let (Some(kind), Some(version), Some(group)) = (parts.next(), parts.next(), parts.next()) else {
        return none;
    };
    let Some((of, letters)) = tagged(tags, &format!("{group}/{version}.{kind}"), field) else { return none };
    let (pointer, omits) = (letters.contains('p'), letters.contains('o'));
    let is_struct = !of.contains(' ') && (of.contains('/') || STRUCTS.contains(&of));
    // The one field that is `omitzero` as well.
    let omits_struct = kind == "ObjectMeta" && field == "creationTimestamp";
    let is_written = if pointer || !is_struct { !omits } else { !omits_struct };
    // Lists and maps that nobody has set are nil, and so are pointers.
    let is_nil = pointer || of.contains(' ') || matches!(of, "time" | "micro" | "raw" | "bytes");
    Zero { omitted: omits && !pointer, written: is_written.then_some(if is_nil { "Null" } else { "Plain" }) }
}

/// Type and letters of a field of a message, or of one that is inlined in it.
fn tagged<'a>(tags: &'a Tags, message: &str, field: &str) -> Option<(&'a str, &'a str)> {
    let fields = tags.get(message)?;
    fields.iter().find_map(|(_, name, of, letters)| match letters.contains('i') {
        true => tagged(tags, of, field),
        false => (name == field).then_some((of.as_str(), letters.as_str())),
    })
}

fn type_table(
    definitions: &Map<String, Value>,
    facts: &BTreeMap<String, BTreeMap<String, Value>>,
    tags: &Tags,
) -> Value {
    let names: Vec<&String> =
        definitions.keys().filter(|name| is_struct(name, &definitions[name.as_str()])).collect();
    let index: BTreeMap<&str, usize> = names.iter().enumerate().map(|(i, name)| (name.as_str(), i)).collect();
    let none = BTreeMap::new();
    names
        .iter()
        .map(|name| {
            let schema = &definitions[name.as_str()];
            let own = facts.get(name.as_str()).unwrap_or(&none);
            let properties = schema["properties"].as_object().expect("a struct has properties");
            let fields: Vec<Value> = properties
                .iter()
                .map(|(field, property)| {
                    let mut entry = field_entry(field, property, schema, own.get(field), definitions, &index);
                    let zero = zero(tags, name, field);
                    if zero.omitted {
                        entry["omitsZero"] = Value::Bool(true);
                    }
                    if let Some(written) = zero.written {
                        entry["written"] = written.into();
                    }
                    entry
                })
                .collect();
            let atomic = own.get("$type").is_some_and(|t| t["map-type"] == "atomic");
            json!({ "name": name, "atomic": atomic, "fields": fields })
        })
        .collect()
}

fn is_struct(name: &str, schema: &Value) -> bool {
    !OPAQUE.contains(&name) && schema.get("properties").is_some()
}

fn field_entry(
    field: &str,
    property: &Value,
    schema: &Value,
    facts: Option<&Value>,
    definitions: &Map<String, Value>,
    index: &BTreeMap<&str, usize>,
) -> Value {
    let mut entry = json!({ "name": field, "shape": shape(property, definitions, index) });
    if schema["required"].as_array().is_some_and(|required| required.iter().any(|name| name == field)) {
        entry["required"] = Value::Bool(true);
    }
    for (from, to) in [
        ("list-type", "listType"),
        ("list-map-keys", "listKeys"),
        ("map-type", "mapType"),
        ("patch-strategy", "patchStrategy"),
        ("patch-merge-key", "mergeKey"),
        ("enum", "choices"),
        ("default", "default"),
    ] {
        if let Some(value) = facts.and_then(|facts| facts.get(from)) {
            entry[to] = value.clone();
        }
    }
    entry
}

fn shape(schema: &Value, definitions: &Map<String, Value>, index: &BTreeMap<&str, usize>) -> Value {
    if let Some(name) = reference(schema) {
        return match name {
            QUANTITY => json!("Quantity"),
            INT_OR_STRING => json!("IntOrString"),
            TIME => json!("Time"),
            MICRO_TIME => json!("MicroTime"),
            _ => match index.get(name) {
                Some(index) => json!({ "Object": index }),
                None if OPAQUE.contains(&name) => json!("Any"),
                None => shape(&definitions[name], definitions, index),
            },
        };
    }
    let format = schema["format"].as_str().unwrap_or_default();
    match (schema["type"].as_str(), format) {
        (Some("string"), "byte") => json!("Bytes"),
        (Some("string"), _) => json!("String"),
        (Some("boolean"), _) => json!("Boolean"),
        (Some("integer"), "int32") => json!("Int32"),
        (Some("integer"), _) => json!("Int64"),
        (Some("number"), _) => json!("Number"),
        (Some("array"), _) => json!({ "List": shape(&schema["items"], definitions, index) }),
        (Some("object"), _) if schema.get("additionalProperties").is_some() => {
            json!({ "Map": shape(&schema["additionalProperties"], definitions, index) })
        }
        _ => json!("Any"),
    }
}
