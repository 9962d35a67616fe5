//! Lists of amounts by name of resource, and what a pod as a whole asks for and is limited to (`PodRequests` and
//! `PodLimits` of upstream's component helpers).
//!
//! The pod's own wish counts, not what a node has made of it so far.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::object::{at, items, text};
use crate::quantity::Quantity;

/// Amounts by name of resource.
pub type Amounts = BTreeMap<String, Quantity>;

/// Reads a list; what is no amount is left out.
pub fn read(list: &Value) -> Amounts {
    let members = list.as_object().into_iter().flatten();
    members.filter_map(|(name, amount)| Some((name.clone(), parse(amount)?))).collect()
}

/// An amount as objects carry it: text, or a number.
pub fn parse(amount: &Value) -> Option<Quantity> {
    match amount {
        Value::String(text) => Quantity::parse(text).ok(),
        Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        _ => None,
    }
}

/// The list as objects carry it.
pub fn write(amounts: &Amounts) -> Value {
    let members = amounts.iter().map(|(name, amount)| (name.clone(), amount.to_string().into()));
    Value::Object(members.collect::<Map<_, _>>())
}

/// Adds one list to another.
pub fn add(to: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        to.entry(name.clone()).and_modify(|sum| *sum = *sum + *amount).or_insert(*amount);
    }
}

/// Raises each amount to that of the other list.
pub fn raise(to: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        to.entry(name.clone()).and_modify(|most| *most = (*most).max(*amount)).or_insert(*amount);
    }
}

/// What of a container's or pod's `resources` is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `requests`.
    Requests,
    /// `limits`.
    Limits,
}

impl Side {
    /// This side of something that has `resources`.
    pub fn of(self, holder: &Value) -> Amounts {
        let name = if self == Self::Requests { "requests" } else { "limits" };
        at(holder, &["resources", name]).map(read).unwrap_or_default()
    }
}

/// Whether the pod itself, beside its containers, has amounts that count for all of them.
pub fn has_pod_level(pod: &Value) -> bool {
    let spec = &pod["spec"];
    [Side::Requests, Side::Limits].iter().any(|side| side.of(spec).keys().any(|name| counts_for_pod(name)))
}

/// Whether a pod as a whole can have an amount of it.
pub(crate) fn counts_for_pod(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// What the pod asks for, or is limited to, without the overhead of its runtime: its containers together, or its largest
/// init container (with those that keep running beside it) if that is more.
pub fn of_pod(pod: &Value, side: Side) -> Amounts {
    let spec = &pod["spec"];
    let mut sum = Amounts::new();
    for container in items(spec, &["containers"]) {
        add(&mut sum, &side.of(container));
    }
    let (mut beside, mut most) = (Amounts::new(), Amounts::new());
    for container in items(spec, &["initContainers"]) {
        let own = side.of(container);
        if text(container, &["restartPolicy"]) == "Always" {
            add(&mut sum, &own);
            add(&mut beside, &own);
            raise(&mut most, &beside);
        } else {
            let mut with = own;
            add(&mut with, &beside);
            raise(&mut most, &with);
        }
    }
    raise(&mut sum, &most);
    sum.extend(side.of(spec).into_iter().filter(|(name, _)| counts_for_pod(name)));
    sum
}

/// The same with the overhead of the pod's runtime. Only what is limited gets a higher limit by it.
pub fn of_pod_with_overhead(pod: &Value, side: Side) -> Amounts {
    let mut sum = of_pod(pod, side);
    let mut overhead = at(pod, &["spec", "overhead"]).map(read).unwrap_or_default();
    if side == Side::Limits {
        overhead.retain(|name, _| sum.get(name).is_some_and(|amount| !amount.is_zero()));
    }
    add(&mut sum, &overhead);
    sum
}

/// Whether the name of a resource is one of Kubernetes' own: without a domain, or in one of its domains.
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether a resource that a container asks for is one that Kubernetes only counts (`example.com/dongle`).
pub fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container(cpu: &str, always: bool) -> Value {
        let mut one = json!({ "resources": { "requests": { "cpu": cpu }, "limits": { "cpu": cpu } } });
        if always {
            one["restartPolicy"] = json!("Always");
        }
        one
    }

    #[track_caller]
    fn check(spec: Value, side: Side, cpu: &str) {
        let pod = json!({ "spec": spec });
        assert_eq!(of_pod_with_overhead(&pod, side)["cpu"].to_string(), cpu, "{pod}");
    }

    #[test]
    fn pod_asks_for_its_containers_or_the_largest_start() {
        let two = json!([container("100m", false), container("200m", false)]);
        check(json!({ "containers": two }), Side::Requests, "300m");
        let start = json!([container("1", false)]);
        check(json!({ "containers": two, "initContainers": start }), Side::Requests, "1");
        let beside = json!([container("100m", true), container("1", false)]);
        check(json!({ "containers": two, "initContainers": beside }), Side::Limits, "1100m");
        let late = json!([container("1", false), container("100m", true)]);
        check(json!({ "containers": two, "initContainers": late }), Side::Limits, "1");
    }

    #[test]
    fn overhead_and_the_pods_own_amounts_count() {
        let one = json!([container("100m", false)]);
        let overhead = json!({ "cpu": "50m", "memory": "1Mi" });
        check(json!({ "containers": one, "overhead": overhead }), Side::Requests, "150m");
        check(json!({ "containers": one, "overhead": overhead }), Side::Limits, "150m");
        let pod = json!({ "spec": { "containers": one, "overhead": overhead } });
        assert!(!of_pod_with_overhead(&pod, Side::Limits).contains_key("memory"));
        let own = json!({ "requests": { "cpu": "2", "example.com/x": "1" } });
        check(json!({ "containers": one, "resources": own }), Side::Requests, "2");
        assert!(has_pod_level(&json!({ "spec": { "resources": own } })));
        assert!(!has_pod_level(&pod));
    }

    #[test]
    fn lists_survive_the_way_through_text() {
        let list = json!({ "cpu": "1500m", "memory": "1Gi" });
        assert_eq!(write(&read(&list)), list);
        assert!(read(&json!({ "cpu": "x", "n": null })).is_empty());
    }
}
