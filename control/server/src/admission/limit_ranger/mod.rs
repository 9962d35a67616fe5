//! LimitRanger: containers get the amounts that their namespace's `LimitRange` objects have for those who say nothing, and
//! pods and claims that ask for more, or less, than these allow are refused.

mod check;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use skep_api::object::{at, items, text};
use skep_api::resources::{self, Amounts};
use skep_api::status::Status;

use self::check::{claim_faults, pod_faults};
use super::{Attributes, ConfigError, Ingredients, Plugin};
use crate::cache::Cache;
use crate::gate::ObjectReader;

/// Where a pod says what was filled in.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";
pub(super) struct LimitRanger {
    cache: Arc<Cache>,
}

pub(super) fn make(from: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(LimitRanger { cache: from.cache.clone() }))
}

impl LimitRanger {
    fn ranges(&self, attributes: &Attributes<'_>) -> Vec<Arc<Value>> {
        let going = attributes.old.is_some_and(|old| at(old, &["metadata", "deletionTimestamp"]).is_some());
        if going { Vec::new() } else { self.cache.list("", "limitranges", attributes.namespace()) }
    }
}

#[async_trait]
impl Plugin for LimitRanger {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        let claim = !attributes.deletes() && attributes.is("", "persistentvolumeclaims");
        let resize = attributes.updates() && attributes.is_part("", "pods", "resize");
        attributes.creates_pod() || claim || resize
    }

    async fn admit(&self, attributes: &Attributes<'_>, object: Option<&mut Value>) -> Result<(), Status> {
        let Some(pod) = object.filter(|_| attributes.concerns("", "pods")) else { return Ok(()) };
        for range in self.ranges(attributes) {
            fill_in(&range, pod);
        }
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        for range in self.ranges(attributes) {
            let faults = if attributes.concerns("", "pods") {
                pod_faults(&range, object)
            } else {
                claim_faults(&range, object)
            };
            if !faults.is_empty() {
                return Err(attributes.forbid(&aggregate(faults)));
            }
        }
        Ok(())
    }
}

/// Several reasons as upstream writes them.
fn aggregate(mut reasons: Vec<String>) -> String {
    let mut seen = Vec::new();
    reasons.retain(|reason| {
        let fresh = !seen.contains(reason);
        seen.push(reason.clone());
        fresh
    });
    match reasons.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

fn limits<'a>(range: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    items(range, &["spec", "limits"]).iter().filter(move |limit| text(limit, &["type"]) == kind)
}

/// Gives containers what the range has for those that do not say it themselves, and notes that on the pod.
fn fill_in(range: &Value, pod: &mut Value) {
    let (mut requests, mut most) = (Amounts::new(), Amounts::new());
    for limit in limits(range, "Container") {
        requests.extend(resources::read(&limit["defaultRequest"]));
        most.extend(resources::read(&limit["default"]));
    }
    let mut notes = Vec::new();
    for (list, title) in [("containers", "container"), ("initContainers", "init container")] {
        // Indexing would leave a null where there is no such list.
        let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let title = format!("{title} {}", text(container, &["name"]));
            for (side, amounts, what) in [("requests", &requests, "request"), ("limits", &most, "limit")] {
                let set = add_missing(container, side, amounts);
                if !set.is_empty() {
                    notes.push(format!("{} {what} for {title}", set.join(", ")));
                }
            }
        }
    }
    if notes.is_empty() {
        return;
    }
    if !pod["metadata"]["annotations"].is_object() {
        pod["metadata"]["annotations"] = json!({});
    }
    pod["metadata"]["annotations"][ANNOTATION] =
        format!("LimitRanger plugin set: {}", notes.join("; ")).into();
}

/// Adds the amounts that are not there; returns their names, in order.
fn add_missing(container: &mut Value, side: &str, amounts: &Amounts) -> Vec<String> {
    let missing = amounts.iter().filter(|(name, _)| container["resources"][side].get(*name).is_none());
    let missing: Vec<(String, String)> =
        missing.map(|(name, amount)| (name.clone(), amount.to_string())).collect();
    for (name, amount) in &missing {
        for parent in [&["resources"][..], &["resources", side]] {
            let at = parent.iter().fold(&mut *container, |value, member| &mut value[*member]);
            if !at.is_object() {
                *at = json!({});
            }
        }
        container["resources"][side][name.as_str()] = amount.clone().into();
    }
    missing.into_iter().map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(limit: Value) -> Value {
        json!({ "spec": { "limits": [limit] } })
    }

    fn pod(requests: Value, limits: Value) -> Value {
        json!({ "metadata": {}, "spec": { "containers": [
            { "name": "c", "resources": { "requests": requests, "limits": limits } },
        ] } })
    }

    #[test]
    fn containers_get_what_they_do_not_say() {
        let range = range(json!({
            "type": "Container", "default": { "cpu": "500m", "memory": "1Gi" },
            "defaultRequest": { "cpu": "100m", "memory": "1Mi" },
        }));
        let mut one = pod(json!({ "cpu": "200m" }), Value::Null);
        one["spec"]["initContainers"] = json!([{ "name": "i" }]);
        fill_in(&range, &mut one);
        let expected = json!({
            "requests": { "cpu": "200m", "memory": "1Mi" }, "limits": { "cpu": "500m", "memory": "1Gi" },
        });
        assert_eq!(one["spec"]["containers"][0]["resources"], expected);
        assert_eq!(one["spec"]["initContainers"][0]["resources"]["requests"]["cpu"], "100m");
        assert_eq!(
            one["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: memory request for container c; cpu, memory limit for container c; \
             cpu, memory request for init container i; cpu, memory limit for init container i"
        );
        let before = one.clone();
        fill_in(&range, &mut one);
        assert_eq!(one, before);
    }

    #[track_caller]
    fn check(limit: Value, requests: Value, limits: Value, faults: &[&str]) {
        assert_eq!(pod_faults(&range(limit), &pod(requests, limits)), faults);
    }

    #[test]
    fn pod_out_of_range_is_refused_in_upstreams_words() {
        let minimum = json!({ "type": "Container", "min": { "cpu": "100m" } });
        check(minimum.clone(), json!({ "cpu": "100m" }), json!({}), &[]);
        check(
            minimum.clone(),
            json!({}),
            json!({}),
            &["minimum cpu usage per Container is 100m.  No request is specified"],
        );
        check(
            minimum,
            json!({ "cpu": "50m" }),
            json!({}),
            &["minimum cpu usage per Container is 100m, but request is 50m"],
        );
        let maximum = json!({ "type": "Pod", "max": { "memory": "1Gi" } });
        check(
            maximum.clone(),
            json!({}),
            json!({}),
            &["maximum memory usage per Pod is 1Gi.  No limit is specified"],
        );
        check(
            maximum,
            json!({ "memory": "1Gi" }),
            json!({ "memory": "2Gi" }),
            &["maximum memory usage per Pod is 1Gi, but limit is 2Gi"],
        );
        let ratio = json!({ "type": "Container", "maxLimitRequestRatio": { "cpu": "1500m" } });
        check(ratio.clone(), json!({ "cpu": "1" }), json!({ "cpu": "1500m" }), &[]);
        check(
            ratio.clone(),
            json!({}),
            json!({ "cpu": "1" }),
            &[
                "cpu max limit to request ratio per Container is 1500m, but no request is specified or request is 0",
            ],
        );
        check(
            ratio,
            json!({ "cpu": "1" }),
            json!({ "cpu": "2" }),
            &["cpu max limit to request ratio per Container is 1500m, but provided ratio is 2.000000"],
        );
    }

    #[test]
    fn claim_is_measured_by_its_request() {
        let range = range(json!({
            "type": "PersistentVolumeClaim", "min": { "storage": "1Gi" }, "max": { "storage": "2Gi" },
        }));
        let faults = |size: &str| {
            claim_faults(&range, &json!({ "spec": { "resources": { "requests": { "storage": size } } } }))
        };
        assert!(faults("1Gi").is_empty() && faults("2Gi").is_empty());
        assert_eq!(
            faults("1Mi"),
            ["minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"]
        );
        assert_eq!(
            faults("3Gi"),
            ["maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"]
        );
        assert_eq!(aggregate(vec!["a".into(), "b".into(), "a".into()]), "[a, b]");
    }
}
