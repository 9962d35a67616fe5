//! Whether a server is there: what can be told from its Service and endpoints, and how that is written down.

use serde_json::{Value, json};

use crate::object::{items, number, set, text};

/// What the condition `Available` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Whether it is there.
    pub available: bool,
    /// The reason in one word.
    pub reason: &'static str,
    /// The reason for people.
    pub message: String,
}

impl Condition {
    fn missing(reason: &'static str, message: String) -> Self {
        Self { available: false, reason, message }
    }

    /// That of what this server serves itself.
    pub fn local() -> Self {
        let message = "Local APIServices are always available".to_owned();
        Self { available: true, reason: "Local", message }
    }

    /// That of a server that answers.
    pub fn passed() -> Self {
        Self { available: true, reason: "Passed", message: "all checks passed".to_owned() }
    }

    /// That of a server that does not answer as it should.
    pub fn failed(why: impl Into<String>) -> Self {
        Self::missing("FailedDiscoveryCheck", why.into())
    }
}

/// What is wrong with the way to a server, without asking it.
///
/// # Errors
/// The condition that says so.
pub fn judge<'s>(
    object: &Value,
    service: Option<&Value>,
    slices: impl Iterator<Item = &'s Value>,
) -> Result<(), Condition> {
    let reference = &object["spec"]["service"];
    let (namespace, name) = (text(reference, &["namespace"]), text(reference, &["name"]));
    let Some(service) = service else {
        let message = format!("service/{name} in {namespace:?} is not present");
        return Err(Condition::missing("ServiceNotFound", message));
    };
    if !matches!(text(service, &["spec", "type"]), "ClusterIP" | "") {
        return Ok(());
    }
    let port = number(reference, &["port"]).unwrap_or(443);
    let ports = items(service, &["spec", "ports"]);
    let Some(found) = ports.iter().find(|one| number(one, &["port"]) == Some(port)) else {
        let message = format!("service/{name} in {namespace:?} is not listening on port {port}");
        return Err(Condition::missing("ServicePortError", message));
    };
    let port_name = text(found, &["name"]);
    let own: Vec<&Value> = slices
        .filter(|slice| text(slice, &["metadata", "labels", "kubernetes.io/service-name"]) == name)
        .collect();
    if own.is_empty() {
        let message = format!("cannot find endpointslices for service/{name} in {namespace:?}");
        return Err(Condition::missing("EndpointsNotFound", message));
    }
    let ready = |slice: &&Value| {
        items(slice, &["ports"]).iter().any(|port| text(port, &["name"]) == port_name)
            && items(slice, &["endpoints"]).iter().any(|one| one["conditions"]["ready"] != false)
    };
    if !own.iter().any(ready) {
        let message = format!(
            "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
        );
        return Err(Condition::missing("MissingEndpoints", message));
    }
    Ok(())
}

/// The object with the condition; its time is new only when its status is.
pub fn with_condition(object: &Value, condition: &Condition, now: &str) -> Value {
    let mut new = object.clone();
    let status = if condition.available { "True" } else { "False" };
    let mut conditions = items(object, &["status", "conditions"]).to_vec();
    let mut one = json!({
        "type": "Available", "status": status, "reason": condition.reason, "message": condition.message,
        "lastTransitionTime": now,
    });
    match conditions.iter_mut().find(|one| one["type"] == "Available") {
        Some(old) => {
            if old["status"] == status {
                set(&mut one, "lastTransitionTime", old["lastTransitionTime"].clone());
            }
            *old = one;
        }
        None => conditions.push(one),
    }
    if !new["status"].is_object() {
        set(&mut new, "status", json!({}));
    }
    set(&mut new["status"], "conditions", conditions);
    new
}
