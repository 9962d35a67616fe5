//! Pods: initial status, quality of service, and what the status subresource leaves alone.

use serde_json::{Value, json};

use crate::object::{carry, items, members, set};
use crate::quantity::Quantity;

pub(super) fn create(pod: &mut Value) {
    let class = qos_class(pod);
    let mut status = json!({ "phase": "Pending", "qosClass": class });
    if !items(pod, &["spec", "schedulingGates"]).is_empty() {
        status["conditions"] = json!([{
            "type": "PodScheduled",
            "status": "False",
            "lastTransitionTime": pod["metadata"]["creationTimestamp"],
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    set(pod, "status", status);
}

pub(super) fn status(new: &mut Value, old: &Value) {
    if let (Some(status), Some(old)) = (new.get_mut("status"), old.get("status"))
        && old.get("qosClass").is_some()
    {
        carry(status, old, "qosClass");
    }
}

/// What the containers of a pod ask for together, of one resource: what runs at the same time is added up, of what runs
/// one after the other the most counts. Nothing when none asks.
pub fn total_request(spec: &Value, name: &str) -> Option<Quantity> {
    let ask = |container: &Value| -> Option<Quantity> {
        Quantity::parse(container["resources"]["requests"].get(name)?.as_str()?).ok()
    };
    let add = |sum: Option<Quantity>, one: Option<Quantity>| match (sum, one) {
        (Some(sum), Some(one)) => Some(sum.plus(one)),
        (sum, one) => sum.or(one),
    };
    let (mut sidecars, mut most) = (None, None);
    for container in items(spec, &["initContainers"]) {
        let sidecar = container["restartPolicy"] == "Always";
        let now = add(sidecars, ask(container));
        if sidecar {
            sidecars = now;
        }
        most = most.max(now);
    }
    let together = items(spec, &["containers"]).iter().map(ask).fold(sidecars, add);
    together.max(most)
}

/// The quality of service that a pod's requests and limits put it into: `Guaranteed`, `Burstable` or `BestEffort`.
pub fn qos_class(pod: &Value) -> &'static str {
    let spec = &pod["spec"];
    let mut any = false;
    let mut guaranteed = true;
    for container in items(spec, &["containers"]).iter().chain(items(spec, &["initContainers"])) {
        for resource in ["cpu", "memory"] {
            let amount = |list: &str| -> Option<Quantity> {
                let text = members(container, &["resources", list])
                    .find(|(name, _)| *name == resource)?
                    .1
                    .as_str()?;
                Quantity::parse(text).ok().filter(|amount| !amount.is_zero())
            };
            let (request, limit) = (amount("requests"), amount("limits"));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request.is_none_or(|request| Some(request) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
