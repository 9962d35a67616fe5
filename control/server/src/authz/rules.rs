//! One rule of a role, and what it covers (`PolicyRule` of rbac.authorization.k8s.io).

use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::request::RequestInfo;

/// A rule: these verbs on these resources, or on these paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    names: Vec<String>,
    paths: Vec<String>,
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

    /// Whether every single permission of this rule is granted by one of `held`.
    pub(super) fn is_covered_by(&self, held: &[Arc<Self>]) -> bool {
        let one_resource = |verb: &String, group: &String, resource: &String| {
            let names: Vec<Option<&String>> =
                if self.names.is_empty() { vec![None] } else { self.names.iter().map(Some).collect() };
            let (plain, sub) = resource.split_once('/').unwrap_or((resource, ""));
            names.iter().all(|name| {
                held.iter().any(|rule| {
                    any(&rule.verbs, verb)
                        && any(&rule.groups, group)
                        && rule.resources.iter().any(|r| resource_matches(r, plain, sub) || r == resource)
                        && (rule.names.is_empty() || name.is_some_and(|name| rule.names.contains(name)))
                })
            })
        };
        let one_path = |verb: &String, path: &String| {
            held.iter().any(|rule| any(&rule.verbs, verb) && rule.paths.iter().any(|p| path_matches(p, path)))
        };
        self.verbs.iter().all(|verb| {
            self.groups.iter().all(|group| self.resources.iter().all(|r| one_resource(verb, group, r)))
                && self.paths.iter().all(|path| one_path(verb, path))
        })
    }

    /// The rule for a rules review: (is it about resources, its JSON).
    pub(crate) fn describe(&self) -> (bool, Value) {
        if self.paths.is_empty() {
            let mut rule =
                json!({"verbs": self.verbs, "apiGroups": self.groups, "resources": self.resources});
            if !self.names.is_empty() {
                rule["resourceNames"] = json!(self.names);
            }
            (true, rule)
        } else {
            (false, json!({"verbs": self.verbs, "nonResourceURLs": self.paths}))
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{")?;
        let fields = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("ResourceNames", &self.names),
            ("NonResourceURLs", &self.paths),
        ];
        for (name, list) in fields {
            if !list.is_empty() {
                write!(f, "{name}:{list:?}, ")?;
            }
        }
        write!(f, "Verbs:{:?}}}", self.verbs)
    }
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
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => pattern == path,
    }
}
