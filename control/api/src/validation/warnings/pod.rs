//! What is said of pods and templates of pods.

use std::collections::{HashMap, HashSet};

use super::files::overlaps;
use super::network::ip;
use super::storage::{claim_spec, sources};
use super::{Told, expressions, fractions, of_label};
use crate::validation::path::Path;
use crate::validation::place::Place;

const POD_ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];

const MATCHES_NOTHING: &str = "a null labelSelector results in matching no pod";

/// A pod, or the template of one. The order is upstream's.
pub(super) fn pod(pod: &Place<'_>, told: &mut Told) {
    let (spec, annotations) = (pod.get("spec"), pod.get("metadata").get("annotations"));
    placement(&spec, told);
    for (key, why) in POD_ANNOTATIONS {
        if annotations.get(key).is_set() {
            told.push(format!("{}[{key}]: {why}", annotations.path));
        }
    }
    for volume in spec.each("volumes") {
        sources(&volume, told);
        claim_spec(&volume.get("ephemeral").get("volumeClaimTemplate").get("spec"), told);
    }
    overlaps(&spec.get("volumes"), told);
    duplicates(&spec.get("hostAliases"), "ip", told);
    duplicates(&spec.get("imagePullSecrets"), "name", told);
    for secret in spec.each("imagePullSecrets") {
        if secret.get("name").text().is_empty() {
            told.push(format!("{}: invalid empty name \"\"", secret.child("name")));
        }
    }
    fractions(&spec.get("overhead"), &["memory", "ephemeral-storage"], told);
    in_containers(&spec, &annotations, told);
    let grace = spec.get("terminationGracePeriodSeconds");
    if grace.number().is_some_and(|grace| grace < 0) {
        told.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1",
            grace.path
        ));
    }
    for side in ["podAffinity", "podAntiAffinity"] {
        let side = spec.get("affinity").get(side);
        let required = side.each("requiredDuringSchedulingIgnoredDuringExecution");
        required.for_each(|term| selects_nothing(&term, told));
        let preferred = side.each("preferredDuringSchedulingIgnoredDuringExecution");
        preferred.for_each(|term| selects_nothing(&term.get("podAffinityTerm"), told));
    }
    spec.get("dnsConfig").each("nameservers").for_each(|server| ip(&server, told));
    spec.each("hostAliases").for_each(|alias| ip(&alias.get("ip"), told));
}

/// Labels by which nodes are chosen, and constraints that select no pod.
fn placement(spec: &Place<'_>, told: &mut Told) {
    for (key, place) in spec.get("nodeSelector").entries() {
        if let Some(why) = of_label(key) {
            told.push(format!("{}: {why}", place.path));
        }
    }
    let nodes = spec.get("affinity").get("nodeAffinity");
    let required = nodes.get("requiredDuringSchedulingIgnoredDuringExecution");
    required.each("nodeSelectorTerms").for_each(|term| expressions(&term, false, told));
    let preferred = nodes.each("preferredDuringSchedulingIgnoredDuringExecution");
    preferred.for_each(|term| expressions(&term.get("preference"), true, told));
    for constraint in spec.each("topologySpreadConstraints") {
        let key = constraint.get("topologyKey");
        if let Some(why) = of_label(key.text()) {
            told.push(format!("{}: {} is {why}", key.path, key.text()));
        }
        selects_nothing(&constraint, told);
    }
}

/// Annotations in place of fields, amounts, variables and ports of the containers.
fn in_containers(spec: &Place<'_>, annotations: &Place<'_>, told: &mut Told) {
    let unconfined = |place: &Place<'_>| !place.get("securityContext").get("seccompProfile").is_set();
    let seccomp = |key: &str, told: &mut Told| {
        if annotations.get(key).is_set() {
            told.push(format!(
                "{}[{key}]: non-functional in v1.27+; use the \"seccompProfile\" field instead",
                annotations.path
            ));
        }
    };
    if unconfined(spec) {
        seccomp("seccomp.security.alpha.kubernetes.io/pod", told);
    }
    let containers: Vec<Place<'_>> = containers(spec);
    for container in &containers {
        if annotations.is_full() && unconfined(container) {
            let name = container.get("name").text();
            seccomp(&format!("container.seccomp.security.alpha.kubernetes.io/{name}"), told);
        }
        let resources = container.get("resources");
        for resource in ["memory", "ephemeral-storage"] {
            fractions(&resources.get("limits"), &[resource], told);
            fractions(&resources.get("requests"), &[resource], told);
        }
        environment(container, told);
    }
    ports(&containers, told);
}

/// All containers, in upstream's order.
fn containers<'a>(spec: &Place<'a>) -> Vec<Place<'a>> {
    ["initContainers", "containers", "ephemeralContainers"].iter().flat_map(|list| spec.each(list)).collect()
}

fn selects_nothing(term: &Place<'_>, told: &mut Told) {
    let selector = term.get("labelSelector");
    if !selector.is_set() {
        told.push(format!("{}: {MATCHES_NOTHING}", selector.path));
    }
}

fn duplicates(list: &Place<'_>, member: &str, told: &mut Told) {
    let mut seen = HashSet::new();
    for item in list.items() {
        let member_place = item.get(member);
        if !seen.insert(member_place.text()) {
            told.push(format!("{}: duplicate {member} {:?}", member_place.path, member_place.text()));
        }
    }
}

fn environment(container: &Place<'_>, told: &mut Told) {
    let mut seen = HashSet::new();
    for variable in container.each("env") {
        let name = variable.get("name").text();
        if seen.insert(name) {
            continue;
        }
        let (value, reference) = (variable.get("value").text(), format!("$({name})"));
        if variable.get("valueFrom").is_set() || value == reference || !value.contains(&reference) {
            told.push(format!(
                "{}: hides previous definition of {name:?}, which may be dropped when using apply",
                variable.path
            ));
        }
    }
}

/// Ports that are there twice.
fn ports(containers: &[Place<'_>], told: &mut Told) {
    let mut seen: HashMap<(i64, &str), Vec<Place<'_>>> = HashMap::new();
    let all = || containers.iter().flat_map(|container| container.each("ports"));
    for port in all() {
        let number = port.get("containerPort").number().unwrap_or_default();
        let others = seen.entry((number, port.get("protocol").text())).or_default();
        for other in others.iter() {
            let host = |port: &Place<'_>| port.get("hostPort").number().unwrap_or_default();
            let address = |port: &Place<'_>| port.get("hostIP").text().to_owned();
            let (one, two) = ((host(&port), address(&port)), (host(other), address(other)));
            let kind = if one == two {
                "duplicate"
            } else if one.0 == 0 || two.0 == 0 {
                "overlapping"
            } else if one.0 == two.0 && one.1.is_empty() != two.1.is_empty() {
                "dangerously ambiguous"
            } else {
                continue;
            };
            told.push(format!("{}: {kind} port definition with {}", port.path, other.path));
        }
        others.push(port);
    }
    let mut named: HashMap<&str, Path<'_>> = HashMap::new();
    for port in all().filter(|port| port.get("name").is_full()) {
        let name = port.get("name").text();
        match named.get(name) {
            Some(other) => told.push(format!(
                "{}: duplicate port name {name:?} with {other}, services and probes that select ports by name will use \
                 {other}",
                port.path
            )),
            None => {
                named.insert(name, port.path);
            }
        }
    }
}
