//! Which requests a webhook or policy is about: rules, selectors, and the other forms in which the same objects are served.

use serde_json::Value;

use crate::object::{at, items, text};
use crate::registry::{Registry, Resource};
use crate::select::LabelSelector;

/// A list of texts in which `*` stands for all.
#[derive(Clone, Debug)]
struct Words(Vec<String>);

impl Words {
    fn read(rule: &Value, member: &str) -> Self {
        Self(items(rule, &[member]).iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    fn has(&self, word: &str) -> bool {
        self.0.iter().any(|one| one == "*" || one == word)
    }

    fn has_resource(&self, plural: &str, subresource: &str) -> bool {
        self.0.iter().any(|one| {
            let (resource, part) = one.split_once('/').unwrap_or((one, ""));
            (resource == "*" || resource == plural) && (part == "*" || part == subresource)
        })
    }
}

/// Where objects live whose requests a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    All,
    Cluster,
    Namespaced,
}

#[derive(Clone, Debug)]
struct Rule {
    operations: Words,
    groups: Words,
    versions: Words,
    resources: Words,
    names: Vec<String>,
    scope: Scope,
}

impl Rule {
    fn read(rule: &Value) -> Self {
        Self {
            operations: Words::read(rule, "operations"),
            groups: Words::read(rule, "apiGroups"),
            versions: Words::read(rule, "apiVersions"),
            resources: Words::read(rule, "resources"),
            names: Words::read(rule, "resourceNames").0,
            scope: match text(rule, &["scope"]) {
                "Cluster" => Scope::Cluster,
                "Namespaced" => Scope::Namespaced,
                _ => Scope::All,
            },
        }
    }

    fn covers(&self, interest: &Interest<'_>, group: &str, version: &str, plural: &str) -> bool {
        // Namespaces have themselves as their namespace, and are cluster-scoped.
        let cluster = interest.namespace.is_empty() || interest.resource.is_namespaces();
        let scope = match self.scope {
            Scope::All => true,
            Scope::Cluster => cluster,
            Scope::Namespaced => !cluster,
        };
        scope
            && self.operations.has(interest.operation)
            && self.groups.has(group)
            && self.versions.has(version)
            && self.resources.has_resource(plural, interest.subresource)
            && (self.names.is_empty() || self.names.iter().any(|name| name == interest.name))
    }
}

/// What a request is about, as far as rules go.
#[derive(Clone, Copy, Debug)]
pub struct Interest<'a> {
    /// CREATE, UPDATE, DELETE or CONNECT.
    pub operation: &'a str,
    /// The resource of the request.
    pub resource: &'a Resource,
    /// Its subresource, or nothing.
    pub subresource: &'a str,
    /// The namespace, empty for cluster scope.
    pub namespace: &'a str,
    /// The name, empty while it is not known.
    pub name: &'a str,
    /// All kinds.
    pub kinds: &'a Registry,
}

/// The rules of a webhook, policy or binding.
#[derive(Clone, Debug)]
pub struct Rules {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    equivalent: bool,
    /// Whether no rules at all mean everything: for policies and bindings, not for webhooks.
    open: bool,
    /// Nothing selects nothing: a selector that cannot be read.
    namespaces: Option<LabelSelector>,
    objects: Option<LabelSelector>,
}

impl Rules {
    /// Those of a webhook.
    pub fn of_webhook(hook: &Value) -> Self {
        Self::read(hook, "rules", false)
    }

    /// Those of the `matchConstraints` of a policy, or the `matchResources` of a binding.
    pub fn of_constraints(constraints: &Value) -> Self {
        Self::read(constraints, "resourceRules", true)
    }

    fn read(one: &Value, member: &str, open: bool) -> Self {
        let rules = |member: &str| items(one, &[member]).iter().map(Rule::read).collect();
        let selector = |member: &str| {
            let empty = Value::Object(serde_json::Map::new());
            LabelSelector::from_object(at(one, &[member]).unwrap_or(&empty))
        };
        Self {
            rules: rules(member),
            excluded: rules("excludeResourceRules"),
            equivalent: text(one, &["matchPolicy"]) != "Exact",
            open,
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
        }
    }

    /// The resource in whose form the request is to be looked at, if the rules are about it: its own, or an equivalent
    /// one that a rule names.
    pub fn resource<'a>(&self, interest: &Interest<'a>) -> Option<&'a Resource> {
        let own = interest.resource;
        if covered(&self.excluded, interest, own) {
            return None;
        }
        if self.equivalent && !self.excluded.is_empty() {
            let mut others = interest.kinds.equivalents(own);
            if others.any(|other| covered(&self.excluded, interest, other)) {
                return None;
            }
        }
        if (self.open && self.rules.is_empty()) || covered(&self.rules, interest, own) {
            return Some(own);
        }
        if !self.equivalent {
            return None;
        }
        let of_rule = |rule: &Rule| {
            interest
                .kinds
                .equivalents(own)
                .find(|other| rule.covers(interest, &other.group, &other.version, &other.plural))
        };
        self.rules.iter().find_map(of_rule)
    }

    /// Whether objects are selected by what they are labelled with. Either the new or the old object will do.
    pub fn selects(&self, object: Option<&Value>, old: Option<&Value>) -> bool {
        let Some(selector) = &self.objects else { return false };
        let labelled = |one: Option<&Value>| {
            one.filter(|one| one["metadata"].is_object()).is_some_and(|one| selector.matches(one))
        };
        selector.is_empty() || labelled(object) || labelled(old)
    }

    /// Whether every namespace is selected, so that nobody need look at one.
    pub fn selects_all_namespaces(&self) -> bool {
        self.namespaces.as_ref().is_some_and(LabelSelector::is_empty)
    }

    /// Whether a namespace with these labels is selected.
    pub fn selects_namespace(&self, labels: Option<&Value>) -> bool {
        self.namespaces.as_ref().is_some_and(|selector| selector.matches_labels(labels))
    }
}

fn covered(rules: &[Rule], interest: &Interest<'_>, resource: &Resource) -> bool {
    rules.iter().any(|rule| rule.covers(interest, &resource.group, &resource.version, &resource.plural))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::registry;

    fn about(rule: Value, group: &str, plural: &str, subresource: &str, operation: &str) -> Option<String> {
        let version = registry().groups().find(|one| one.name == group).unwrap().versions[0].clone();
        let resource = registry().find(group, &version, plural).unwrap();
        let namespace = if resource.namespaced { "n" } else { "" };
        let interest = Interest { operation, resource, subresource, namespace, name: "a", kinds: registry() };
        let rules = Rules::of_webhook(&json!({ "rules": [rule], "matchPolicy": "Equivalent" }));
        rules.resource(&interest).map(Resource::group_version)
    }

    fn rule(groups: &str, versions: &str, resources: &str) -> Value {
        json!({ "operations": ["*"], "apiGroups": [groups], "apiVersions": [versions], "resources": [resources] })
    }

    #[test]
    fn rule_is_about_resources_and_their_parts_apart() {
        for (resources, subresource, expected) in [
            ("pods", "", true),
            ("pods", "status", false),
            ("*", "", true),
            ("*", "status", false),
            ("*/*", "", true),
            ("*/*", "status", true),
            ("pods/*", "status", true),
            ("pods/*", "", true),
            ("*/status", "status", true),
            ("*/status", "", false),
            ("nodes", "", false),
        ] {
            let found = about(rule("", "v1", resources), "", "pods", subresource, "CREATE");
            assert_eq!(found.is_some(), expected, "{resources} {subresource}");
        }
    }

    #[test]
    fn rule_is_about_operations_and_scopes() {
        let mut one = rule("*", "*", "*");
        one["operations"] = json!(["UPDATE"]);
        assert!(about(one.clone(), "", "pods", "", "UPDATE").is_some());
        assert!(about(one, "", "pods", "", "CREATE").is_none());
        for (scope, pods, nodes) in [("*", true, true), ("Cluster", false, true), ("Namespaced", true, false)]
        {
            let mut one = rule("*", "*", "*");
            one["scope"] = json!(scope);
            assert_eq!(about(one.clone(), "", "pods", "", "CREATE").is_some(), pods, "{scope}");
            assert_eq!(about(one, "", "nodes", "", "CREATE").is_some(), nodes, "{scope}");
        }
    }

    #[test]
    fn rule_about_another_form_of_the_same_objects_is_found() {
        let found =
            about(rule("autoscaling", "v1", "*"), "autoscaling", "horizontalpodautoscalers", "", "CREATE");
        assert_eq!(found.as_deref(), Some("autoscaling/v1"));
        let found = about(rule("events.k8s.io", "v1", "events"), "", "events", "", "CREATE");
        assert_eq!(found.as_deref(), Some("events.k8s.io/v1"));
    }

    #[test]
    fn objects_and_namespaces_are_selected_by_label() {
        let rules = Rules::of_webhook(&json!({
            "objectSelector": { "matchLabels": { "a": "b" } }, "namespaceSelector": { "matchLabels": { "c": "d" } },
        }));
        let with = json!({ "metadata": { "labels": { "a": "b" } } });
        let without = json!({ "metadata": {} });
        assert!(rules.selects(Some(&with), None) && rules.selects(Some(&without), Some(&with)));
        assert!(!rules.selects(Some(&without), None) && !rules.selects(Some(&json!({ "kind": "x" })), None));
        assert!(rules.selects_namespace(Some(&json!({ "c": "d" }))) && !rules.selects_namespace(None));
        let all = Rules::of_webhook(&json!({}));
        assert!(all.selects(None, None) && all.selects_all_namespaces());
    }
}
