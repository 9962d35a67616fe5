//! The status of a definition: its conditions, and what follows from its names.

use serde_json::{Value, json};

use super::{APPROVAL, Accepted, is_protected};
use crate::object::{at, items, set, text};

/// Whether its objects are served.
pub fn is_established(definition: &Value) -> bool {
    condition(definition, "Established") == Some("True")
}

/// The status of a condition.
pub fn condition<'a>(definition: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = items(definition, &["status", "conditions"]);
    Some(text(conditions.iter().find(|one| one["type"] == kind)?, &["status"]))
}

/// The definition with a condition: its reason, message and, when its status changed, its time are new.
pub fn with_condition(
    mut definition: Value,
    kind: &str,
    status: bool,
    reason: &str,
    message: &str,
    now: &str,
) -> Value {
    let status = if status { "True" } else { "False" };
    let mut conditions = items(&definition, &["status", "conditions"]).to_vec();
    let mut one = json!({
        "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now,
    });
    match conditions.iter_mut().find(|one| one["type"] == kind) {
        Some(old) => {
            if old["status"] == status {
                set(&mut one, "lastTransitionTime", old["lastTransitionTime"].clone());
            }
            *old = one;
        }
        None => conditions.push(one),
    }
    if !definition["status"].is_object() {
        set(&mut definition, "status", json!({}));
    }
    set(&mut definition["status"], "conditions", conditions);
    definition
}

/// The definition with the status that its accepted names make. A definition that was established stays so.
pub fn status(definition: &Value, accepted: &Accepted, now: &str) -> Value {
    let mut new = definition.clone();
    if !new["status"].is_object() {
        set(&mut new, "status", json!({}));
    }
    set(&mut new["status"], "acceptedNames", accepted.names.clone());
    let (fine, reason, message) = match &accepted.conflict {
        None => (true, "NoConflicts", "no conflicts found"),
        Some((reason, message)) => (false, *reason, message.as_str()),
    };
    new = with_condition(new, "NamesAccepted", fine, reason, message, now);
    if !is_established(definition) {
        let (reason, message) = if fine {
            ("InitialNamesAccepted", "the initial names have been accepted")
        } else {
            ("NotAccepted", "not all names are accepted")
        };
        new = with_condition(new, "Established", fine, reason, message, now);
    }
    approval(new, now)
}

fn approval(definition: Value, now: &str) -> Value {
    if !is_protected(text(&definition, &["spec", "group"])) {
        return definition;
    }
    let given = at(&definition, &["metadata", "annotations", APPROVAL]).and_then(Value::as_str);
    let given = given.unwrap_or_default().to_owned();
    let (approved, reason, message) = if given.starts_with("https://") {
        (true, "ApprovedAnnotation", format!("approved in {given}"))
    } else {
        (false, "UnapprovedAnnotation", format!("not approved: {given:?}"))
    };
    with_condition(definition, "KubernetesAPIApprovalPolicyConformant", approved, reason, &message, now)
}
