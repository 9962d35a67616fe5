//! PodNodeSelector: the pods of a namespace run on the nodes that its annotation, or the configuration, selects.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use skep_api::object::members;
use skep_api::status::Status;

use super::{Attributes, ConfigError, Ingredients, Plugin};
use crate::cache::Cache;
use crate::failure;
use crate::gate::ObjectReader;

const ANNOTATION: &str = "scheduler.alpha.kubernetes.io/node-selector";
/// What holds for namespaces that say nothing.
const DEFAULT: &str = "clusterDefaultNodeSelector";
const CONFLICT: &str = "pod node label selector conflicts with its namespace node label selector";
const NOT_ALLOWED: &str = "pod node label selector labels conflict with its namespace whitelist";

type Labels = BTreeMap<String, String>;

struct PodNodeSelector {
    cache: Arc<Cache>,
    /// The default, and what each namespace allows.
    selectors: BTreeMap<String, Labels>,
}

pub(super) fn make(
    from: &Ingredients,
    configuration: Option<&Value>,
) -> Result<Box<dyn Plugin>, ConfigError> {
    let bad = |reason| ConfigError::Plugin { name: "PodNodeSelector", reason };
    let selectors = configuration.map(read).transpose().map_err(bad)?.unwrap_or_default();
    Ok(Box::new(PodNodeSelector { cache: from.cache.clone(), selectors }))
}

/// Reads `podNodeSelectorPluginConfig`.
fn read(configuration: &Value) -> Result<BTreeMap<String, Labels>, String> {
    let all = members(configuration, &["podNodeSelectorPluginConfig"]);
    all.map(|(name, selector)| {
        let text = selector.as_str().ok_or_else(|| format!("{name}: expected text, got {selector}"))?;
        Ok((name.clone(), labels(text)?))
    })
    .collect()
}

/// `a=b,c=d`
fn labels(selector: &str) -> Result<Labels, String> {
    let terms = selector.split(',').map(str::trim).filter(|term| !term.is_empty());
    terms
        .map(|term| {
            let parts: Vec<&str> = term.split('=').map(str::trim).collect();
            match parts.as_slice() {
                ["", _] => Err(format!("invalid selector: {term}")),
                [key, value] => Ok(((*key).to_owned(), (*value).to_owned())),
                other => Err(format!("invalid selector: [{}]", other.join(" "))),
            }
        })
        .collect()
}

#[async_trait]
impl Plugin for PodNodeSelector {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.creates_pod()
    }

    async fn admit(&self, attributes: &Attributes<'_>, object: Option<&mut Value>) -> Result<(), Status> {
        let Some(pod) = object else { return Ok(()) };
        let wanted = self.wanted(attributes).await?;
        let own = selector_of(pod);
        if conflict(&wanted, &own) {
            return Err(attributes.forbid(CONFLICT));
        }
        if !wanted.is_empty() {
            let mut both = wanted;
            both.extend(own);
            pod["spec"]["nodeSelector"] = json!(both);
        }
        self.validate(attributes, Some(pod)).await
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let Some(pod) = object else { return Ok(()) };
        let own = selector_of(pod);
        if conflict(&self.wanted(attributes).await?, &own) {
            return Err(attributes.forbid(CONFLICT));
        }
        let allowed = self.selectors.get(attributes.namespace()).filter(|allowed| !allowed.is_empty());
        let fits =
            allowed.is_none_or(|allowed| own.iter().all(|(key, value)| allowed.get(key) == Some(value)));
        if fits { Ok(()) } else { Err(attributes.forbid(NOT_ALLOWED)) }
    }
}

impl PodNodeSelector {
    /// The selector of the pod's namespace.
    async fn wanted(&self, attributes: &Attributes<'_>) -> Result<Labels, Status> {
        let find = || self.cache.get("", "namespaces", "", attributes.namespace());
        let mut namespace = find();
        if namespace.is_none() {
            self.cache.catch_up().await.map_err(failure::read)?;
            namespace = find();
        }
        let text = namespace.as_ref().and_then(|one| one["metadata"]["annotations"][ANNOTATION].as_str());
        match text {
            Some(text) => labels(text).map_err(Status::internal),
            None => Ok(self.selectors.get(DEFAULT).cloned().unwrap_or_default()),
        }
    }
}

fn selector_of(pod: &Value) -> Labels {
    let members = members(pod, &["spec", "nodeSelector"]);
    members.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn conflict(one: &Labels, other: &Labels) -> bool {
    one.iter().any(|(key, value)| other.get(key).is_some_and(|other| other != value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_is_selectors_by_namespace() {
        let read = read(&json!({ "podNodeSelectorPluginConfig": { "a": "x=1, y=2", "b": "" } })).unwrap();
        assert_eq!(read["a"], labels("y=2,x=1").unwrap());
        assert!(read["b"].is_empty());
        assert!(labels("x").is_err() && labels("=1").is_err());
    }

    #[test]
    fn labels_conflict_where_both_say_something_else() {
        let of = |text: &str| labels(text).unwrap();
        assert!(!conflict(&of("a=1"), &of("b=2")));
        assert!(!conflict(&of("a=1"), &of("a=1,b=2")));
        assert!(conflict(&of("a=1"), &of("a=2")));
    }
}
