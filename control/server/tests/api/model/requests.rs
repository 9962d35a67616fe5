//! Operations as HTTP.

use http::Method;
use serde_json::{Value, json};

use super::operation::{Condition, Operation, Revision};
use super::state::{Kind, Objects, name};
use crate::harness::{Answer, Cluster};

const MERGE: &str = "application/merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
pub(super) const FINALIZER: &str = "example.com/held";

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Widget => "Widget",
        }
    }

    fn version(self) -> &'static str {
        match self {
            Self::ConfigMap => "v1",
            Self::Widget => "example.com/v1",
        }
    }

    /// The field that holds the value.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::ConfigMap => "data",
            Self::Widget => "spec",
        }
    }

    pub(super) fn path(self, namespace: &str) -> String {
        match self {
            Self::ConfigMap => format!("/api/v1/namespaces/{namespace}/configmaps"),
            Self::Widget => format!("/apis/example.com/v1/namespaces/{namespace}/widgets"),
        }
    }

    /// An object as a client writes it.
    pub(super) fn object(self, metadata: Value, value: u8) -> Value {
        json!({
            "apiVersion": self.version(),
            "kind": self.name(),
            "metadata": metadata,
            self.field(): { "value": format!("v{value}") },
        })
    }
}

fn finalizers(held: bool) -> Value {
    if held { json!([FINALIZER]) } else { json!([]) }
}

/// Adds the revision that a request names to its metadata.
fn with_revision(mut metadata: Value, objects: &Objects, number: u8, revision: Revision) -> Value {
    let current = objects.get(&name(number)).map_or(7, |object| object.revision);
    match revision {
        Revision::Current => metadata["resourceVersion"] = json!(current.to_string()),
        Revision::Stale => metadata["resourceVersion"] = json!((current - 1).to_string()),
        Revision::Absent => {}
    }
    metadata
}

/// Sends an operation that may change something.
pub(super) async fn send(
    cluster: &Cluster,
    kind: Kind,
    path: &str,
    objects: &Objects,
    operation: &Operation,
) -> Answer {
    let options = |dry: bool| if dry { "?fieldManager=u&dryRun=All" } else { "?fieldManager=u" };
    let (method, path, content, body) = match *operation {
        Operation::Create { name: number, value, label, held, dry } => {
            let metadata = json!({
                "name": name(number),
                "labels": { "app": format!("l{label}") },
                "finalizers": finalizers(held),
            });
            let path = format!("{path}{}", options(dry));
            (Method::POST, path, "application/json", kind.object(metadata, value))
        }
        Operation::Generate { value } => {
            let object = kind.object(json!({ "generateName": "g-" }), value);
            (Method::POST, format!("{path}{}", options(false)), "application/json", object)
        }
        Operation::Replace { name: number, value, label, held, revision, dry } => {
            let metadata = json!({
                "name": name(number),
                "labels": { "app": format!("l{label}") },
                "finalizers": finalizers(held),
            });
            let object = kind.object(with_revision(metadata, objects, number, revision), value);
            let path = format!("{path}/{}{}", name(number), options(dry));
            (Method::PUT, path, "application/json", object)
        }
        Operation::Merge { name: number, value, release, revision, dry } => {
            let metadata = if release { json!({ "finalizers": null }) } else { json!({}) };
            let metadata = with_revision(metadata, objects, number, revision);
            let patch = json!({ "metadata": metadata, kind.field(): { "value": format!("v{value}") } });
            (Method::PATCH, format!("{path}/{}{}", name(number), options(dry)), MERGE, patch)
        }
        Operation::Test { name: number, expected, value, dry } => {
            let at = format!("/{}/value", kind.field());
            let patch = json!([
                { "op": "test", "path": at, "value": format!("v{expected}") },
                { "op": "replace", "path": at, "value": format!("v{value}") },
            ]);
            (Method::PATCH, format!("{path}/{}{}", name(number), options(dry)), JSON_PATCH, patch)
        }
        Operation::Apply { name: number, value, manager, force, dry } => {
            let dry = if dry { "&dryRun=All" } else { "" };
            let path = format!("{path}/{}?fieldManager=a{manager}&force={force}{dry}", name(number));
            (Method::PATCH, path, APPLY, kind.object(json!({ "name": name(number) }), value))
        }
        Operation::Delete { name: number, condition, dry } => {
            let options = delete_options(objects, number, condition, dry);
            (Method::DELETE, format!("{path}/{}", name(number)), "application/json", options)
        }
        Operation::DeleteLabelled { label, dry } => {
            let dry = if dry { "&dryRun=All" } else { "" };
            let path = format!("{path}?labelSelector=app%3Dl{label}{dry}");
            (Method::DELETE, path, "application/json", json!({}))
        }
        Operation::Get { name: number } => return cluster.get(&format!("{path}/{}", name(number))).await,
        Operation::Malformed { which, name: number } => {
            return malformed(cluster, kind, path, which, &name(number)).await;
        }
        ref read => unreachable!("{read:?} changes nothing"),
    };
    cluster.call(method, &path, content, body.to_string()).await
}

fn delete_options(objects: &Objects, number: u8, condition: Condition, dry: bool) -> Value {
    let object = objects.get(&name(number));
    let revision = object.map_or(7, |object| object.revision);
    let conditions = match condition {
        Condition::None => json!({}),
        Condition::Held => {
            let uid = object.map_or("none", |object| &object.uid);
            json!({ "uid": uid, "resourceVersion": revision.to_string() })
        }
        Condition::OtherUid => json!({ "uid": "another" }),
        Condition::OtherRevision => json!({ "resourceVersion": (revision - 1).to_string() }),
    };
    let dry = if dry { json!(["All"]) } else { json!([]) };
    json!({ "kind": "DeleteOptions", "apiVersion": "v1", "preconditions": conditions, "dryRun": dry })
}

/// A request that cannot be right, whatever the server holds.
async fn malformed(cluster: &Cluster, kind: Kind, path: &str, which: usize, name: &str) -> Answer {
    let (item, json) = (format!("{path}/{name}"), "application/json");
    let other = kind.object(json!({ "name": "another-name" }), 0).to_string();
    let bad_name = kind.object(json!({ "name": "Not A Name" }), 0).to_string();
    let wrong_kind =
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name } }).to_string();
    let bad_label = kind.object(json!({ "name": "fresh", "labels": { "a b": "c" } }), 0).to_string();
    let manager = format!("{item}?fieldManager={}", "m".repeat(129));
    let requests = [
        (Method::POST, path.to_owned(), json, "{\"metadata\":".to_owned()),
        (Method::POST, path.to_owned(), json, wrong_kind.clone()),
        (Method::POST, path.to_owned(), json, bad_name),
        (Method::POST, path.to_owned(), json, bad_label),
        (Method::POST, format!("{path}?dryRun=Some"), json, other.clone()),
        (Method::POST, format!("{path}?fieldValidation=Maybe"), json, other.clone()),
        (Method::PUT, item.clone(), json, other.clone()),
        (Method::PUT, item.clone(), json, wrong_kind),
        (Method::PATCH, item.clone(), json, "{}".to_owned()),
        (Method::PATCH, item.clone(), JSON_PATCH, "{}".to_owned()),
        (Method::PATCH, item.clone(), JSON_PATCH, "[{\"op\":\"jump\",\"path\":\"/metadata\"}]".to_owned()),
        (Method::PATCH, item.clone(), MERGE, "[1]".to_owned()),
        (Method::PATCH, manager, MERGE, "{}".to_owned()),
        (Method::PATCH, item.clone(), APPLY, other.clone()),
        (Method::PATCH, format!("{item}?fieldManager=a&force=perhaps"), APPLY, other),
        (Method::DELETE, item.clone(), json, "{\"gracePeriodSeconds\":\"soon\"}".to_owned()),
        (Method::DELETE, item.clone(), json, "{\"propagationPolicy\":\"Sideways\"}".to_owned()),
        (Method::DELETE, format!("{path}?labelSelector=a%3D%28"), json, "{}".to_owned()),
        (Method::GET, format!("{path}?fieldSelector=spec.none%3Da"), "", String::new()),
        (Method::GET, format!("{path}?limit=-x"), "", String::new()),
        (Method::GET, format!("{path}?continue=zzz"), "", String::new()),
        (Method::GET, format!("{path}?resourceVersionMatch=Exact"), "", String::new()),
        (Method::GET, format!("{path}?resourceVersion=abc"), "", String::new()),
        (Method::GET, format!("{path}?watch=true&resourceVersion=abc"), "", String::new()),
    ];
    let (method, path, content, body) = requests[which % requests.len()].clone();
    cluster.call(method, &path, content, body).await
}
