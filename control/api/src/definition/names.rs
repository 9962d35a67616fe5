//! Which of the names that a definition wants it gets: within a group, plural, singular and short names are one space,
//! kinds and kinds of lists another. Who had a name first keeps it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::object::{items, set, text};

/// What came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// `status.acceptedNames`.
    pub names: Value,
    /// Reason and message of the conflicts, if there are any.
    pub conflict: Option<(&'static str, String)>,
}

#[derive(Default)]
struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Taken {
    fn take(&mut self, names: &Value) {
        let mut add = |set: fn(&mut Self) -> &mut BTreeSet<String>, name: &str| {
            if !name.is_empty() {
                set(self).insert(name.to_owned());
            }
        };
        for name in ["plural", "singular"] {
            add(|taken| &mut taken.resources, text(names, &[name]));
        }
        for name in items(names, &["shortNames"]) {
            add(|taken| &mut taken.resources, name.as_str().unwrap_or_default());
        }
        for name in ["kind", "listKind"] {
            add(|taken| &mut taken.kinds, text(names, &[name]));
        }
    }
}

/// Decides on the names of a definition, given all definitions (itself among them or not).
pub fn accept<'a>(definition: &Value, all: impl IntoIterator<Item = &'a Value>) -> Accepted {
    let group = text(definition, &["spec", "group"]);
    let mut taken = Taken::default();
    let others = all.into_iter().filter(|other| {
        text(other, &["spec", "group"]) == group
            && crate::object::name(other) != crate::object::name(definition)
    });
    for other in others {
        taken.take(&other["status"]["acceptedNames"]);
    }
    let wanted = &definition["spec"]["names"];
    let had = &definition["status"]["acceptedNames"];
    let mut names = json!({ "plural": "", "kind": "" });
    let mut conflicts = Vec::new();
    let spaces = [
        ("plural", &taken.resources, "PluralConflict"),
        ("singular", &taken.resources, "SingularConflict"),
        ("kind", &taken.kinds, "KindConflict"),
        ("listKind", &taken.kinds, "ListKindConflict"),
    ];
    for (member, space, reason) in spaces {
        let name = text(wanted, &[member]);
        if !space.contains(name) {
            if !name.is_empty() {
                set(&mut names, member, name);
            }
            continue;
        }
        conflicts.push((reason, format!("{name:?} is already in use")));
        if !text(had, &[member]).is_empty() {
            set(&mut names, member, had[member].clone());
        }
    }
    let short = items(wanted, &["shortNames"]);
    let clashing: Vec<String> = short
        .iter()
        .filter_map(Value::as_str)
        .filter(|name| taken.resources.contains(*name))
        .map(|name| format!("{name:?} is already in use"))
        .collect();
    let kept = if clashing.is_empty() { short } else { items(had, &["shortNames"]) };
    if !kept.is_empty() {
        set(&mut names, "shortNames", kept.to_vec());
    }
    if !clashing.is_empty() {
        let text = if let [one] = &clashing[..] { one.clone() } else { format!("[{}]", clashing.join(", ")) };
        conflicts.push(("ShortNamesConflict", text));
    }
    if !items(wanted, &["categories"]).is_empty() {
        set(&mut names, "categories", wanted["categories"].clone());
    }
    Accepted { names, conflict: conflicts.into_iter().next_back() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::{is_established, status};

    fn definition(name: &str, names: Value) -> Value {
        json!({ "metadata": { "name": name }, "spec": { "group": "example.com", "names": names } })
    }

    #[test]
    fn names_of_others_are_not_accepted() {
        let names =
            json!({ "plural": "as", "singular": "a", "kind": "A", "listKind": "AList", "shortNames": ["x"] });
        let first = definition("as.example.com", names.clone());
        let accepted = accept(&first, []);
        assert_eq!((&accepted.names, &accepted.conflict), (&names, &None));
        let first = status(&first, &accepted, "2024-01-01T00:00:00Z");
        assert!(is_established(&first));
        for (names, reason, message) in [
            (json!({ "plural": "x", "kind": "B" }), "PluralConflict", "\"x\" is already in use"),
            (
                json!({ "plural": "b", "singular": "a", "kind": "B" }),
                "SingularConflict",
                "\"a\" is already in use",
            ),
            (json!({ "plural": "b", "kind": "AList" }), "KindConflict", "\"AList\" is already in use"),
            (
                json!({ "plural": "b", "kind": "B", "shortNames": ["as", "x"] }),
                "ShortNamesConflict",
                "[\"as\" is already in use, \"x\" is already in use]",
            ),
        ] {
            let second = definition("bs.example.com", names);
            let accepted = accept(&second, [&first, &second]);
            assert_eq!(accepted.conflict, Some((reason, message.to_owned())));
            assert!(!is_established(&status(&second, &accepted, "2024-01-01T00:00:00Z")));
        }
        // Another group is another space.
        let mut other = definition("as.example.org", json!({ "plural": "as", "kind": "A" }));
        other["spec"]["group"] = json!("example.org");
        assert_eq!(accept(&other, [&first]).conflict, None);
    }
}
