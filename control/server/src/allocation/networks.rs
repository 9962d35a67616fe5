//! The networks that service addresses come from: what the ServiceCIDRs that are ready say.

use serde_json::Value;

use super::range::Cidr;

/// The networks of a ServiceCIDR, if addresses may be taken from them now.
pub(super) fn of(object: &Value) -> Vec<Cidr> {
    let is_ready = |one: &Value| one["type"] == "Ready" && one["status"] == "True";
    let ready = object["status"]["conditions"].as_array().into_iter().flatten().any(is_ready);
    if !ready || object["metadata"]["deletionTimestamp"].is_string() {
        return Vec::new();
    }
    listed(object)
}

/// The networks of a ServiceCIDR in whatever state.
pub(super) fn listed(object: &Value) -> Vec<Cidr> {
    let texts = object["spec"]["cidrs"].as_array().into_iter().flatten().filter_map(Value::as_str);
    texts.filter_map(|text| text.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn networks_count_while_their_object_is_ready_and_stays() {
        let mut object = json!({ "spec": { "cidrs": ["10.0.0.0/24", "fd00::/112"] } });
        assert_eq!(of(&object), []);
        object["status"]["conditions"] = json!([{ "type": "Ready", "status": "True" }]);
        assert_eq!(of(&object).len(), 2);
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!((of(&object), listed(&object).len()), (vec![], 2));
    }
}
