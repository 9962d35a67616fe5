//! What drivers say of the devices of a claim: nothing of others, and not too much.

use serde_json::{Value, json};

use super::place::{Errors, Place};
use super::small;

const CONDITIONS: usize = 8;
const DATA: usize = 10 * 1024;

pub(super) fn check(claim: &Value, errors: &mut Errors) {
    let status = Place::of(claim, "status");
    let allocated: Vec<Value> =
        status.get("allocation").get("devices").each("results").map(|one| identity(one.value)).collect();
    let mut seen = Vec::new();
    for device in status.each("devices") {
        let own = identity(device.value);
        if !allocated.contains(&own) {
            device.invalid("must be an allocated device in the claim", errors);
        }
        if seen.contains(&own) {
            device.duplicate(errors);
        }
        seen.push(own);
        let conditions = device.get("conditions");
        conditions.at_most(CONDITIONS, errors);
        small::conditions(&conditions, errors);
        let data = device.get("data");
        if data.is_set() && data.value.to_string().len() > DATA {
            data.too_long(DATA, errors);
        }
    }
}

/// What tells a device, or a share of it, from all others.
fn identity(device: &Value) -> Value {
    json!([device["driver"], device["pool"], device["device"], device["shareID"]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_of_others_told_twice_or_with_too_much_is_refused() {
        let device = json!({ "driver": "d.io", "pool": "p", "device": "x" });
        let allocation = json!({ "devices": { "results": [device] } });
        let mut talkative = device.clone();
        talkative["data"] = json!({ "a": "b".repeat(DATA) });
        let fields = |status: Value| {
            let mut errors = Errors::new();
            check(&json!({ "status": status }), &mut errors);
            errors.into_iter().map(|error| error.field).collect::<Vec<String>>()
        };
        assert_eq!(fields(json!({ "devices": [device] })), ["status.devices[0]"]);
        assert_eq!(
            fields(json!({ "allocation": allocation, "devices": [device, talkative] })),
            ["status.devices[1]", "status.devices[1].data"]
        );
        assert!(fields(json!({ "allocation": allocation, "devices": [device] })).is_empty());
    }
}
