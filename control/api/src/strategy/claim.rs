//! Claims of devices: what is said of a device goes when it is given back, as whoever gives it back need not know of it.

use serde_json::Value;

use crate::object::{at, items, remove};

const ALLOCATED: [&str; 4] = ["status", "allocation", "devices", "results"];

/// Drops the states of devices that the claim had and has no more.
pub(super) fn status(new: &mut Value, old: &Value) {
    let kept = items(new, &ALLOCATED).to_vec();
    let gone = |device: &Value| {
        let is = |result: &Value| identity(result) == identity(device);
        items(old, &ALLOCATED).iter().any(is) && !kept.iter().any(is)
    };
    let Some(devices) = new.pointer_mut("/status/devices").and_then(Value::as_array_mut) else { return };
    devices.retain(|device| !gone(device));
    if devices.is_empty() {
        remove(&mut new["status"], "devices");
    }
}

/// What tells a device, or a share of it, from all others.
fn identity(device: &Value) -> [Option<&Value>; 4] {
    ["driver", "pool", "device", "shareID"].map(|member| at(device, &[member]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn state_of_a_device_goes_with_it() {
        let device = |name: &str| json!({ "driver": "d", "pool": "p", "device": name });
        let claim = |allocated: &[&str], told: &[&str]| {
            let list = |names: &[&str]| names.iter().map(|name| device(name)).collect::<Vec<_>>();
            let allocation = json!({ "devices": { "results": list(allocated) } });
            json!({ "status": { "allocation": allocation, "devices": list(told) } })
        };
        let mut new = json!({ "status": { "devices": [device("a"), device("b")] } });
        status(&mut new, &claim(&["a", "b"], &["a", "b"]));
        assert_eq!(new, json!({ "status": {} }));
        // What was never allocated is for the validation to refuse.
        let mut new = claim(&["a"], &["a", "b", "c"]);
        status(&mut new, &claim(&["a", "b"], &[]));
        assert_eq!(new, claim(&["a"], &["a", "c"]));
    }
}
