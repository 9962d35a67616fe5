//! Priority: from the name of a priority class to the number that the scheduler goes by.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use skep_api::status::Status;

use super::{Attributes, ConfigError, Ingredients, Plugin};
use crate::cache::Cache;
use crate::failure;
use crate::gate::ObjectReader;

const GROUP: &str = "scheduling.k8s.io";
const PREEMPTS: &str = "PreemptLowerPriority";

pub(super) struct Priority {
    cache: Arc<Cache>,
}

pub(super) fn make(from: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(Priority { cache: from.cache.clone() }))
}

impl Priority {
    fn classes(&self) -> Vec<Arc<Value>> {
        self.cache.list(GROUP, "priorityclasses", "")
    }

    /// From the name to the number, for a new pod.
    async fn resolve(&self, attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
        let spec = &mut pod["spec"];
        let class = match spec["priorityClassName"].as_str().filter(|name| !name.is_empty()) {
            Some(name) => {
                let missing = || attributes.forbid(&format!("no PriorityClass with name {name} was found"));
                Some(self.class(name).await?.ok_or_else(missing)?)
            }
            None => self.default_class(),
        };
        let (value, policy) = match &class {
            Some(class) => (class["value"].as_i64().unwrap_or_default(), class["preemptionPolicy"].as_str()),
            None => (0, Some(PREEMPTS)),
        };
        if let Some(given) = spec["priority"].as_i64().filter(|given| *given != value) {
            return Err(attributes.forbid(&format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission \
                 controller computed {value} from the given PriorityClass name"
            )));
        }
        if let (Some(given), Some(policy)) = (spec["preemptionPolicy"].as_str(), policy)
            && given != policy
        {
            return Err(attributes.forbid(&format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
                 controller computed {policy} from the given PriorityClass name"
            )));
        }
        if let Some(class) = &class {
            spec["priorityClassName"] = class["metadata"]["name"].clone();
        }
        spec["priority"] = json!(value);
        if let Some(policy) = policy {
            spec["preemptionPolicy"] = json!(policy);
        }
        Ok(())
    }

    /// The class of a name; one that is not in the cache may only be too new for it.
    async fn class(&self, name: &str) -> Result<Option<Arc<Value>>, Status> {
        let find = || self.cache.get(GROUP, "priorityclasses", "", name);
        if let Some(found) = find() {
            return Ok(Some(found));
        }
        self.cache.catch_up().await.map_err(failure::read)?;
        Ok(find())
    }

    /// The class of pods that name none: of several the one with the smallest value.
    fn default_class(&self) -> Option<Arc<Value>> {
        let defaults = self.classes().into_iter().filter(|class| class["globalDefault"] == true);
        defaults.min_by_key(|class| class["value"].as_i64().unwrap_or_default())
    }
}

#[async_trait]
impl Plugin for Priority {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        (attributes.creates() || attributes.updates())
            && (attributes.is("", "pods") || attributes.is(GROUP, "priorityclasses"))
    }

    async fn admit(&self, attributes: &Attributes<'_>, object: Option<&mut Value>) -> Result<(), Status> {
        let Some(pod) = object.filter(|pod| attributes.is("", "pods") && pod["spec"].is_object()) else {
            return Ok(());
        };
        match attributes.old {
            Some(old) => keep(pod, old),
            None => self.resolve(attributes, pod).await?,
        }
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let Some(class) = object.filter(|_| attributes.is(GROUP, "priorityclasses")) else { return Ok(()) };
        let other =
            self.default_class().filter(|found| found["metadata"]["name"] != class["metadata"]["name"]);
        match other {
            Some(other) if class["globalDefault"] == true => Err(attributes.forbid(&format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                other["metadata"]["name"].as_str().unwrap_or_default()
            ))),
            _ => Ok(()),
        }
    }
}

/// What an update of a pod leaves out stays.
fn keep(pod: &mut Value, old: &Value) {
    for member in ["priority", "preemptionPolicy"] {
        if pod["spec"][member].is_null() && !old["spec"][member].is_null() {
            pod["spec"][member] = old["spec"][member].clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn update_that_leaves_the_priority_out_keeps_it() {
        let old = json!({ "spec": { "priority": 5, "preemptionPolicy": "Never" } });
        let mut pod = json!({ "spec": { "preemptionPolicy": "PreemptLowerPriority" } });
        keep(&mut pod, &old);
        assert_eq!(pod["spec"], json!({ "priority": 5, "preemptionPolicy": "PreemptLowerPriority" }));
    }
}
