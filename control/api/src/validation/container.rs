//! Rules of containers, of all three sorts.

use std::collections::BTreeSet;

use super::field::FieldError;
use super::place::{Errors, Place};
use super::pod::Around;
use super::{environment, names, pod_security, probe, resources, volume};

const RULES: usize = 20;
const EXIT_CODES: usize = 255;

/// The containers of a pod.
pub(super) fn all(spec: &Place<'_>, around: &Around<'_>, errors: &mut Errors) {
    let list = spec.get("containers");
    if list.count() == 0 {
        list.required("", errors);
    }
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut ports = BTreeSet::new();
    for one in list.items() {
        common(&one, around, errors);
        unique(&one, &mut seen, errors);
        probe::lifecycle(&one, around.grace, around.system, errors);
        probe::all(&one, around.grace, errors);
        restart(&one, errors);
    }
    list.items().for_each(|one| host_ports(&one, &mut ports, errors));
    for one in spec.each("initContainers") {
        common(&one, around, errors);
        restart(&one, errors);
        unique(&one, &mut seen, errors);
        // Upstream counts them from the first again.
        let alone = Place::new(format!("{}.initContainers[0]", spec.path), one.value);
        host_ports(&alone, &mut BTreeSet::new(), errors);
        init(&one, around, errors);
    }
    let others = seen.clone();
    for one in spec.each("ephemeralContainers") {
        common(&one, around, errors);
        image_is_trimmed(&one, errors);
        unique(&one, &mut seen, errors);
        ephemeral(&one, &others, errors);
    }
}

/// Pods in the network of their node have their ports there.
pub(super) fn host_ports_of_the_host(spec: &Place<'_>, errors: &mut Errors) {
    if !spec.get("hostNetwork").flag() {
        return;
    }
    for port in spec.each("containers").flat_map(|one| one.each("ports")) {
        let (outside, inside) = (port.get("hostPort"), port.get("containerPort"));
        let given = outside.number().unwrap_or(0) != 0;
        if given && outside.number() != inside.number() {
            outside.invalid("must match `containerPort` when `hostNetwork` is true", errors);
        }
    }
}

fn unique<'a>(one: &Place<'a>, seen: &mut BTreeSet<&'a str>, errors: &mut Errors) {
    let name = one.get("name");
    if name.is_full() && !seen.insert(name.text()) {
        name.duplicate(errors);
    }
}

fn init(one: &Place<'_>, around: &Around<'_>, errors: &mut Errors) {
    if one.get("restartPolicy").text() == "Always" {
        probe::lifecycle(one, around.grace, around.system, errors);
        probe::all(one, around.grace, errors);
        return;
    }
    for name in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        if one.get(name).is_set() {
            let why = "may not be set for init containers without restartPolicy=Always";
            one.get(name).forbidden(why, errors);
        }
    }
    for policy in one.each("resizePolicy").map(|policy| policy.get("restartPolicy")) {
        if policy.text() == "RestartContainer" {
            let why = "must not be set to 'RestartContainer' for non-sidecar initContainers";
            policy.invalid(why, errors);
        }
    }
}

/// The image of a container of a whole pod: in templates upstream lets it pass.
pub(super) fn image_is_trimmed(one: &Place<'_>, errors: &mut Errors) {
    let image = one.get("image");
    if image.text().trim() != image.text() {
        image.invalid("must not have leading or trailing whitespace", errors);
    }
}

/// What a container that is added to look at others cannot have, in the order in which it is declared.
fn ephemeral(one: &Place<'_>, others: &BTreeSet<&str>, errors: &mut Errors) {
    const WHY: &str = "cannot be set for an Ephemeral Container";
    let target = one.get("targetContainerName");
    if target.is_full() && !others.contains(target.text()) {
        errors.push(FieldError::not_found(&target.path, target.text()));
    }
    for name in [
        "ports",
        "resources",
        "resizePolicy",
        "restartPolicy",
        "restartPolicyRules",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
    ] {
        let place = one.get(name);
        // Resources are no pointer: there are none when nothing is in them.
        let is_there = if name == "resources" { place.is_full() } else { place.is_set() };
        if is_there {
            place.forbidden(WHY, errors);
        }
    }
    for mount in one.each("volumeMounts") {
        for name in ["subPath", "subPathExpr"] {
            if mount.get(name).is_full() {
                mount.get(name).forbidden(WHY, errors);
            }
        }
    }
}

fn common(one: &Place<'_>, around: &Around<'_>, errors: &mut Errors) {
    one.get("name").must(names::dns_label, errors);
    if one.get("image").text().is_empty() {
        one.get("image").required("", errors);
    }
    container_ports(one, errors);
    let policy = one.get("terminationMessagePolicy");
    if policy.is_full() {
        policy.one_of(&["File", "FallbackToLogsOnError"], errors);
    }
    environment::check(one, errors);
    volume::mounts(one, &around.volumes, errors);
    resources::requirements(&one.get("resources"), resources::Of::Container, &around.claims, errors);
    resize_policy(&one.get("resizePolicy"), around.restart, errors);
    pod_security::container(&one.get("securityContext"), around.host_users, errors);
}

fn container_ports(one: &Place<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for port in one.each("ports") {
        let name = port.get("name");
        if name.is_full() && name.judge_port_name(errors) && !seen.insert(name.text()) {
            name.duplicate(errors);
        }
        let inside = port.get("containerPort");
        match inside.number().unwrap_or(0) {
            0 => inside.required("", errors),
            number => {
                if let Err(why) = names::port_number(number) {
                    inside.invalid(why, errors);
                }
            }
        }
        let outside = port.get("hostPort");
        if let Some(number) = outside.number().filter(|number| *number != 0)
            && let Err(why) = names::port_number(number)
        {
            outside.invalid(why, errors);
        }
    }
}

fn host_ports(one: &Place<'_>, taken: &mut BTreeSet<String>, errors: &mut Errors) {
    for port in one.each("ports") {
        let Some(number) = port.get("hostPort").number().filter(|number| *number != 0) else { continue };
        let key = format!("{}/{}/{number}", port.get("protocol").text(), port.get("hostIP").text());
        if !taken.insert(key.clone()) {
            errors.push(FieldError::duplicate(port.child("hostPort"), key));
        }
    }
}

/// How a container restarts, by its own rules.
fn restart(one: &Place<'_>, errors: &mut Errors) {
    let (policy, rules) = (one.get("restartPolicy"), one.get("restartPolicyRules"));
    if policy.is_set() {
        policy.one_of(&["Always", "Never", "OnFailure"], errors);
    } else if rules.count() > 0 {
        policy.required("must specify restartPolicy when restart rules are used", errors);
    }
    rules.at_most(RULES, errors);
    for rule in rules.items() {
        rule.get("action").one_of(&["Restart", "RestartAllContainers"], errors);
        let codes = rule.get("exitCodes");
        if codes.is_set() {
            codes.get("operator").one_of(&["In", "NotIn"], errors);
            codes.get("values").at_most(EXIT_CODES, errors);
        } else {
            codes.required("must be specified", errors);
        }
    }
}

/// What a resize does to the container. Upstream leaves the index out of most paths.
fn resize_policy(list: &Place<'_>, restart: &str, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for one in list.items() {
        let resource = Place::new(list.path.clone(), one.get("resourceName").value);
        let policy = Place::new(list.path.clone(), one.get("restartPolicy").value);
        if !seen.insert(resource.text()) {
            errors.push(FieldError::duplicate(&one.path, resource.text()));
        }
        match resource.text() {
            "" => resource.required("", errors),
            _ => {
                resource.one_of(&["cpu", "memory"], errors);
            }
        }
        match policy.text() {
            "" => policy.required("", errors),
            _ => {
                policy.one_of(&["NotRequired", "RestartContainer"], errors);
            }
        }
        if restart == "Never" && policy.text() != "NotRequired" {
            policy.invalid("must be 'NotRequired' when pod `restartPolicy` is 'Never'", errors);
        }
    }
}
