//! Priority: from the name of a priority class to the number that the scheduler goes by.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use skep_api::status::Status;

use super::{Attributes, ConfigError, Ingredients, Plugin};
use crate::cache::Cache;
use crate::gate::ObjectReader;

const GROUP: &str = "scheduling.k8s.io";

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

    /// The class of pods that name none: of several the one with the smallest value.
    fn default_class(&self) -> Option<Arc<Value>> {
        let defaults = self.classes().into_iter().filter(|class| class["globalDefault"] == true);
        defaults.min_by_key(|class| class["value"].as_i64().unwrap_or_default())
    }
}

#[async_trait]
impl Plugin for Priority {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        !attributes.deletes() && (attributes.creates_pod() || attributes.is(GROUP, "priorityclasses"))
    }

    async fn admit(&self, attributes: &Attributes<'_>, pod: Option<&mut Value>) -> Result<(), Status> {
        let pod = pod.filter(|pod| attributes.creates_pod() && pod["spec"].is_object());
        let Some(pod) = pod else { return Ok(()) };
        let spec = &mut pod["spec"];
        let class = match spec["priorityClassName"].as_str().filter(|name| !name.is_empty()) {
            Some(name) => {
                let found = self.cache.get(GROUP, "priorityclasses", "", name);
                Some(found.ok_or_else(|| {
                    attributes.forbid(&format!("no PriorityClass with name {name} was found"))
                })?)
            }
            None => self.default_class(),
        };
        let value = class.as_ref().and_then(|class| class["value"].as_i64()).unwrap_or_default();
        if spec["priority"].as_i64().is_some_and(|given| given != value) {
            return Err(attributes.forbid(&format!(
                "the integer value of priority ({}) must not be provided in pod spec; priority admission controller \
                 computed {value} from the given PriorityClass name",
                spec["priority"]
            )));
        }
        if let Some(class) = &class {
            spec["priorityClassName"] = class["metadata"]["name"].clone();
        }
        let policy = class.as_ref().and_then(|class| class["preemptionPolicy"].as_str());
        let policy = policy.unwrap_or("PreemptLowerPriority");
        if spec["preemptionPolicy"].as_str().is_some_and(|given| given != policy) {
            return Err(attributes.forbid(&format!(
                "the string value of PreemptionPolicy ({}) must not be provided in pod spec; priority admission \
                 controller computed {policy} from the given PriorityClass name",
                spec["preemptionPolicy"].as_str().unwrap_or_default()
            )));
        }
        spec["priority"] = json!(value);
        spec["preemptionPolicy"] = json!(policy);
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
