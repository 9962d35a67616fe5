//! One rule of a role (`PolicyRule` of rbac.authorization.k8s.io): what it grants.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::request::RequestInfo;

/// A rule: these verbs on these resources, or on these paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub(super) verbs: Vec<String>,
    pub(super) groups: Vec<String>,
    pub(super) resources: Vec<String>,
    pub(super) names: Vec<String>,
    pub(super) paths: Vec<String>,
}

/// The rules in a role's `rules` field.
pub(super) fn compile(rules: &Value) -> Vec<Arc<Rule>> {
    rules.as_array().into_iter().flatten().map(|rule| Arc::new(Rule::from_value(rule))).collect()
}

impl Rule {
    fn from_value(value: &Value) -> Self {
        let list = |field: &str| {
            value[field]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|v| v.as_str().map(str::to_owned))
                .collect()
        };
        Self {
            verbs: list("verbs"),
            groups: list("apiGroups"),
            resources: list("resources"),
            names: list("resourceNames"),
            paths: list("nonResourceURLs"),
        }
    }

    /// As a role has it.
    pub(super) fn to_value(&self) -> Value {
        let fields = [
            ("verbs", &self.verbs),
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.paths),
        ];
        let there = fields.into_iter().filter(|(_, list)| !list.is_empty());
        Value::Object(there.map(|(name, list)| (name.to_owned(), json!(list))).collect::<Map<_, _>>())
    }

    pub(super) fn everything() -> Self {
        let all = || vec!["*".to_owned()];
        Self { verbs: all(), groups: all(), resources: all(), ..Self::default() }
    }

    pub(super) fn every_path() -> Self {
        let all = || vec!["*".to_owned()];
        Self { verbs: all(), paths: all(), ..Self::default() }
    }

    /// Whether the rule grants `request`.
    pub(super) fn grants(&self, request: &RequestInfo) -> bool {
        if !any(&self.verbs, &request.verb) {
            return false;
        }
        if !request.is_resource {
            return self.paths.iter().any(|pattern| path_matches(pattern, &request.path));
        }
        any(&self.groups, &request.group)
            && self.resources.iter().any(|r| resource_matches(r, &request.resource, &request.subresource))
            && (self.names.is_empty() || self.names.contains(&request.name))
    }

    /// For a rules review: the rule about resources and the one about paths, as far as there are any.
    pub(crate) fn describe(&self) -> (Option<Value>, Option<Value>) {
        let resources = (!self.resources.is_empty()).then(|| {
            let mut rule =
                json!({"verbs": self.verbs, "apiGroups": self.groups, "resources": self.resources});
            if !self.names.is_empty() {
                rule["resourceNames"] = json!(self.names);
            }
            rule
        });
        let paths =
            (!self.paths.is_empty()).then(|| json!({"verbs": self.verbs, "nonResourceURLs": self.paths}));
        (resources, paths)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.paths),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ];
        f.write_str("{")?;
        for (at, (name, list)) in fields.into_iter().filter(|(_, list)| !list.is_empty()).enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{name}:{}", quoted(list))?;
        }
        f.write_str("}")
    }
}

/// A list as Go writes it with `%q`: `["a" "b"]`.
pub(super) fn quoted(list: &[String]) -> String {
    let words: Vec<String> = list.iter().map(|word| format!("{word:?}")).collect();
    format!("[{}]", words.join(" "))
}

fn any(list: &[String], wanted: &str) -> bool {
    list.iter().any(|entry| entry == "*" || entry == wanted)
}

/// `*`, `pods`, `pods/log`, `*/scale`.
fn resource_matches(pattern: &str, resource: &str, subresource: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    match pattern.split_once('/') {
        None => subresource.is_empty() && pattern == resource,
        Some((of, sub)) => !subresource.is_empty() && sub == subresource && (of == "*" || of == resource),
    }
}

/// `*`, `/healthz`, `/apis/*`.
fn path_matches(pattern: &str, path: &str) -> bool {
    match pattern.ends_with('*') {
        true => path.starts_with(pattern.trim_end_matches('*')),
        false => pattern == path,
    }
}
