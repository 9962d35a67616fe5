//! DefaultStorageClass and DefaultIngressClass: who names no class gets the one that is marked as the default.

use std::cmp::Reverse;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use skep_api::object::{name, text};
use skep_api::status::Status;

use super::{Attributes, ConfigError, Ingredients, Plugin};
use crate::cache::Cache;
use crate::gate::ObjectReader;

/// Where objects name their class, and where classes say that they are the default.
struct Place {
    group: &'static str,
    plural: &'static str,
    field: &'static str,
    /// An older way to name a class.
    annotation: &'static str,
    class: (&'static str, &'static str),
    marks: &'static [&'static str],
}

static STORAGE: Place = Place {
    group: "",
    plural: "persistentvolumeclaims",
    field: "storageClassName",
    annotation: "volume.beta.kubernetes.io/storage-class",
    class: ("storage.k8s.io", "storageclasses"),
    marks: &[
        "storageclass.kubernetes.io/is-default-class",
        "storageclass.beta.kubernetes.io/is-default-class",
    ],
};

static INGRESS: Place = Place {
    group: "networking.k8s.io",
    plural: "ingresses",
    field: "ingressClassName",
    annotation: "kubernetes.io/ingress.class",
    class: ("networking.k8s.io", "ingressclasses"),
    marks: &["ingressclass.kubernetes.io/is-default-class"],
};

struct DefaultClass {
    cache: Arc<Cache>,
    place: &'static Place,
}

pub(super) fn make_storage(from: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(DefaultClass { cache: from.cache.clone(), place: &STORAGE }))
}

pub(super) fn make_ingress(from: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(DefaultClass { cache: from.cache.clone(), place: &INGRESS }))
}

#[async_trait]
impl Plugin for DefaultClass {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.creates() && attributes.is(self.place.group, self.place.plural)
    }

    async fn admit(&self, _: &Attributes<'_>, object: Option<&mut Value>) -> Result<(), Status> {
        let place = self.place;
        let Some(object) = object.filter(|object| !names_class(place, object)) else { return Ok(()) };
        let classes = self.cache.list(place.class.0, place.class.1, "");
        if let Some(class) = default_of(place, &classes) {
            if !object["spec"].is_object() {
                object["spec"] = json!({});
            }
            object["spec"][place.field] = name(class).into();
        }
        Ok(())
    }
}

/// Whether the object says which class it wants; the empty one is a wish, too.
fn names_class(place: &Place, object: &Value) -> bool {
    object["spec"][place.field].is_string() || object["metadata"]["annotations"][place.annotation].is_string()
}

/// Of several defaults the newest, of equally old ones the first by name.
fn default_of<'a>(place: &Place, classes: &'a [Arc<Value>]) -> Option<&'a Value> {
    let marked = |class: &&Arc<Value>| {
        place.marks.iter().any(|mark| text(class, &["metadata", "annotations", mark]) == "true")
    };
    let age = |class: &Arc<Value>| text(class, &["metadata", "creationTimestamp"]).to_owned();
    let marked = classes.iter().filter(marked);
    marked.min_by_key(|class| (Reverse(age(class)), name(class).to_owned())).map(|class| &**class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_default_is_chosen_then_the_first_by_name() {
        let class = |name: &str, created: &str, default: &str| {
            Arc::new(json!({ "metadata": {
                "name": name, "creationTimestamp": created,
                "annotations": { "storageclass.kubernetes.io/is-default-class": default },
            } }))
        };
        let (old, new) = ("2027-01-01T00:00:00Z", "2027-01-02T00:00:00Z");
        let chosen =
            |classes: &[Arc<Value>]| default_of(&STORAGE, classes).map(|class| name(class).to_owned());
        assert_eq!(chosen(&[class("a", new, "false")]), None);
        assert_eq!(chosen(&[class("a", old, "true"), class("b", new, "true")]).as_deref(), Some("b"));
        assert_eq!(chosen(&[class("b", new, "true"), class("a", new, "true")]).as_deref(), Some("a"));
    }

    #[test]
    fn class_named_in_whatever_way_is_kept() {
        for (object, named) in [
            (json!({ "spec": {} }), false),
            (json!({ "spec": { "storageClassName": "" } }), true),
            (json!({ "metadata": { "annotations": { STORAGE.annotation: "x" } } }), true),
        ] {
            assert_eq!(names_class(&STORAGE, &object), named, "{object}");
        }
    }
}
