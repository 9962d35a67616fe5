//! Reading pods, and the words of violations.

use std::collections::BTreeSet;

use serde_json::Value;
use skep_api::object::{at, items, text};

use super::checks::Pod;

impl<'a> Pod<'a> {
    /// All containers: those that run before, the others, and those that were put in later.
    pub(super) fn containers(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        let spec = self.spec;
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(move |list| items(spec, &[list]))
    }

    /// The names of containers that are like this.
    pub(super) fn named(&self, is: impl Fn(&Value) -> bool) -> Vec<&'a str> {
        self.containers()
            .filter(|container| is(container))
            .map(|container| text(container, &["name"]))
            .collect()
    }

    pub(super) fn is_windows(&self) -> bool {
        text(self.spec, &["os", "name"]) == "windows"
    }

    /// Whether the users in the pod are nobody on its node.
    pub(super) fn has_own_users(&self) -> bool {
        at(self.spec, &["hostUsers"]) == Some(&Value::Bool(false))
    }

    /// Those who set something in their security context that is bad: the pod, and containers.
    pub(super) fn setters(&self, is_bad: impl Fn(&Value) -> bool) -> Vec<String> {
        let own = at(self.spec, &["securityContext"]).is_some_and(&is_bad);
        let bad = self.named(|container| at(container, &["securityContext"]).is_some_and(&is_bad));
        let mut setters = if own { vec!["pod".to_owned()] } else { Vec::new() };
        setters.extend((!bad.is_empty()).then(|| containers(&bad)));
        setters
    }

    /// All security contexts, that of the pod first.
    pub(super) fn contexts(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        let own = at(self.spec, &["securityContext"]);
        own.into_iter().chain(self.containers().filter_map(|container| at(container, &["securityContext"])))
    }
}

/// `"a", "b"`
pub(super) fn quoted<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("\"{}\"", name.as_ref())).collect();
    names.join(", ")
}

pub(super) fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `container "a"`, `containers "a", "b"`
pub(super) fn containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

/// Texts without repetition, in order.
pub(super) fn sorted<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    texts.collect::<BTreeSet<_>>().into_iter().collect()
}
