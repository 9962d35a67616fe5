//! Rules of a pod's specification, alone or in a template.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::field::FieldError;
use super::place::{Errors, Place};
use super::volume::Volumes;
use super::{address, container, names, pod_scheduling, pod_security, resources, volume};

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
        claims: spec.each("resourceClaims").map(|one| one.get("name").text()).collect(),
        grace: spec.get("terminationGracePeriodSeconds").number(),
        restart: spec.get("restartPolicy").text(),
        system: spec.get("os").get("name").text(),
        host_users: spec.get("hostUsers").value != false,
    };
    restart_policy(&spec.get("restartPolicy"), errors);
    resource_claims(&spec, errors);
    container::all(&spec, &around, errors);
    resources::of_pod(&spec, &around.claims, errors);
    pod_security::pod(&spec, errors);
    pod_scheduling::check(&spec, errors);
    dns(&spec, errors);
    identity(&spec, errors);
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
                claim.invalid(why, errors);
            }
            (false, false) => {
                claim
                    .invalid("must specify one of: `resourceClaimName`, `resourceClaimTemplateName`", errors);
            }
            _ => {}
        }
        for one in [direct, template].iter().filter(|one| one.is_set()) {
            one.judge(names::dns_subdomain, errors);
        }
    }
}

fn identity(spec: &Place<'_>, errors: &mut Errors) {
    type Rule = fn(&str) -> names::Verdict;
    let rules: [(&str, Rule); 6] = [
        ("serviceAccountName", names::dns_subdomain),
        ("nodeName", names::dns_subdomain),
        ("hostname", names::dns_label),
        ("subdomain", names::dns_label),
        ("priorityClassName", names::dns_subdomain),
        ("runtimeClassName", names::dns_subdomain),
    ];
    for (name, rule) in rules {
        spec.get(name).judge_full(rule, errors);
    }
    let deadline = spec.get("activeDeadlineSeconds");
    if deadline.number().is_some_and(|value| !(1..=i64::from(i32::MAX)).contains(&value)) {
        deadline.invalid("must be between 1 and 2147483647, inclusive", errors);
    }
    spec.get("preemptionPolicy").maybe_one_of(&["PreemptLowerPriority", "Never"], errors);
    for alias in spec.each("hostAliases") {
        address::ip(&alias.get("ip"), errors);
        for name in alias.each("hostnames") {
            name.judge(names::dns_subdomain, errors);
        }
    }
    let overhead = spec.get("overhead");
    let limits = Place::new(overhead.child("limits"), overhead.value);
    resources::amounts(&limits, resources::Of::Container, errors);
    let name = spec.get("hostnameOverride");
    if name.is_set() {
        for (other, called) in [("setHostnameAsFQDN", "setHostnameAsFQDN"), ("hostNetwork", "hostNetwork")] {
            if spec.get(other).flag() {
                name.forbidden(format!("may not be specified when {called} is true"), errors);
            }
        }
        if name.text().len() > 64 {
            name.too_long(64, errors);
        }
        name.judge(names::dns_subdomain, errors);
    }
}

fn dns(spec: &Place<'_>, errors: &mut Errors) {
    let policy = spec.get("dnsPolicy");
    if policy.is_full() {
        policy.one_of(&["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], errors);
    }
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

/// A Pod, with what only whole pods keep to.
pub(super) fn pod(object: &Value, errors: &mut Errors) {
    spec("spec", &object["spec"], errors);
    let spec = Place::of(object, "spec");
    if spec.get("nodeName").is_full() && spec.get("schedulingGates").count() > 0 {
        let why = "cannot be set until all schedulingGates have been cleared";
        spec.get("nodeName").forbidden(why, errors);
    }
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
    for one in pod_security::all_containers(&spec) {
        let image = one.get("image");
        if image.text().trim() != image.text() {
            image.invalid("must not have leading or trailing whitespace", errors);
        }
    }
    let cost = &object["metadata"]["annotations"]["controller.kubernetes.io/pod-deletion-cost"];
    if let Some(cost) = cost.as_str().filter(|cost| !cost.is_empty())
        && (cost.parse::<i32>().is_err()
            || cost.starts_with('+')
            || (cost.len() > 1 && cost.trim_start_matches('-').starts_with('0')))
    {
        let path = "metadata.annotations[controller.kubernetes.io/pod-deletion-cost]";
        errors.push(FieldError::invalid(path, cost, "must be a 32bit integer"));
    }
}
