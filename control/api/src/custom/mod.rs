//! Custom resources: a CustomResourceDefinition as entries of the registry, and what objects of those entries go through
//! instead of the code of a built-in kind.
//!
//! - [`resources`] makes one [`Resource`] per served version; the rest of the machinery treats it like any other.
//! - [`Node`] is the structural schema of a version: pruning, defaults and validation are walks over it.
//! - Whether a definition may be at all is in [`crate::definition`].

mod check;
mod columns;
mod default;
mod format;
mod json_path;
mod node;
mod number;
pub(crate) mod openapi;
mod pattern;
mod prune;
pub mod review;
mod rules;
mod sets;
mod types;

use std::sync::Arc;

use serde_json::Value;

use crate::object::{at, flag, items, name, text};
use crate::registry::{Resource, StoragePath, Subresource};
use crate::review::ReviewVersion;

pub(crate) use check::check;
pub(crate) use columns::{PrinterColumn, cells};
pub(crate) use format::fits as fits_format;
pub(crate) use json_path::JsonPath;
pub(crate) use node::{Kind, More, Node};
pub(crate) use pattern::compile as compile_pattern;
pub(crate) use prune::{prune, prune_sent};
pub(crate) use rules::Rule;

/// What a custom resource has beyond a built-in one.
#[derive(Debug)]
pub struct Custom {
    /// The name of its definition.
    pub definition: String,
    /// The kind of its lists.
    pub list_kind: String,
    /// Whether its definition is on its way out: nothing new comes in.
    pub terminating: bool,
    /// What to tell who uses a version that is deprecated.
    pub deprecation: Option<String>,
    /// Who converts objects between its versions, if these differ in more than their schemas.
    pub conversion: Option<Conversion>,
    /// Where the numbers of its scale are, if it has one.
    pub scale: Option<ScalePaths>,
    /// The fields that it can be selected by, as paths of names.
    pub(crate) selectable: Vec<Vec<String>>,
    pub(crate) columns: Vec<PrinterColumn>,
    pub(crate) node: Node,
    /// The schema as it was written, for OpenAPI.
    pub(crate) written: Value,
}

/// A webhook that converts.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversion {
    /// Another one after every change of the definition: what was converted before may be something else now.
    pub edition: String,
    /// Where it is: a `WebhookClientConfig`.
    pub client_config: Value,
    /// The version of `ConversionReview` that it is sent.
    pub review_version: ReviewVersion,
}

impl Conversion {
    fn read(definition: &Value) -> Option<Self> {
        let conversion = at(definition, &["spec", "conversion"])?;
        if text(conversion, &["strategy"]) != "Webhook" {
            return None;
        }
        let webhook = &conversion["webhook"];
        let edition = format!("{}/{}", crate::object::uid(definition), definition["metadata"]["generation"]);
        let accepted = items(webhook, &["conversionReviewVersions"]);
        Some(Self {
            edition,
            client_config: webhook["clientConfig"].clone(),
            review_version: ReviewVersion::first_of(accepted),
        })
    }
}

/// Where a scale's numbers are in an object, as paths of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    /// The number that is wanted.
    pub spec: Vec<String>,
    /// The number that there is.
    pub status: Vec<String>,
    /// The selector of what is counted, as text.
    pub selector: Option<Vec<String>>,
}

impl Custom {
    /// Brings a stored object into the form of this schema: what it does not know any more is gone, what came since has
    /// its default. `apiVersion` becomes that of the resource.
    pub fn refresh(&self, resource: &Resource, object: &mut Value) {
        prune(&self.node, object);
        self.default(object);
        crate::object::set(object, "apiVersion", resource.group_version());
    }

    /// Fills in what the schema has defaults for.
    pub(crate) fn default(&self, object: &mut Value) {
        default::apply(&self.node, object);
    }

    /// Whether there are rules in CEL.
    pub fn has_rules(&self) -> bool {
        rules::are_there(&self.node)
    }

    /// The rules that an object breaks; of a successor, those that its change breaks.
    pub(crate) fn check(&self, new: &Value, old: Option<&Value>) -> Vec<crate::validation::FieldError> {
        let mut errors = check(&self.node, new, old);
        sets::check(&self.node, new, old, &mut errors);
        if errors.is_empty() {
            rules::check(&self.node, new, old, &mut errors);
        }
        // What the whole object breaks has no path, which upstream writes like this.
        for error in errors.iter_mut().filter(|error| error.field.is_empty()) {
            error.field = "<nil>".to_owned();
        }
        errors
    }
}

/// What can be done with every custom resource.
const VERBS: [&str; 8] = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];

/// The entries of a definition's served versions, with the names that were accepted. A version whose schema cannot be
/// read is left out; [`crate::definition`] does not let one in.
pub fn resources(definition: &Value) -> Vec<Arc<Resource>> {
    let spec = &definition["spec"];
    let versions = items(spec, &["versions"]);
    let Some(storage) = versions.iter().find(|version| flag(version, &["storage"])) else {
        return Vec::new();
    };
    let served = versions.iter().filter(|version| flag(version, &["served"]));
    served
        .filter_map(|version| resource(definition, version, text(storage, &["name"])))
        .map(Arc::new)
        .collect()
}

/// The entry of the version that is stored, served or not: where the objects are, whoever may see them.
pub fn stored(definition: &Value) -> Option<Arc<Resource>> {
    let version =
        items(definition, &["spec", "versions"]).iter().find(|version| flag(version, &["storage"]))?;
    resource(definition, version, text(version, &["name"])).map(Arc::new)
}

fn resource(definition: &Value, version: &Value, storage: &str) -> Option<Resource> {
    let spec = &definition["spec"];
    let names = at(definition, &["status", "acceptedNames"]).unwrap_or(&spec["names"]);
    let (group, plural, kind) = (text(spec, &["group"]), text(names, &["plural"]), text(names, &["kind"]));
    let written = at(version, &["schema", "openAPIV3Schema"]).cloned().unwrap_or_default();
    let mut node = Node::of_object(&written).ok()?;
    node.preserve_unknown |= flag(spec, &["preserveUnknownFields"]);
    let texts =
        |member| items(names, &[member]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let schema = types::of(&format!("{group}.{}.{kind}", text(version, &["name"])), &node)?;
    let custom = custom(definition, names, version, node, written);
    let namespaced = text(spec, &["scope"]) == "Namespaced";
    Some(Resource {
        group: group.to_owned(),
        version: text(version, &["name"]).to_owned(),
        plural: plural.to_owned(),
        singular: text(names, &["singular"]).to_owned(),
        kind: kind.to_owned(),
        namespaced,
        verbs: VERBS.map(str::to_owned).into(),
        short_names: texts("shortNames"),
        categories: texts("categories"),
        subresources: subresources(group, version, kind),
        columns: Vec::new(),
        storage: StoragePath {
            prefix: format!("/registry/{group}/{plural}"),
            group: group.to_owned(),
            version: storage.to_owned(),
        },
        schema,
        served: true,
        custom: Some(Arc::new(custom)),
    })
}

fn subresources(group: &str, version: &Value, kind: &str) -> Vec<Subresource> {
    let one = |name: &str, group: &str, version: &str, kind: &str| Subresource {
        name: name.to_owned(),
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        verbs: ["get", "patch", "update"].map(str::to_owned).into(),
        served: true,
    };
    let mut all = Vec::new();
    if at(version, &["subresources", "scale"]).is_some() {
        all.push(one("scale", "autoscaling", "v1", "Scale"));
    }
    if at(version, &["subresources", "status"]).is_some() {
        all.push(one("status", group, text(version, &["name"]), kind));
    }
    all
}

fn custom(definition: &Value, names: &Value, version: &Value, node: Node, written: Value) -> Custom {
    let kind = text(names, &["kind"]);
    let list_kind = match text(names, &["listKind"]) {
        "" => format!("{kind}List"),
        list_kind => list_kind.to_owned(),
    };
    let deprecation = flag(version, &["deprecated"]).then(|| match text(version, &["deprecationWarning"]) {
        "" => {
            let group = text(definition, &["spec", "group"]);
            format!("{group}/{} {kind} is deprecated", text(version, &["name"]))
        }
        warning => warning.to_owned(),
    });
    let selectable = items(version, &["selectableFields"]);
    Custom {
        definition: name(definition).to_owned(),
        list_kind,
        terminating: at(definition, &["metadata", "deletionTimestamp"]).is_some(),
        deprecation,
        conversion: Conversion::read(definition),
        scale: at(version, &["subresources", "scale"]).map(scale),
        selectable: selectable.iter().map(|field| names_of(text(field, &["jsonPath"]))).collect(),
        columns: columns::read(items(version, &["additionalPrinterColumns"])),
        node,
        written,
    }
}

fn scale(scale: &Value) -> ScalePaths {
    let selector = text(scale, &["labelSelectorPath"]);
    ScalePaths {
        spec: names_of(text(scale, &["specReplicasPath"])),
        status: names_of(text(scale, &["statusReplicasPath"])),
        selector: (!selector.is_empty()).then(|| names_of(selector)),
    }
}

/// The names in a simple path such as `.spec.replicas`.
pub(crate) fn names_of(path: &str) -> Vec<String> {
    path.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}
