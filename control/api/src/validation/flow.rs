//! Rules of flowcontrol.apiserver.k8s.io.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::field::FieldError;
use super::names;
use super::place::{Errors, Place};
use crate::object::{remove, text};
use crate::protobuf;
use crate::registry::Resource;

const VERBS: [&str; 9] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
const PRECEDENCE: i64 = 10_000;
/// In the stored form there is no zero to be preserved by it.
const PRESERVE: &str = "flowcontrol.k8s.io/preserve-zero-concurrency-shares";
const QUEUES: i64 = 10_000_000;
/// Bits of the hash from which hands of queues are dealt.
const HASH_BITS: u32 = 60;

pub(super) fn check(resource: &Resource, object: &Value, errors: &mut Errors) {
    let spec = Place::of(object, "spec");
    let name = text(object, &["metadata", "name"]);
    match resource.plural.as_str() {
        "flowschemas" => {
            schema(name, &spec, errors);
            let mandatory = mandatory_schema(name);
            if mandatory.is_some_and(|mandatory| without_nulls(spec.value) != mandatory) {
                let why = format!("spec of '{name}' must equal the fixed value");
                spec.invalid_struct("flowcontrol/v1.FlowSchemaSpec", why, errors);
            }
        }
        "prioritylevelconfigurations" => {
            if object["metadata"]["annotations"].get(PRESERVE).is_some() {
                let why = format!("annotation '{PRESERVE}' is forbidden");
                errors.push(FieldError::forbidden("metadata.annotations", why));
            }
            level(name, &spec, errors);
            mandatory_level(name, &spec, errors);
        }
        _ => {}
    }
    status(object, errors);
}

/// What upstream's server makes these two of, and nobody may change.
fn mandatory_schema(name: &str) -> Option<Value> {
    let (precedence, groups) = match name {
        "exempt" => (1, ["system:masters"].as_slice()),
        "catch-all" => (PRECEDENCE, ["system:unauthenticated", "system:authenticated"].as_slice()),
        _ => return None,
    };
    let subject = |group: &&str| json!({ "kind": "Group", "group": { "name": group } });
    let all = json!(["*"]);
    let mut spec = json!({
        "priorityLevelConfiguration": { "name": name },
        "matchingPrecedence": precedence,
        "rules": [{
            "subjects": groups.iter().map(subject).collect::<Vec<_>>(),
            "resourceRules": [
                { "verbs": all, "apiGroups": all, "resources": all, "namespaces": all, "clusterScope": true },
            ],
            "nonResourceRules": [{ "verbs": all, "nonResourceURLs": all }],
        }],
    });
    if name == "catch-all" {
        spec["distinguisherMethod"] = json!({ "type": "ByUser" });
    }
    Some(spec)
}

fn mandatory_level(name: &str, spec: &Place<'_>, errors: &mut Errors) {
    let (mut found, except) = (without_nulls(spec.value), " except the 'spec.exempt' field");
    let (expected, except) = match name {
        "exempt" => {
            remove(&mut found, "exempt");
            (json!({ "type": "Exempt" }), except)
        }
        "catch-all" => {
            let limited = json!({
                "nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": { "type": "Reject" },
            });
            (json!({ "type": "Limited", "limited": limited }), "")
        }
        _ => return,
    };
    if found != expected {
        let why = format!("spec of '{name}'{except} must equal the fixed value");
        spec.invalid_struct("flowcontrol/v1.PriorityLevelConfigurationSpec", why, errors);
    }
}

/// The value without members that are null, at any depth.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let said = members.iter().filter(|(_, value)| !value.is_null());
            said.map(|(name, value)| (name.clone(), without_nulls(value))).collect()
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

pub(super) fn status(object: &Value, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for condition in Place::of(object, "status").each("conditions") {
        let kind = condition.get("type");
        if !seen.insert(kind.text()) {
            kind.duplicate(errors);
        }
        if kind.text().is_empty() {
            kind.required("", errors);
        }
    }
}

fn schema(name: &str, spec: &Place<'_>, errors: &mut Errors) {
    let precedence = spec.get("matchingPrecedence");
    let number = precedence.number().unwrap_or(0);
    let refuse = |why: String, errors: &mut Errors| {
        errors.push(FieldError::invalid(&precedence.path, number, why));
    };
    if number <= 0 {
        refuse("must be a positive value".to_owned(), errors);
    }
    if number > PRECEDENCE {
        refuse(format!("must not be greater than {PRECEDENCE}"), errors);
    }
    if number == 1 && name != "exempt" {
        refuse("only the schema named 'exempt' may have matchingPrecedence 1".to_owned(), errors);
    }
    let method = spec.get("distinguisherMethod");
    const METHODS: [&str; 2] = ["ByNamespace", "ByUser"];
    if method.is_set() && !METHODS.contains(&method.get("type").text()) {
        let error = FieldError::not_supported(method.child("type"), method.value.clone(), &METHODS);
        errors.push(error.shown_as(protobuf::shown("flowcontrol/v1.FlowDistinguisherMethod", method.value)));
    }
    let level = spec.get("priorityLevelConfiguration").get("name");
    if level.text().is_empty() {
        level.required("must reference a priority level", errors);
    } else {
        level.judge(names::dns_subdomain, errors);
    }
    for rule in spec.each("rules") {
        let subjects = rule.get("subjects");
        if subjects.count() == 0 {
            subjects.required("subjects must contain at least one value", errors);
        }
        subjects.items().for_each(|one| subject(&one, errors));
        if rule.get("resourceRules").count() == 0 && rule.get("nonResourceRules").count() == 0 {
            let why = "at least one of resourceRules and nonResourceRules has to be non-empty";
            rule.required(why, errors);
        }
        rule.each("resourceRules").for_each(|one| resource_rule(&one, errors));
        rule.each("nonResourceRules").for_each(|one| url_rule(&one, errors));
    }
}

fn subject(subject: &Place<'_>, errors: &mut Errors) {
    let kinds = [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];
    let kind = subject.get("kind");
    let Some((own, member)) = kinds.iter().find(|(known, _)| *known == kind.text()) else {
        kind.one_of(&["Group", "ServiceAccount", "User"], errors);
        return;
    };
    described(own, member, subject, errors);
    for (other, name) in kinds.iter().filter(|(other, _)| other != own) {
        if subject.get(name).is_set() {
            let why = format!("{name} is forbidden when subject kind is not '{other}'");
            subject.get(name).forbidden(why, errors);
        }
    }
}

/// The member that says who it is.
fn described<'a>(own: &str, member: &'a str, subject: &Place<'a>, errors: &mut Errors) {
    let one = subject.get(member);
    if !one.is_set() {
        return one.required(&format!("{member} is required when subject kind is '{own}'"), errors);
    }
    let (name, namespace) = (one.get("name"), one.get("namespace"));
    if name.text().is_empty() {
        name.required("", errors);
    }
    if own == "ServiceAccount" {
        if !matches!(name.text(), "" | "*") {
            name.judge(names::dns_subdomain, errors);
        }
        if namespace.text().is_empty() {
            namespace.required("must specify namespace for service account", errors);
        } else {
            namespace.judge(names::dns_label, errors);
        }
    }
}

/// A list that must not be empty, in which `*` stands alone. Whether its items are to be judged.
fn list(list: &Place<'_>, missing: &str, others: &str, errors: &mut Errors) -> bool {
    if list.count() == 0 {
        list.required(missing, errors);
        return false;
    }
    let everything = list.items().any(|one| one.text() == "*");
    if everything && list.count() > 1 {
        list.invalid(format!("if '*' is present, must not specify other {others}"), errors);
    }
    !everything
}

fn verbs(rule: &Place<'_>, errors: &mut Errors) {
    let verbs = rule.get("verbs");
    if list(&verbs, "verbs must contain at least one value", "verbs", errors)
        && !verbs.items().all(|one| VERBS.contains(&one.text()))
    {
        errors.push(FieldError::not_supported(&verbs.path, verbs.value.clone(), &VERBS));
    }
}

fn resource_rule(rule: &Place<'_>, errors: &mut Errors) {
    verbs(rule, errors);
    let group = "resource rules must supply at least one api group";
    list(&rule.get("apiGroups"), group, "api groups", errors);
    let resource = "resource rules must supply at least one resource";
    list(&rule.get("resources"), resource, "resources", errors);
    let namespaces = rule.get("namespaces");
    if rule.get("clusterScope").flag() && namespaces.count() == 0 {
        return;
    }
    let namespace = "resource rules that are not cluster scoped must supply at least one namespace";
    if list(&namespaces, namespace, "namespaces", errors) {
        for one in namespaces.items() {
            let intro = "each member of this list must be '*' or a DNS-1123 label; ";
            one.judge(|text| names::dns_label(text).map_err(|why| format!("{intro}{why}")), errors);
        }
    }
}

fn url_rule(rule: &Place<'_>, errors: &mut Errors) {
    verbs(rule, errors);
    let urls = rule.get("nonResourceURLs");
    let missing = "nonResourceURLs must contain at least one value";
    if !list(&urls, missing, "non-resource URLs", errors) {
        return;
    }
    for url in urls.items() {
        let text = url.text();
        let stars = text.matches('*').count();
        let why = match text {
            "/" => continue,
            "" => "must not be empty",
            _ if !text.starts_with('/') => "must start with slash",
            _ if text.contains(' ') => "must not contain white-space",
            _ if text.contains("//") => "must not contain double slash",
            _ if stars > 1 || (stars == 1 && !text.ends_with("/*")) => "wildcard can only do suffix matching",
            _ => continue,
        };
        url.invalid(why, errors);
    }
}

fn level(name: &str, spec: &Place<'_>, errors: &mut Errors) {
    let (kind, exempt, limited) = (spec.get("type"), spec.get("exempt"), spec.get("limited"));
    if (name == "exempt") != (kind.text() == "Exempt") {
        kind.invalid("must be 'Exempt' if and only if `name` is 'exempt'", errors);
    }
    match kind.text() {
        "Exempt" => {
            if limited.is_set() {
                limited.forbidden("must be nil if the type is not Limited", errors);
            }
            nominal(&exempt, errors);
            lendable(&exempt, errors);
        }
        "Limited" => {
            if exempt.is_set() {
                exempt.forbidden("must be nil if the type is Limited", errors);
            }
            if !limited.is_set() {
                return limited.required("must not be empty when type is Limited", errors);
            }
            nominal(&limited, errors);
            response(&limited.get("limitResponse"), errors);
            lendable(&limited, errors);
            let borrowing = limited.get("borrowingLimitPercent");
            if borrowing.number().is_some_and(|percent| percent < 0) {
                borrowing.invalid("if specified, must be a non-negative integer", errors);
            }
        }
        _ => {
            kind.one_of(&["Exempt", "Limited"], errors);
        }
    }
}

fn nominal(holder: &Place<'_>, errors: &mut Errors) {
    let nominal = holder.get("nominalConcurrencyShares");
    if nominal.number().is_some_and(|shares| shares < 0) {
        nominal.invalid("must be a non-negative integer", errors);
    }
}

fn lendable(holder: &Place<'_>, errors: &mut Errors) {
    let lendable = holder.get("lendablePercent");
    if lendable.number().is_some_and(|percent| !(0..=100).contains(&percent)) {
        lendable.invalid("must be between 0 and 100, inclusive", errors);
    }
}

fn response(response: &Place<'_>, errors: &mut Errors) {
    let (kind, queuing) = (response.get("type"), response.get("queuing"));
    match kind.text() {
        "Reject" if queuing.is_set() => {
            queuing.forbidden("must be nil if limited.limitResponse.type is not Limited", errors);
        }
        "Queue" if !queuing.is_set() => {
            queuing.required("must not be empty if limited.limitResponse.type is Limited", errors);
        }
        "Queue" => queues(&queuing, errors),
        _ => {
            kind.one_of(&["Queue", "Reject"], errors);
        }
    }
}

fn queues(queuing: &Place<'_>, errors: &mut Errors) {
    let number = |name: &str| queuing.get(name).number().unwrap_or(0);
    let refuse = |name: &str, why: String, errors: &mut Errors| {
        errors.push(FieldError::invalid(queuing.child(name), number(name), why));
    };
    let (count, hand) = (number("queues"), number("handSize"));
    if number("queueLengthLimit") <= 0 {
        refuse("queueLengthLimit", "must be positive".to_owned(), errors);
    }
    if count <= 0 {
        refuse("queues", "must be positive".to_owned(), errors);
    } else if count > QUEUES {
        refuse("queues", format!("must not be greater than {QUEUES}"), errors);
    }
    if hand <= 0 {
        refuse("handSize", "must be positive".to_owned(), errors);
    } else if hand > count {
        refuse("handSize", format!("should not be greater than queues ({count})"), errors);
    } else if entropy(count, hand) > HASH_BITS {
        let why = format!(
            "required entropy bits of deckSize {count} and handSize {hand} should not be greater than {HASH_BITS}"
        );
        refuse("handSize", why, errors);
    }
}

/// The bits that dealing a hand takes.
fn entropy(deck: i64, hand: i64) -> u32 {
    let bits: f64 = (0..hand.min(64)).map(|dealt| ((deck - dealt) as f64).log2()).sum();
    if hand > 64 { u32::MAX } else { bits.ceil() as u32 }
}
