//! Rules of the apps group, and of the controllers before it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::field::FieldError;
use super::place::{Errors, Place, at_most_all, number_or_percent, share};
use super::selector::{self, Workload};
use super::{claim, meta, names, pod};
use crate::object::{at, text};
use crate::registry::Resource;

pub(super) fn check(resource: &Resource, object: &Value, creating: bool, errors: &mut Errors) {
    let spec = Place::of(object, "spec");
    match resource.plural.as_str() {
        "controllerrevisions" => revision(object, errors),
        "deployments" => {
            workload(Workload::Deployment, "ReplicaSet", &spec, errors);
            deployment(&spec, errors);
        }
        // Upstream has the one sentence for both.
        "replicasets" => workload(Workload::Deployment, "ReplicaSet", &spec, errors),
        "daemonsets" => {
            workload(Workload::DaemonSet, "DaemonSet", &spec, errors);
            spec.not_negative_at(&["templateGeneration"], errors);
            daemon_strategy(&spec.get("updateStrategy"), errors);
        }
        "statefulsets" => stateful_set(&spec, creating, errors),
        _ => {}
    }
}

fn revision(object: &Value, errors: &mut Errors) {
    Place::of(object, "revision").not_negative(errors);
    let data = Place::of(object, "data");
    match data.value {
        Value::Null => data.required("data is mandatory", errors),
        Value::Object(_) => {}
        _ => data.required("data must be a valid JSON object", errors),
    }
}

/// What deployments, replica sets and daemon sets share.
fn workload(kind: Workload, owner: &str, spec: &Place<'_>, errors: &mut Errors) {
    spec.not_negative_at(&["replicas", "minReadySeconds", "revisionHistoryLimit"], errors);
    selector::of_workload(kind, spec.value, errors);
    template(spec.value, &["Always"], errors);
    no_deadline(owner, spec, errors);
}

/// Pods that are kept running have no deadline.
pub(super) fn no_deadline(owner: &str, spec: &Place<'_>, errors: &mut Errors) {
    let deadline = spec.get("template").get("spec").get("activeDeadlineSeconds");
    if deadline.is_set() {
        deadline.forbidden(format!("activeDeadlineSeconds in {owner} is not Supported"), errors);
    }
}

/// The template of a workload, whose pods restart as told here.
pub(super) fn template(spec: &Value, policies: &[&str], errors: &mut Errors) {
    template_at("spec.template", &spec["template"], policies, errors);
}

/// The template at a path.
pub(super) fn template_at(path: &str, template: &Value, policies: &[&str], errors: &mut Errors) {
    template_content(path, template, errors);
    let policy = text(template, &["spec", "restartPolicy"]);
    if !policy.is_empty() && !policies.contains(&policy) {
        errors.push(FieldError::not_supported(format!("{path}.spec.restartPolicy"), policy, policies));
    }
}

/// The template at a path, whatever its restart policy.
pub(super) fn template_content(path: &str, template: &Value, errors: &mut Errors) {
    meta::labels(&format!("{path}.labels"), at(template, &["metadata", "labels"]), errors);
    meta::annotations(&format!("{path}.annotations"), at(template, &["metadata", "annotations"]), errors);
    pod::spec(&format!("{path}.spec"), &template["spec"], errors);
    if !template["spec"]["ephemeralContainers"].as_array().is_none_or(Vec::is_empty) {
        let path = format!("{path}.spec.ephemeralContainers");
        errors.push(FieldError::forbidden(path, "ephemeral containers not allowed in pod template"));
    }
}

fn deployment(spec: &Place<'_>, errors: &mut Errors) {
    let strategy = spec.get("strategy");
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").text() {
        "Recreate" if rolling.is_set() => {
            rolling.forbidden("may not be specified when strategy `type` is 'Recreate'", errors);
        }
        "Recreate" => {}
        "RollingUpdate" if rolling.is_set() => {
            let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
            number_or_percent(&unavailable, errors);
            number_or_percent(&surge, errors);
            if share(&unavailable) == 0 && share(&surge) == 0 {
                unavailable.invalid("may not be 0 when `maxSurge` is 0", errors);
            }
            at_most_all(&unavailable, errors);
        }
        "RollingUpdate" => {}
        _ => {
            strategy_type(&strategy, &["maxUnavailable", "maxSurge"], &["Recreate", "RollingUpdate"], errors)
        }
    }
    let deadline = spec.get("progressDeadlineSeconds");
    deadline.not_negative(errors);
    let ready = spec.get("minReadySeconds").number().unwrap_or(0);
    if deadline.number().is_some_and(|deadline| deadline <= ready) {
        deadline.invalid("must be greater than minReadySeconds", errors);
    }
}

fn daemon_strategy(strategy: &Place<'_>, errors: &mut Errors) {
    match strategy.get("type").text() {
        "RollingUpdate" => {}
        "OnDelete" => return,
        _ => {
            let known = ["RollingUpdate", "OnDelete"];
            return strategy_type(strategy, &["maxUnavailable", "maxSurge"], &known, errors);
        }
    }
    let rolling = strategy.get("rollingUpdate");
    if !rolling.is_set() {
        return rolling.required("", errors);
    }
    let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
    for place in [&unavailable, &surge] {
        number_or_percent(place, errors);
        at_most_all(place, errors);
    }
    match (share(&unavailable) != 0, share(&surge) != 0) {
        (true, true) => surge.invalid("may not be set when maxUnavailable is non-zero", errors),
        (false, false) => unavailable.required("cannot be 0 when maxSurge is 0", errors),
        _ => {}
    }
}

/// A strategy of a type that is not known: upstream shows the whole of it.
fn strategy_type(strategy: &Place<'_>, members: &[&str], known: &[&str], errors: &mut Errors) {
    let error = FieldError::not_supported(&strategy.path, strategy.value.clone(), known);
    errors.push(error.shown_as(written_strategy(strategy, members)));
}

/// A strategy as upstream's own type has it.
fn written_strategy(strategy: &Place<'_>, members: &[&str]) -> String {
    let rolling = written_rolling(&strategy.get("rollingUpdate"), members);
    format!("{{\"Type\":{},\"RollingUpdate\":{rolling}}}", Value::from(strategy.get("type").text()))
}

fn written_rolling(rolling: &Place<'_>, members: &[&str]) -> String {
    let one = |name: &&str| {
        let (first, rest) = name.split_at(1);
        let value = rolling.value.get(*name).cloned().unwrap_or_default();
        // The one that is no pointer.
        let value = if *name == "partition" && value.is_null() { json!(0) } else { value };
        format!("\"{}{rest}\":{value}", first.to_uppercase())
    };
    let parts: Vec<String> = members.iter().map(one).collect();
    if rolling.is_set() { format!("{{{}}}", parts.join(",")) } else { "null".to_owned() }
}

/// The members of a stateful set's rolling update.
const STATEFUL: [&str; 2] = ["partition", "maxUnavailable"];

fn stateful_set(spec: &Place<'_>, creating: bool, errors: &mut Errors) {
    let management = spec.get("podManagementPolicy");
    match management.text() {
        "" => management.required("", errors),
        "OrderedReady" | "Parallel" => {}
        _ => management.invalid("must be 'OrderedReady' or 'Parallel'", errors),
    }
    stateful_strategy(&spec.get("updateStrategy"), errors);
    let retention = spec.get("persistentVolumeClaimRetentionPolicy");
    if retention.is_set() {
        for name in ["whenDeleted", "whenScaled"] {
            retention.get(name).one_of(&["Retain", "Delete"], errors);
        }
    }
    if creating {
        for one in spec.each("volumeClaimTemplates") {
            claim::spec(&one.get("spec"), errors);
        }
    }
    spec.not_negative_at(&["replicas", "minReadySeconds"], errors);
    spec.get("ordinals").not_negative_at(&["start"], errors);
    if creating {
        spec.get("serviceName").judge_full(names::dns_label, errors);
    }
    selector::of_workload(Workload::StatefulSet, spec.value, errors);
    // Pods get their host names from the set, and a volume for each claim, which may stand in for one of the template.
    let mut template = spec.value["template"].clone();
    let claims: BTreeSet<&str> =
        spec.each("volumeClaimTemplates").map(|one| text(one.value, &["metadata", "name"])).collect();
    if claims.contains("") {
        errors.push(FieldError::required("spec.template.spec.volumes[0].name", ""));
    }
    if let Some(pod) = template["spec"].as_object_mut() {
        pod.remove("hostname");
        pod.remove("subdomain");
        let mut volumes: Vec<Value> = claims
            .iter()
            .map(|name| json!({ "name": name, "persistentVolumeClaim": { "claimName": name } }))
            .collect();
        let own = pod.get("volumes").and_then(Value::as_array).into_iter().flatten();
        volumes.extend(own.filter(|one| !claims.contains(&text(one, &["name"]))).cloned());
        if !volumes.is_empty() {
            pod.insert("volumes".into(), Value::Array(volumes));
        }
    }
    template_at("spec.template", &template, &["Always"], errors);
    no_deadline("StatefulSet", spec, errors);
}

fn stateful_strategy(strategy: &Place<'_>, errors: &mut Errors) {
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").text() {
        "OnDelete" if rolling.is_set() => {
            let why = "only allowed for updateStrategy 'RollingUpdate'";
            let error = FieldError::invalid(&rolling.path, rolling.value.clone(), why);
            errors.push(error.shown_as(written_rolling(&rolling, &STATEFUL)));
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            rolling.not_negative_at(&["partition"], errors);
            let unavailable = rolling.get("maxUnavailable");
            if unavailable.is_set() {
                number_or_percent(&unavailable, errors);
                if share(&unavailable) == 0 {
                    unavailable.invalid("cannot be 0", errors);
                }
                at_most_all(&unavailable, errors);
            }
        }
        "" => strategy.required("", errors),
        _ => {
            let why = "must be 'RollingUpdate' or 'OnDelete'";
            let shown = written_strategy(strategy, &STATEFUL);
            errors.push(FieldError::invalid(&strategy.path, strategy.value.clone(), why).shown_as(shown));
        }
    }
}

/// A ReplicationController, which is older than the group.
pub(super) fn replication_controller(object: &Value, errors: &mut Errors) {
    let spec = Place::of(object, "spec");
    spec.not_negative_at(&["minReadySeconds", "replicas"], errors);
    let chosen = spec.get("selector");
    let template = spec.get("template");
    match crate::select::LabelSelector::from_map(chosen.value) {
        None => {
            chosen.required("", errors);
            if !template.is_set() {
                return template.required("", errors);
            }
        }
        Some(_) if !template.is_set() => return template.required("", errors),
        Some(selector) => {
            let labels = at(template.value, &["metadata", "labels"]);
            if !selector.matches_labels(labels) {
                let value = labels.cloned().unwrap_or(Value::Null);
                let why = "`selector` does not match template `labels`";
                errors.push(FieldError::invalid("spec.template.metadata.labels", value, why));
            }
        }
    }
    template_at("spec.template", template.value, &["Always"], errors);
    no_deadline("ReplicationController", &spec, errors);
}

/// The counters of a workload's status.
pub(super) fn status(resource: &Resource, new: &Value, old: &Value, errors: &mut Errors) {
    let (status, before) = (Place::of(new, "status"), Place::of(old, "status"));
    let count = |name: &str| status.get(name).number().unwrap_or(0);
    let within = |names: &[&str], whole: &str, errors: &mut Errors| {
        for name in names {
            if count(name) > count("replicas") {
                errors.push(FieldError::invalid(status.child(name), count(name), whole));
            }
        }
    };
    let whole = "cannot be greater than status.replicas";
    let ready = match resource.plural.as_str() {
        "statefulsets" => "cannot be greater than status.readyReplicas",
        _ => "cannot be greater than readyReplicas",
    };
    for (_, value) in status.entries() {
        let path = value.path.replace('[', ".").replace(']', "");
        Place::new(path, value.value).not_negative(errors);
    }
    match resource.plural.as_str() {
        "deployments" => within(&["updatedReplicas", "readyReplicas", "availableReplicas"], whole, errors),
        "replicasets" | "replicationcontrollers" => {
            within(&["fullyLabeledReplicas", "readyReplicas", "availableReplicas"], whole, errors);
        }
        "statefulsets" => within(
            &["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"],
            whole,
            errors,
        ),
        _ => return fewer_collisions(&status, &before, errors),
    }
    if count("availableReplicas") > count("readyReplicas") {
        let (path, value) = (status.child("availableReplicas"), count("availableReplicas"));
        errors.push(FieldError::invalid(path, value, ready));
    }
    fewer_collisions(&status, &before, errors);
}

fn fewer_collisions(status: &Place<'_>, before: &Place<'_>, errors: &mut Errors) {
    let (now, then) = (status.get("collisionCount"), before.get("collisionCount"));
    if then.number().is_some_and(|then| now.number().is_none_or(|now| now < then)) {
        let value = now.number().unwrap_or(0);
        errors.push(FieldError::invalid(now.path, value, "cannot be decremented"));
    }
}
