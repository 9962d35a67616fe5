//! Defaults of pods and of everything that has a pod template.

use serde_json::{Value, json};

use super::{child, default, each, volume};
use crate::object::{at, flag, members, set, text};
use crate::resources::{self, Side};

/// The specification of a pod itself: that of a template, and what is settled only when a pod is made.
pub(super) fn pod(pod: &mut Value) {
    spec(pod);
    default(pod, "enableServiceLinks", true);
    // Upstream reads less than nothing as the shortest, and leaves templates as they are.
    if pod["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0) {
        set(pod, "terminationGracePeriodSeconds", 1);
    }
    let host_network = flag(pod, &["hostNetwork"]);
    for list in ["containers", "initContainers"] {
        for container in each(pod, list) {
            requests_from_limits(container);
            if host_network {
                host_ports(container);
            }
        }
    }
    whole_pod_requests(pod);
}

/// Where the pod as a whole is limited, it asks for what its containers ask for, or else for the limit.
fn whole_pod_requests(spec: &mut Value) {
    let limits: Vec<(String, Value)> = members(spec, &["resources", "limits"])
        .filter(|(name, _)| resources::counts_for_pod(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if limits.is_empty() {
        return;
    }
    let mut asked =
        json!({ "spec": { "containers": spec["containers"], "initContainers": spec["initContainers"] } });
    let asked = resources::write(&resources::of_pod(&asked.take(), Side::Requests));
    let requests = child(child(spec, "resources"), "requests");
    for (name, value) in members(&asked, &[]) {
        if matches!(name.as_str(), "cpu" | "memory") && requests.get(name).is_none() {
            set(requests, name, value.clone());
        }
    }
    for (name, value) in limits {
        if requests.get(&name).is_none() {
            set(requests, &name, value);
        }
    }
}

/// The specification of a pod, in a template or not.
pub(super) fn spec(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    default(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "restartPolicy", "Always");
    default(spec, "schedulerName", "default-scheduler");
    default(spec, "terminationGracePeriodSeconds", 30);
    default(spec, "securityContext", json!({}));
    accounts(spec);
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        each(spec, list).for_each(container);
    }
    each(spec, "volumes").for_each(volume::apply);
}

/// The old and the new name of the service account are the same field.
fn accounts(spec: &mut Value) {
    let (new, old) =
        (text(spec, &["serviceAccountName"]).to_owned(), text(spec, &["serviceAccount"]).to_owned());
    match (new.is_empty(), old.is_empty()) {
        (true, false) => set(spec, "serviceAccountName", old),
        (false, _) => set(spec, "serviceAccount", new),
        (true, true) => {}
    }
}

/// On the host's network a container's port is the host's.
fn host_ports(container: &mut Value) {
    for port in each(container, "ports") {
        if at(port, &["hostPort"]).is_none_or(|number| number == 0)
            && let Some(number) = port.get("containerPort").cloned()
        {
            set(port, "hostPort", number);
        }
    }
}

fn container(container: &mut Value) {
    if !container.is_object() {
        return;
    }
    default(container, "terminationMessagePath", "/dev/termination-log");
    default(container, "terminationMessagePolicy", "File");
    let policy = pull_policy(text(container, &["image"]));
    default(container, "imagePullPolicy", policy);
    default(container, "resources", json!({}));
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(one) = container.get_mut(name) {
            probe(one);
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(get) =
            container.get_mut("lifecycle").and_then(|one| one.get_mut(hook)?.get_mut("httpGet"))
        {
            http_get(get);
        }
    }
    for variable in each(container, "env") {
        if let Some(reference) = variable.get_mut("valueFrom").and_then(|from| from.get_mut("fieldRef")) {
            default(reference, "apiVersion", "v1");
        }
        if let Some(reference) =
            variable.get_mut("valueFrom").and_then(|from| from.get_mut("resourceFieldRef"))
        {
            default(reference, "divisor", "0");
        }
        if let Some(reference) = variable.get_mut("valueFrom").and_then(|from| from.get_mut("fileKeyRef")) {
            default(reference, "optional", false);
        }
    }
}

/// Images named `latest`, or without a tag or digest, are pulled every time.
pub(super) fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').unwrap_or((image, ""));
    let tag = name.rsplit('/').next().and_then(|last| last.split_once(':')).map_or("latest", |(_, tag)| tag);
    if digest.is_empty() && tag == "latest" { "Always" } else { "IfNotPresent" }
}

/// A limit without a request is a request, too.
fn requests_from_limits(container: &mut Value) {
    let limits: Vec<(String, Value)> = members(container, &["resources", "limits"])
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if limits.is_empty() {
        return;
    }
    let requests = child(child(container, "resources"), "requests");
    for (name, value) in limits {
        if requests.get(&name).is_none() {
            set(requests, &name, value);
        }
    }
}

fn probe(probe: &mut Value) {
    if !probe.is_object() {
        return;
    }
    for (name, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        if at(probe, &[name]).is_none_or(|old| old == 0) {
            set(probe, name, value);
        }
    }
    if let Some(get) = probe.get_mut("httpGet") {
        http_get(get);
    }
    if let Some(grpc) = probe.get_mut("grpc") {
        // Upstream writes the empty service name; absent and empty are the same to a reader.
        if at(grpc, &["service"]).is_none() {
            set(grpc, "service", "");
        }
    }
}

fn http_get(get: &mut Value) {
    default(get, "path", "/");
    default(get, "scheme", "HTTP");
}
