//! Rules of a pod's specification, alone or in a template.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::place::{Errors, Place};
use super::volume::Volumes;
use super::{
    address, container, meta, names, pod_annotations, pod_scheduling, pod_security, resources, volume,
};

const NAMESERVERS: usize = 3;
const SEARCHES: usize = 32;
const SEARCH_LIST: usize = 2048;

/// What the containers of a pod need to know of it.
pub(super) struct Around<'a> {
    pub(super) volumes: Volumes<'a>,
    pub(super) claims: BTreeSet<&'a str>,
    pub(super) grace: Option<i64>,
    pub(super) restart: &'a str,
    pub(super) system: &'a str,
    pub(super) host_users: bool,
}

/// The specification at a path.
pub(super) fn spec(path: &str, spec: &Value, errors: &mut Errors) {
    let spec = Place::new(path, spec);
    let around = Around {
        volumes: volume::check(&spec.get("volumes"), errors),
        claims: spec
            .each("resourceClaims")
            .map(|one| one.get("name").text())
            .filter(|name| !name.is_empty())
            .collect(),
        grace: spec.get("terminationGracePeriodSeconds").number(),
        restart: spec.get("restartPolicy").text(),
        system: spec.get("os").get("name").text(),
        host_users: spec.get("hostUsers").value != false,
    };
    // In upstream's order.
    resource_claims(&spec, errors);
    container::all(&spec, &around, errors);
    resources::of_pod(&spec, &around.claims, errors);
    container::host_ports_of_the_host(&spec, errors);
    restart_policy(&spec.get("restartPolicy"), errors);
    let policy = spec.get("dnsPolicy");
    if policy.is_full() {
        policy.one_of(&["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], errors);
    }
    let nodes = spec.get("nodeSelector");
    meta::labels(&nodes.path, Some(nodes.value), errors);
    pod_security::context(&spec, errors);
    pod_scheduling::affinity(&spec.get("affinity"), errors);
    dns(&spec, errors);
    pod_scheduling::gates(&spec, errors);
    pod_scheduling::spread(&spec.get("topologySpreadConstraints"), errors);
    pod_security::host_process(&spec, errors);
    pod_security::host_users(&spec, errors);
    identity(&spec, errors);
    pod_security::operating_system(&spec, errors);
    files(&spec, errors);
}

/// Variables from files: those of a volume that goes with the pod.
fn files(spec: &Place<'_>, errors: &mut Errors) {
    for variable in pod_security::all_containers(spec).flat_map(|one| one.each("env")) {
        let file = variable.get("valueFrom").get("fileKeyRef");
        if !file.is_set() {
            continue;
        }
        let name = file.get("volumeName");
        let found = spec.each("volumes").filter(|volume| volume.get("name").text() == name.text()).last();
        match found {
            None => errors.push(super::FieldError::not_found(&name.path, name.text())),
            Some(volume) if !volume.get("emptyDir").is_set() => {
                name.invalid("referenced volume must be of type emptyDir", errors);
            }
            Some(_) => {}
        }
    }
}

/// The policy of any pod, in upstream's order. What workloads may have of it is said beside it.
fn restart_policy(policy: &Place<'_>, errors: &mut Errors) {
    if policy.is_full() {
        policy.one_of(&["Always", "OnFailure", "Never"], errors);
    }
}

fn resource_claims(spec: &Place<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for claim in spec.each("resourceClaims") {
        let name = claim.get("name");
        if name.is_full() && !seen.insert(name.text()) {
            name.duplicate(errors);
        } else if name.is_full() {
            name.judge(names::dns_label, errors);
        }
        let (direct, template) = (claim.get("resourceClaimName"), claim.get("resourceClaimTemplateName"));
        match (direct.is_set(), template.is_set()) {
            (true, true) => {
                let why =
                    "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                claim.invalid_struct("core/v1.PodResourceClaim", why, errors);
            }
            (false, false) => {
                let why = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                claim.invalid_struct("core/v1.PodResourceClaim", why, errors);
            }
            _ => {}
        }
        for one in [direct, template].iter().filter(|one| one.is_set()) {
            one.judge(names::dns_subdomain, errors);
        }
    }
}

fn identity(spec: &Place<'_>, errors: &mut Errors) {
    hostname_override(spec, errors);
    spec.get("serviceAccountName").judge_full(names::dns_subdomain, errors);
    spec.get("nodeName").judge_full(names::dns_subdomain, errors);
    let deadline = spec.get("activeDeadlineSeconds");
    if deadline.number().is_some_and(|value| !(1..=i64::from(i32::MAX)).contains(&value)) {
        deadline.invalid("must be between 1 and 2147483647, inclusive", errors);
    }
    spec.get("hostname").judge_full(names::dns_label, errors);
    spec.get("subdomain").judge_full(names::dns_label, errors);
    pod_scheduling::tolerations(&spec.get("tolerations"), errors);
    for alias in spec.each("hostAliases") {
        address::ip(&alias.get("ip"), errors);
        for name in alias.each("hostnames") {
            name.judge(names::dns_subdomain, errors);
        }
    }
    spec.get("priorityClassName").judge_full(names::dns_subdomain, errors);
    spec.get("runtimeClassName").judge_set(names::dns_subdomain, errors);
    spec.get("preemptionPolicy").maybe_one_of(&["PreemptLowerPriority", "Never"], errors);
    let overhead = spec.get("overhead");
    let limits = Place::new(overhead.child("limits"), overhead.value);
    resources::amounts(&limits, resources::Of::Container, errors);
}

fn hostname_override(spec: &Place<'_>, errors: &mut Errors) {
    let name = spec.get("hostnameOverride");
    if !name.is_set() {
        return;
    }
    for other in ["setHostnameAsFQDN", "hostNetwork"] {
        if spec.get(other).flag() {
            name.forbidden(format!("may not be specified when {other} is true"), errors);
        }
    }
    if name.text().len() > 64 {
        name.too_long(64, errors);
    }
    name.judge(names::dns_subdomain, errors);
}

fn dns(spec: &Place<'_>, errors: &mut Errors) {
    let config = spec.get("dnsConfig");
    let (servers, searches) = (config.get("nameservers"), config.get("searches"));
    if spec.get("dnsPolicy").text() == "None" {
        if !config.is_set() {
            return config.required("must provide `dnsConfig` when `dnsPolicy` is None", errors);
        }
        if servers.count() == 0 {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return servers.required(why, errors);
        }
    }
    if servers.count() > NAMESERVERS {
        servers.invalid(format!("must not have more than {NAMESERVERS} nameservers"), errors);
    }
    for server in servers.items() {
        address::ip(&server, errors);
    }
    if searches.count() > SEARCHES {
        searches.invalid(format!("must not have more than {SEARCHES} search paths"), errors);
    }
    let length: usize = searches.items().map(|one| one.text().len() + 1).sum();
    if length > SEARCH_LIST + 1 {
        let why =
            format!("must not have more than {SEARCH_LIST} characters (including spaces) in the search list");
        searches.invalid(why, errors);
    }
    for search in searches.items().filter(|search| search.text() != ".") {
        let value = json!(search.text().strip_suffix('.').unwrap_or(search.text()));
        Place::new(search.path.clone(), &value).judge(names::underscored_subdomain, errors);
    }
    for option in config.each("options") {
        if option.get("name").text().is_empty() {
            option.required("must not be empty", errors);
        }
    }
}

/// The claims that are made for a pod have names of its name and those of its volumes.
fn claims_of_volumes(object: &Value, errors: &mut Errors) {
    let pod = crate::object::name(object);
    let volumes = Place::of(object, "spec").get("volumes");
    for volume in volumes.items().filter(|volume| volume.get("ephemeral").is_set() && !pod.is_empty()) {
        let (name, claim) = (volume.get("name"), format!("{pod}-{}", volume.get("name").text()));
        if let Err(why) = names::dns_subdomain(&claim) {
            name.invalid(format!("PVC name {claim:?}: {why}"), errors);
        }
    }
}

/// A Pod, with what only whole pods keep to.
pub(super) fn pod(object: &Value, creating: bool, errors: &mut Errors) {
    pod_annotations::check(object, errors);
    claims_of_volumes(object, errors);
    spec("spec", &object["spec"], errors);
    let spec = Place::of(object, "spec");
    if !spec.get("serviceAccountName").is_full() {
        for volume in spec.each("volumes") {
            for source in volume.get("projected").each("sources") {
                let token = source.get("serviceAccountToken");
                if token.is_set() {
                    token.forbidden("must not be specified when serviceAccountName is not set", errors);
                }
            }
        }
    }
    for one in ["containers", "initContainers"].into_iter().flat_map(|list| spec.each(list)) {
        container::image_is_trimmed(&one, errors);
    }
    if !creating {
        return;
    }
    let added = spec.get("ephemeralContainers");
    if added.count() > 0 {
        added.forbidden("cannot be set on create", errors);
    }
    if spec.get("nodeName").is_full() && spec.get("schedulingGates").count() > 0 {
        let why = "cannot be set until all schedulingGates have been cleared";
        spec.get("nodeName").forbidden(why, errors);
    }
    pod_annotations::match_fields(object, errors);
}
