//! The number of replicas of whatever has one, in one form (`autoscaling/v1 Scale`): pure.

use serde_json::{Value, json};
use skep_api::custom::ScalePaths;
use skep_api::registry::Resource;

/// Where the numbers of a scale are.
pub(crate) struct Places(ScalePaths);

impl Places {
    /// Those of a resource: its own, or where all built-in kinds have them.
    pub(crate) fn of(resource: &Resource) -> Self {
        let own = resource.custom.as_ref().and_then(|custom| custom.scale.clone());
        let path = |part: &str| vec![part.to_owned(), "replicas".to_owned()];
        Self(own.unwrap_or_else(|| ScalePaths { spec: path("spec"), status: path("status"), selector: None }))
    }

    /// The scale of an object.
    pub(crate) fn scale(&self, resource: &Resource, object: &Value) -> Value {
        let meta = &object["metadata"];
        let number = |path: &[String]| follow(object, path).and_then(Value::as_i64);
        let mut scale = json!({
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": {},
            "spec": {},
            "status": { "replicas": number(&self.0.status).unwrap_or_default() },
        });
        for member in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
            if let Some(value) = meta.get(member) {
                scale["metadata"][member] = value.clone();
            }
        }
        // Left out when it is zero, as in every form of upstream's types.
        if let Some(replicas) = number(&self.0.spec).filter(|replicas| *replicas != 0) {
            scale["spec"]["replicas"] = json!(replicas);
        }
        let selector = match &self.0.selector {
            Some(path) => follow(object, path).and_then(Value::as_str).unwrap_or_default().to_owned(),
            None if resource.custom.is_some() => String::new(),
            None => selector(&object["spec"]["selector"]),
        };
        if !selector.is_empty() {
            scale["status"]["selector"] = json!(selector);
        }
        scale
    }

    /// Sets the number that is wanted.
    pub(crate) fn set(&self, object: &mut Value, replicas: i64) {
        let mut at = object;
        for name in &self.0.spec {
            if !at.is_object() {
                *at = json!({});
            }
            at = &mut at[name.as_str()];
        }
        *at = json!(replicas);
    }
}

fn follow<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, name| value.get(name))
}

/// A label selector as text: what `matchLabels` (or the plain map of a replication controller) and `matchExpressions`
/// say.
fn selector(selector: &Value) -> String {
    let structured = selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some();
    let labels = if structured { &selector["matchLabels"] } else { selector };
    let mut terms: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
        .collect();
    for one in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = one["key"].as_str().unwrap_or_default();
        let values: Vec<_> =
            one["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        match one["operator"].as_str() {
            Some("In") => terms.push(format!("{key} in ({})", values.join(","))),
            Some("NotIn") => terms.push(format!("{key} notin ({})", values.join(","))),
            Some("Exists") => terms.push(key.to_owned()),
            Some("DoesNotExist") => terms.push(format!("!{key}")),
            _ => {}
        }
    }
    terms.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selector_of_a_scale_is_text() {
        let cases = [
            (json!({ "app": "a" }), "app=a"),
            (json!({ "matchLabels": { "app": "a", "tier": "b" } }), "app=a,tier=b"),
            (
                json!({ "matchExpressions": [{ "key": "x", "operator": "In", "values": ["1", "2"] }, { "key": "y", "operator": "DoesNotExist" }] }),
                "x in (1,2),!y",
            ),
            (Value::Null, ""),
        ];
        for (given, expected) in cases {
            assert_eq!(selector(&given), expected, "{given}");
        }
    }
}
