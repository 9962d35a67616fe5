//! Values as upstream's messages show them: the JSON that Go makes of its structs.
//!
//! Most structs that are judged are upstream's internal ones, which have no names in JSON: each member is written, by its
//! name in Go, in the order in which it is declared, nil as null. That order is the one of the numbers of protobuf. Types of
//! `meta/v1` are no internal ones, and are written as the API has them, in their order.

use std::fmt::Write as _;

use serde_json::Value;

use super::Element;
use super::special::Special;
use super::table::{Field, Kind, table};

static NOTHING: Value = Value::Null;

/// Structs whose members are declared in another order than that of their numbers.
const DECLARED: [(&str, &[&str]); 1] = [(
    "core/v1.SecurityContext",
    &[
        "capabilities",
        "privileged",
        "seLinuxOptions",
        "windowsOptions",
        "runAsUser",
        "runAsGroup",
        "runAsNonRoot",
        "readOnlyRootFilesystem",
        "allowPrivilegeEscalation",
        "procMount",
        "seccompProfile",
        "appArmorProfile",
    ],
)];

/// The value as an internal struct of the type `message` (`batch/v1.SuccessPolicy`).
pub(crate) fn shown(message: &str, value: &Value) -> String {
    let mut text = String::new();
    write_message(message, value, &mut text);
    text
}

fn write_message(message: &str, value: &Value, out: &mut String) {
    let is_versioned = message.starts_with("meta/v1.");
    out.push('{');
    let mut first = true;
    let mut fields: Vec<&Field> = table().message(message).fields().map(|(_, field)| field).collect();
    if let Some((_, order)) = DECLARED.iter().find(|(name, _)| *name == message) {
        fields.sort_by_key(|field| order.iter().position(|name| *name == field.name));
    }
    for field in fields {
        let member = value.get(&field.name).unwrap_or(&NOTHING);
        let is_left_out = if member.is_null() { !is_always_there(field) } else { field.leaves_out(member) };
        if is_versioned && is_left_out {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        let name = if is_versioned { field.name.clone() } else { go_name(&field.name) };
        let _ = write!(out, "{}:", Value::from(name));
        write_field(field, member, out);
    }
    out.push('}');
}

/// Whether Go writes a member that nobody has set, which is no pointer and is not left out as a zero.
fn is_always_there(field: &Field) -> bool {
    !field.is_pointer() && !field.leaves_out(&Value::from(""))
}

fn write_field(field: &Field, value: &Value, out: &mut String) {
    match (&field.kind, value) {
        (Kind::Many(of), Value::Array(items)) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_element(of, item, out);
            }
            out.push(']');
        }
        (Kind::Map(of), Value::Object(members)) => {
            out.push('{');
            for (at, (key, item)) in members.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                let _ = write!(out, "{}:", Value::from(key.as_str()));
                write_element(of, item, out);
            }
            out.push('}');
        }
        (Kind::Many(_) | Kind::Map(_), _) => out.push_str("null"),
        (_, Value::Null) if field.is_pointer() => out.push_str("null"),
        (Kind::One(of), value) => write_element(of, value, out),
        (Kind::Inline(message), value) => write_message(message, value, out),
    }
}

fn write_element(of: &Element, value: &Value, out: &mut String) {
    let zero = match (of, value) {
        (Element::Message(message), value) => return write_message(message, value, out),
        (Element::Text, Value::Null) => "\"\"",
        (Element::Bool, Value::Null) => "false",
        (Element::Integer | Element::Double | Element::Special(Special::IntOrString), Value::Null) => "0",
        (Element::Special(Special::Quantity), Value::Null) => "\"0\"",
        (_, value) => {
            let _ = write!(out, "{value}");
            return;
        }
    };
    out.push_str(zero);
}

/// The name in Go of a member: of words that are short for others all letters are large.
fn go_name(name: &str) -> String {
    const SHORT: [&str; 8] = ["api", "uid", "url", "ip", "se", "cpu", "csi", "nfs"];
    for short in SHORT {
        match name.strip_prefix(short) {
            Some(rest) if rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_uppercase()) => {
                return short.to_ascii_uppercase() + rest;
            }
            _ => {}
        }
    }
    let mut letters = name.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn value_is_written_as_go_writes_its_internal_struct() {
        let policy = json!({ "rules": [{ "succeededCount": 1 }] });
        assert_eq!(
            shown("batch/v1.SuccessPolicy", &policy),
            r#"{"Rules":[{"SucceededIndexes":null,"SucceededCount":1}]}"#
        );
        let rule = json!({ "verbs": ["get"], "apiGroups": ["a"] });
        assert_eq!(
            shown("flowcontrol/v1.ResourcePolicyRule", &rule),
            r#"{"Verbs":["get"],"APIGroups":["a"],"Resources":null,"ClusterScope":false,"Namespaces":null}"#
        );
        let selector = json!({ "matchExpressions": [{ "operator": "In", "key": "a", "values": ["b"] }] });
        assert_eq!(
            shown("meta/v1.LabelSelector", &selector),
            r#"{"matchExpressions":[{"key":"a","operator":"In","values":["b"]}]}"#
        );
    }
}
