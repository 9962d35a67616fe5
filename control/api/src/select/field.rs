//! Field selectors: `metadata.name=x,status.phase!=Running`. Each kind supports its own few fields.

use serde_json::Value;

use crate::registry::Resource;
use crate::status::Status;

/// A field that can be selected by, how to reach it, and its value when it is not set.
struct Supported {
    label: &'static str,
    path: &'static [&'static str],
    /// Where it is looked for if it is not there.
    or: &'static [&'static str],
    absent: &'static str,
}

const fn field(label: &'static str, path: &'static [&'static str]) -> Supported {
    with_default(label, path, "")
}

const fn with_default(label: &'static str, path: &'static [&'static str], absent: &'static str) -> Supported {
    Supported { label, path, or: &[], absent }
}

const POD: &[Supported] = &[
    field("spec.nodeName", &["spec", "nodeName"]),
    field("spec.restartPolicy", &["spec", "restartPolicy"]),
    field("spec.schedulerName", &["spec", "schedulerName"]),
    field("spec.serviceAccountName", &["spec", "serviceAccountName"]),
    with_default("spec.hostNetwork", &["spec", "hostNetwork"], "false"),
    field("status.phase", &["status", "phase"]),
    field("status.podIP", &["status", "podIP"]),
    field("status.podIPs", &["status", "podIP"]),
    field("status.nominatedNodeName", &["status", "nominatedNodeName"]),
];
const EVENT: &[Supported] = &[
    field("involvedObject.kind", &["involvedObject", "kind"]),
    field("involvedObject.namespace", &["involvedObject", "namespace"]),
    field("involvedObject.name", &["involvedObject", "name"]),
    field("involvedObject.uid", &["involvedObject", "uid"]),
    field("involvedObject.apiVersion", &["involvedObject", "apiVersion"]),
    field("involvedObject.resourceVersion", &["involvedObject", "resourceVersion"]),
    field("involvedObject.fieldPath", &["involvedObject", "fieldPath"]),
    field("reason", &["reason"]),
    field("reportingComponent", &["reportingComponent"]),
    Supported { label: "source", path: &["source", "component"], or: &["reportingComponent"], absent: "" },
    field("type", &["type"]),
];
const NEW_EVENT: &[Supported] = &[
    field("regarding.kind", &["regarding", "kind"]),
    field("regarding.namespace", &["regarding", "namespace"]),
    field("regarding.name", &["regarding", "name"]),
    field("regarding.uid", &["regarding", "uid"]),
    field("regarding.apiVersion", &["regarding", "apiVersion"]),
    field("regarding.resourceVersion", &["regarding", "resourceVersion"]),
    field("regarding.fieldPath", &["regarding", "fieldPath"]),
    field("reason", &["reason"]),
    field("reportingController", &["reportingController"]),
    field("type", &["type"]),
];

const NODE: &[Supported] = &[with_default("spec.unschedulable", &["spec", "unschedulable"], "false")];
const NAMESPACES: &[Supported] = &[field("status.phase", &["status", "phase"])];
const SECRET: &[Supported] = &[field("type", &["type"])];
const SERVICE: &[Supported] =
    &[field("spec.clusterIP", &["spec", "clusterIP"]), field("spec.type", &["spec", "type"])];
const REPLICAS: &[Supported] = &[with_default("status.replicas", &["status", "replicas"], "0")];
const JOB: &[Supported] = &[with_default("status.successful", &["status", "succeeded"], "0")];
const SIGNING_REQUEST: &[Supported] = &[field("spec.signerName", &["spec", "signerName"])];
const RESOURCE_SLICE: &[Supported] =
    &[field("spec.nodeName", &["spec", "nodeName"]), field("spec.driver", &["spec", "driver"])];

fn supported(resource: &Resource) -> &'static [Supported] {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => POD,
        ("", "events") => EVENT,
        ("events.k8s.io", "events") => NEW_EVENT,
        ("", "nodes") => NODE,
        ("", "namespaces") => NAMESPACES,
        ("", "secrets") => SECRET,
        ("", "services") => SERVICE,
        ("", "replicationcontrollers") => REPLICAS,
        ("batch", "jobs") => JOB,
        ("certificates.k8s.io", "certificatesigningrequests") => SIGNING_REQUEST,
        ("resource.k8s.io", "resourceslices") => RESOURCE_SLICE,
        _ => &[],
    }
}

/// The fields that objects of a built-in kind can be selected by, besides name and namespace.
pub fn selectable(resource: &Resource) -> impl Iterator<Item = &'static str> {
    supported(resource).iter().map(|one| one.label)
}

const NAME: Supported = field("metadata.name", &["metadata", "name"]);
const NAMESPACE: Supported = field("metadata.namespace", &["metadata", "namespace"]);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    /// The first of them where there is something counts.
    paths: Vec<Vec<String>>,
    absent: &'static str,
    equal: bool,
    value: String,
}

/// The paths of a field that the resource can be selected by, and its value when it is not set.
fn find(resource: &Resource, label: &str) -> Option<(Vec<Vec<String>>, &'static str)> {
    let owned = |path: &[&str]| path.iter().map(|name| (*name).to_owned()).collect();
    let known = |one: &Supported| {
        let paths = [one.path, one.or].into_iter().filter(|path| !path.is_empty());
        (paths.map(owned).collect(), one.absent)
    };
    match (label, &resource.custom) {
        ("metadata.name", _) => Some(known(&NAME)),
        ("metadata.namespace", _) if resource.namespaced => Some(known(&NAMESPACE)),
        // Kinds without fields of their own have both, wherever they are.
        ("metadata.namespace", None) if supported(resource).is_empty() => Some(known(&NAMESPACE)),
        (_, Some(custom)) => {
            let path = custom.selectable.iter().find(|path| path.join(".") == label);
            path.map(|path| (vec![path.clone()], ""))
        }
        _ => supported(resource).iter().find(|one| one.label == label).map(known),
    }
}

/// Conditions on fields that all must hold; none holds for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

impl FieldSelector {
    /// Reads the text of a request for that resource.
    ///
    /// # Errors
    /// 400 with upstream's words when the text is no selector or names a field that the resource has not.
    pub fn parse(resource: &Resource, text: &str) -> Result<Self, Status> {
        let mut terms = Vec::new();
        for part in split(text) {
            if part.is_empty() || matches!(part, "=" | "==") {
                continue;
            }
            let (label, equal, value) = term(part).ok_or_else(|| {
                Status::bad_request(format!("invalid selector: '{text}'; can't understand '{part}'"))
            })?;
            let value = unescape(value).map_err(Status::bad_request)?;
            let found = find(resource, label).ok_or_else(|| {
                let message = if supported(resource).is_empty() && resource.custom.is_none() {
                    format!(
                        "{label:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                    )
                } else {
                    format!("field label not supported: {label}")
                };
                Status::bad_request(message)
            })?;
            let (paths, absent) = found;
            terms.push(Term { paths, absent, equal, value });
        }
        Ok(Self { terms })
    }

    /// The fields that it looks at.
    pub fn paths(&self) -> impl Iterator<Item = &[String]> {
        self.terms.iter().flat_map(|term| &term.paths).map(Vec::as_slice)
    }

    /// Whether an object meets all conditions.
    pub fn matches(&self, object: &Value) -> bool {
        self.terms.iter().all(|term| {
            let at = |path: &Vec<String>| path.iter().try_fold(object, |value, name| value.get(name));
            let is_set = |value: &&Value| !value.is_null() && value.as_str() != Some("");
            let equal = match term.paths.iter().filter_map(at).find(is_set) {
                None => term.value == term.absent,
                Some(Value::String(text)) => *text == term.value,
                Some(other) => {
                    let text = other.to_string();
                    text == term.value
                }
            };
            equal == term.equal
        })
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The one name that it selects, if it does: such a list is a look-up.
    pub fn name(&self) -> Option<&str> {
        self.required(NAME.path)
    }

    /// The one value that the field at this path must have, if it must.
    pub fn required(&self, path: &[&str]) -> Option<&str> {
        let is_it =
            |term: &&Term| term.equal && matches!(term.paths.as_slice(), [only] if only.iter().eq(path));
        self.terms.iter().find(is_it).map(|term| term.value.as_str())
    }
}

/// Parts between commas that are not escaped.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn term(part: &str) -> Option<(&str, bool, &str)> {
    for (at, _) in part.char_indices() {
        let rest = &part[at..];
        for (symbol, equal) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = rest.strip_prefix(symbol) {
                return Some((&part[..at], equal, value));
            }
        }
    }
    None
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(next @ ('\\' | ',' | '=')) => out.push(next),
                next => {
                    return Err(format!(
                        "invalid field selector: invalid escape sequence: \\{}",
                        next.map(String::from).unwrap_or_default()
                    ));
                }
            },
            ',' | '=' => {
                return Err(format!(
                    "invalid field selector: unescaped character in value: {}",
                    u32::from(c)
                ));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::registry;
    use serde_json::json;

    fn pods() -> &'static Resource {
        registry().find("", "v1", "pods").unwrap()
    }

    #[test]
    fn source_of_an_event_is_who_reports_it_if_it_does_not_say() {
        let events = registry().find("", "v1", "events").unwrap();
        let selector = FieldSelector::parse(events, "source=a").unwrap();
        assert!(selector.matches(&json!({ "source": { "component": "a" }, "reportingComponent": "b" })));
        assert!(selector.matches(&json!({ "source": {}, "reportingComponent": "a" })));
        assert!(selector.matches(&json!({ "source": { "component": "" }, "reportingComponent": "a" })));
        assert!(!selector.matches(&json!({ "source": { "component": "b" }, "reportingComponent": "a" })));
        assert_eq!(selector.paths().count(), 2, "both are looked at");
    }

    #[test]
    fn field_selector_on_pods_matches_by_value_and_absence() {
        let pod =
            json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {}, "status": {"phase": "Running"}});
        for (text, expected) in [
            ("metadata.name=a", true),
            ("metadata.name!=a", false),
            ("status.phase==Running,spec.nodeName=", true),
            ("spec.hostNetwork=false", true),
            ("spec.nodeName=n1", false),
            ("", true),
        ] {
            assert_eq!(FieldSelector::parse(pods(), text).unwrap().matches(&pod), expected, "{text}");
        }
        assert_eq!(FieldSelector::parse(pods(), "metadata.name=a").unwrap().name(), Some("a"));
    }

    #[test]
    fn field_selector_with_unknown_field_is_a_bad_request() {
        let status = FieldSelector::parse(pods(), "spec.foo=a").unwrap_err();
        assert_eq!((status.code, status.message.as_str()), (400, "field label not supported: spec.foo"));
        let status = FieldSelector::parse(pods(), "spec.nodeName").unwrap_err();
        assert_eq!(status.message, "invalid selector: 'spec.nodeName'; can't understand 'spec.nodeName'");
    }

    proptest::proptest! {
        #[test]
        fn field_selector_from_hostile_text_never_panics(text in ".{0,40}") {
            let _ = FieldSelector::parse(pods(), &text);
        }
    }
}
