//! What resource claims count for: the devices that they may get, by device class.

use std::collections::BTreeMap;

use serde_json::Value;

use super::count_name;
use crate::object::{at, items, number, text};
use crate::quantity::Quantity;
use crate::resources::Amounts;

/// Behind the name of a class.
const DEVICES: &str = ".deviceclass.resource.k8s.io/devices";
/// A claim never gets more devices: what one counts for that asks for all there are.
const MOST: i64 = 32;
pub(super) const GROUP: &str = "resource.k8s.io";
pub(super) const PLURAL: &str = "resourceclaims";

pub(super) fn is_measured(name: &str) -> bool {
    name.ends_with(DEVICES) || name == count_name(GROUP, PLURAL)
}

/// The devices that a request may get; of a mode that is not known, none.
fn devices(request: &Value) -> i64 {
    match text(request, &["allocationMode"]) {
        "ExactCount" => number(request, &["count"]).unwrap_or(0),
        "All" => MOST,
        _ => 0,
    }
}

pub(super) fn usage(claim: &Value) -> Amounts {
    let mut by_class: BTreeMap<&str, i64> = BTreeMap::new();
    for request in items(claim, &["spec", "devices", "requests"]) {
        let alternatives = items(request, &["firstAvailable"]);
        if let Some(exactly) = at(request, &["exactly"]).filter(|_| alternatives.is_empty()) {
            *by_class.entry(text(exactly, &["deviceClassName"])).or_default() += devices(exactly);
        }
        // One of them is taken: of each class, the worst that can come.
        let mut worst: BTreeMap<&str, i64> = BTreeMap::new();
        for one in alternatives {
            let most = worst.entry(text(one, &["deviceClassName"])).or_default();
            *most = (*most).max(devices(one));
        }
        for (class, most) in worst.into_iter().filter(|(_, most)| *most > 0) {
            *by_class.entry(class).or_default() += most;
        }
    }
    let claims = (count_name(GROUP, PLURAL), Quantity::of(1));
    let devices =
        by_class.into_iter().map(|(class, count)| (format!("{class}{DEVICES}"), Quantity::of(count)));
    devices.chain([claims]).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claim_counts_for_the_devices_that_it_may_get() {
        let exact = |class: &str, count: i64| json!({ "deviceClassName": class, "allocationMode": "ExactCount", "count": count });
        let all = json!({ "deviceClassName": "b", "allocationMode": "All" });
        let requests = json!([
            { "name": "x", "exactly": exact("a", 2) },
            { "name": "y", "exactly": all },
            { "name": "z", "firstAvailable": [exact("a", 1), exact("a", 4), exact("c", 1)] },
        ]);
        let claim = json!({ "spec": { "devices": { "requests": requests } } });
        let usage = usage(&claim);
        let of = |name: &str| usage.get(name).map(|amount| amount.to_string()).unwrap_or_default();
        assert_eq!(of("a.deviceclass.resource.k8s.io/devices"), "6");
        assert_eq!(of("b.deviceclass.resource.k8s.io/devices"), "32");
        assert_eq!(of("c.deviceclass.resource.k8s.io/devices"), "1");
        assert_eq!(of("count/resourceclaims.resource.k8s.io"), "1");
        assert!(is_measured("a.deviceclass.resource.k8s.io/devices") && !is_measured("devices"));
    }
}
