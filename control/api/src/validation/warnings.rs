//! What is said to the author of an object that keeps the rules but is likely not what was meant (upstream's
//! `pkg/api/*/warnings.go` and the `WarningsOnCreate` and `WarningsOnUpdate` of its strategies).

mod network;

use std::collections::HashMap;

use serde_json::Value;

use network::{ip, policy, service};

use super::names;
use super::path::Path;
use super::place::Place;
use crate::registry::Resource;

/// Warnings, in the order in which they are told.
type Told = Vec<String>;

const NODE_LABELS: [(&str, &str); 8] = [
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];

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

const SOURCES: [(&str, &str); 9] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

const MATCHES_NOTHING: &str = "a null labelSelector results in matching no pod";

/// What every use of a resource is warned about: that it is on its way out.
pub fn deprecation(resource: &Resource) -> Option<&'static str> {
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Endpoints") => {
            Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        }
        ("", "ComponentStatus") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        _ => None,
    }
}

/// The warnings about an object that is written whole: a new one, or the successor of another.
pub fn warnings(resource: &Resource, new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut told = Told::new();
    if resource.custom.is_some() {
        return told;
    }
    let spec = Place::of(new, "spec");
    let is_new = old.is_none();
    let counted = old.is_none_or(|old| old["metadata"]["generation"] != new["metadata"]["generation"]);
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") if is_new => pod(&Place::new("", new), &mut told),
        ("", "ServiceAccount") => account(new, old, &mut told),
        ("", "PodTemplate") if counted => pod(&Place::of(new, "template"), &mut told),
        ("", "ReplicationController")
        | ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet")
            if counted =>
        {
            pod(&spec.get("template"), &mut told);
            for template in spec.each("volumeClaimTemplates") {
                claim_spec(&Place::new(template.path.clone(), template.get("spec").value), &mut told);
            }
            let history = spec.get("revisionHistoryLimit").number();
            if resource.kind == "StatefulSet" && history.is_some_and(|limit| limit < 0) {
                told.push(
                    "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is \
                     recommended"
                        .to_owned(),
                );
            }
        }
        ("batch", "Job") => {
            if is_new {
                host_name(new, &mut told);
            }
            if counted {
                job(&spec, &mut told);
            }
        }
        ("batch", "CronJob") => {
            if is_new {
                host_name(new, &mut told);
            }
            if counted {
                job(&spec.get("jobTemplate").get("spec"), &mut told);
            }
            if !is_new && spec.get("schedule").text().contains("TZ") {
                told.push(
                    "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
                     https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                        .to_owned(),
                );
            }
        }
        ("", "Service") => service(new, &mut told),
        ("", "PersistentVolume") => volume(new, &mut told),
        ("", "PersistentVolumeClaim") => claim(new, &mut told),
        ("networking.k8s.io", "Ingress") if is_new => {
            let class = "kubernetes.io/ingress.class";
            let annotated = new["metadata"]["annotations"].get(class).is_some();
            if annotated && !spec.get("ingressClassName").is_set() {
                told.push(format!(
                    "annotation {class:?} is deprecated, please use 'spec.ingressClassName' instead"
                ));
            }
        }
        ("networking.k8s.io", "NetworkPolicy") => policy(&spec, &mut told),
        ("storage.k8s.io", "CSIDriver") => csi_driver(&spec, old, &mut told),
        ("storage.k8s.io", "StorageClass") => {
            for term in Place::of(new, "allowedTopologies").items() {
                for expression in term.each("matchLabelExpressions") {
                    let key = expression.get("key");
                    if let Some(why) = of_label(key.text()) {
                        told.push(format!("{}: {why}", key.path));
                    }
                }
            }
        }
        ("storage.k8s.io", "CSIStorageCapacity") => {
            let topology = Place::of(new, "nodeTopology");
            expressions(&topology, false, &mut told);
            for (key, place) in topology.get("matchLabels").entries() {
                if let Some(why) = of_label(key) {
                    told.push(format!("{}.{key}: {why}", place.path.trim_end_matches(&format!("[{key}]"))));
                }
            }
        }
        ("node.k8s.io", "RuntimeClass") => {
            let labels = Place::of(new, "scheduling").get("nodeSelector");
            for why in labels.entries().filter_map(|(key, _)| of_label(key)) {
                told.push(format!("{}: {why}", labels.path));
            }
        }
        _ => {}
    }
    told
}

/// The annotation by which an account says which secrets its pods may use.
fn account(new: &Value, old: Option<&Value>, told: &mut Told) {
    const ENFORCED: &str = "kubernetes.io/enforce-mountable-secrets";
    let says = |object: &Value| !object["metadata"]["annotations"][ENFORCED].is_null();
    if says(new) && !old.is_some_and(says) {
        told.push(format!(
            "metadata.annotations[{ENFORCED}]: deprecated in v1.32+; prefer separate namespaces to isolate access to \
             mounted secrets"
        ));
    }
}

fn of_label(key: &str) -> Option<&'static str> {
    NODE_LABELS.iter().find(|(label, _)| *label == key).map(|(_, why)| *why)
}

/// Names of pods are made of the name, and are names of hosts.
/// Tokens among the attributes of a volume end up in logs.
fn csi_driver(spec: &Place<'_>, old: Option<&Value>, told: &mut Told) {
    let asked = spec.get("tokenRequests");
    let is_new = old.is_none_or(|old| old["spec"]["tokenRequests"] != *asked.value);
    if is_new && asked.is_full() && !spec.get("serviceAccountTokenInSecrets").is_set() {
        told.push(
            "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent \
             possible logging of tokens in volume attributes"
                .to_owned(),
        );
    }
}

fn host_name(object: &Value, told: &mut Told) {
    if let Err(why) = names::dns_label(object["metadata"]["name"].as_str().unwrap_or_default()) {
        told.push(format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS \
             label is recommended: [{why}]"
        ));
    }
}

fn job(spec: &Place<'_>, told: &mut Told) {
    let number = |name| spec.get(name).number().unwrap_or_default();
    if spec.get("completionMode").text() == "Indexed"
        && number("completions") > 100_000
        && number("parallelism") > 10_000
    {
        told.push(format!(
            "{}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail",
            spec.path
        ));
    }
    pod(&spec.get("template"), told);
}

/// A pod, or the template of one.
fn pod(pod: &Place<'_>, told: &mut Told) {
    let (spec, annotations) = (pod.get("spec"), pod.get("metadata").get("annotations"));
    for (key, place) in spec.get("nodeSelector").entries() {
        if let Some(why) = of_label(key) {
            told.push(format!("{}: {why}", place.path));
        }
    }
    let affinity = spec.get("affinity");
    let nodes = affinity.get("nodeAffinity");
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
    for (key, why) in POD_ANNOTATIONS {
        if annotations.get(key).is_set() {
            told.push(format!("{}[{key}]: {why}", annotations.path));
        }
    }
    for volume in spec.each("volumes") {
        for (source, why) in SOURCES {
            // The path is that of the field upstream, which is not in every case that of its JSON.
            let shown = if source == "storageos" { "storageOS" } else { source };
            if volume.get(source).is_set() {
                told.push(format!("{}: {why}", volume.child(shown)));
            }
        }
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
    let unconfined = |place: &Place<'_>| !place.get("securityContext").get("seccompProfile").is_set();
    let seccomp = |key: &str, told: &mut Told| {
        if annotations.get(key).is_set() {
            told.push(format!(
                "{}[{key}]: non-functional in v1.27+; use the \"seccompProfile\" field instead",
                annotations.path
            ));
        }
    };
    if unconfined(&spec) {
        seccomp("seccomp.security.alpha.kubernetes.io/pod", told);
    }
    let containers: Vec<Place<'_>> = containers(&spec);
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
    let grace = spec.get("terminationGracePeriodSeconds");
    if grace.number().is_some_and(|grace| grace < 0) {
        told.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1",
            grace.path
        ));
    }
    for side in ["podAffinity", "podAntiAffinity"] {
        let side = affinity.get(side);
        let required = side.each("requiredDuringSchedulingIgnoredDuringExecution");
        required.for_each(|term| selects_nothing(&term, told));
        let preferred = side.each("preferredDuringSchedulingIgnoredDuringExecution");
        preferred.for_each(|term| selects_nothing(&term.get("podAffinityTerm"), told));
    }
    spec.get("dnsConfig").each("nameservers").for_each(|server| ip(&server, told));
    spec.each("hostAliases").for_each(|alias| ip(&alias.get("ip"), told));
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

/// Labels of nodes in `matchExpressions`, and values no label can have where nobody refuses them.
fn expressions(term: &Place<'_>, values: bool, told: &mut Told) {
    for expression in term.each("matchExpressions") {
        let key = expression.get("key");
        if let Some(why) = of_label(key.text()) {
            told.push(format!("{}: {} is {why}", key.path, key.text()));
        }
        for value in expression.each("values").filter(|_| values) {
            if let Err(why) = names::label_value(value.text()) {
                told.push(format!("{}: {} is invalid, {why}", value.path, value.text()));
            }
        }
    }
}

fn duplicates(list: &Place<'_>, member: &str, told: &mut Told) {
    let mut seen = std::collections::HashSet::new();
    for item in list.items() {
        let member_place = item.get(member);
        if !seen.insert(member_place.text()) {
            told.push(format!("{}: duplicate {member} {:?}", member_place.path, member_place.text()));
        }
    }
}

/// Parts of bytes.
fn fractions(amounts: &Place<'_>, resources: &[&str], told: &mut Told) {
    for resource in resources {
        let place = amounts.get(resource);
        if place.quantity().is_some_and(|amount| amount.milli() % 1000 != 0) {
            told.push(format!(
                "{}[{resource}]: fractional byte value {:?} is invalid, must be an integer",
                amounts.path,
                place.text()
            ));
        }
    }
}

fn environment(container: &Place<'_>, told: &mut Told) {
    let mut seen = std::collections::HashSet::new();
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

/// A path of a file in a volume, and where it comes from.
#[derive(Clone, Copy)]
struct File<'a> {
    path: &'a str,
    source: Source<'a>,
}

/// A sort of source, empty where there is but one, and its name, if it has any.
#[derive(Clone, Copy)]
struct Source<'a>(&'static str, Option<&'a str>);

impl std::fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.1 {
            Some(name) => write!(f, "{} {name:?}", self.0),
            None => f.write_str(self.0),
        }
    }
}

impl File<'_> {
    fn shown(&self) -> String {
        if self.source.0.is_empty() {
            format!("{:?}", self.path)
        } else {
            format!("{:?} ({})", self.path, self.source)
        }
    }

    fn hides(&self, other: &Self) -> bool {
        let is_below = |one: &str, two: &str| {
            one.strip_prefix(two).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let (one, two) = (self.path, other.path);
        !one.is_empty() && !two.is_empty() && (is_below(one, two) || is_below(two, one))
    }
}

fn files<'a>(items: &Place<'a>, source: Source<'a>) -> impl Iterator<Item = File<'a>> + use<'a> {
    items.items().map(move |item| File { path: item.get("path").text().trim_end_matches('/'), source })
}

/// Volumes with files in each other's place.
fn overlaps(volumes: &Place<'_>, told: &mut Told) {
    for volume in volumes.items() {
        let name = volume.get("name").text();
        let mut tell = |what: Source<'_>, files: &mut dyn Iterator<Item = File<'_>>| {
            let files: Vec<File<'_>> = files.collect();
            for (index, file) in files.iter().enumerate() {
                for other in files.iter().take(index).filter(|other| other.hides(file)) {
                    told.push(format!(
                        "volume {name:?} ({what}): overlapping paths: {} with {}",
                        file.shown(),
                        other.shown()
                    ));
                }
            }
        };
        let (map, secret) = (volume.get("configMap"), volume.get("secret"));
        let nowhere = Source("", None);
        let named = Source("ConfigMap", Some(map.get("name").text()));
        tell(named, &mut files(&map.get("items"), nowhere));
        let named = Source("Secret", Some(secret.get("secretName").text()));
        tell(named, &mut files(&secret.get("items"), nowhere));
        let downward = volume.get("downwardAPI").get("items");
        tell(Source("DownwardAPI", None), &mut files(&downward, nowhere));
        let sources = volume.get("projected").each("sources");
        tell(Source("Projected", None), &mut sources.flat_map(|source| projected(&source)));
        for source in volume.get("projected").each("sources") {
            if !source.is_full() {
                told.push(format!("volume {name:?} (Projected) has no sources provided"));
            }
        }
    }
}

fn projected<'a>(source: &Place<'a>) -> Vec<File<'a>> {
    let named = |sort, member| {
        let place = source.get(member);
        files(&place.get("items"), Source(sort, Some(place.get("name").text())))
    };
    let one = |place: Place<'a>, source| {
        let path = place.text().trim_end_matches('/');
        (!path.is_empty()).then_some(File { path, source })
    };
    let mut all: Vec<File<'a>> = named("ConfigMap", "configMap").collect();
    all.extend(named("Secret", "secret"));
    all.extend(files(&source.get("downwardAPI").get("items"), Source("DownwardAPI", None)));
    let token = source.get("serviceAccountToken").get("path");
    all.extend(one(token, Source("ServiceAccountToken", None)));
    let bundle = source.get("clusterTrustBundle");
    let name = if bundle.get("name").is_set() { bundle.get("name") } else { bundle.get("signerName") };
    all.extend(one(bundle.get("path"), Source("ClusterTrustBundle", Some(name.text()))));
    let certificate = source.get("podCertificate");
    for (member, shown) in [
        ("certificateChainPath", "PodCertificate chain"),
        ("keyPath", "PodCertificate key"),
        ("credentialBundlePath", "PodCertificate credential bundle"),
    ] {
        all.extend(one(certificate.get(member), Source(shown, None)));
    }
    all
}

fn volume(object: &Value, told: &mut Told) {
    let spec = Place::of(object, "spec");
    let annotations = &object["metadata"]["annotations"];
    for (key, why) in [
        (
            "volume.beta.kubernetes.io/storage-class",
            "deprecated since v1.8; use \"storageClassName\" attribute instead",
        ),
        (
            "volume.beta.kubernetes.io/mount-options",
            "deprecated since v1.31; use \"mountOptions\" attribute instead",
        ),
    ] {
        if annotations.get(key).is_some() {
            told.push(format!("metadata.annotations[{key}]: {why}"));
        }
    }
    if spec.get("persistentVolumeReclaimPolicy").text() == "Recycle" {
        told.push(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended \
             approach is to use dynamic provisioning."
                .to_owned(),
        );
    }
    let required = spec.get("nodeAffinity").get("required");
    required.each("nodeSelectorTerms").for_each(|term| expressions(&term, false, told));
    for source in ["cephfs", "photonPersistentDisk", "scaleIO", "storageos", "glusterfs", "rbd"] {
        let why = SOURCES.iter().find(|(name, _)| *name == source);
        let shown = if source == "storageos" { "storageOS" } else { source };
        if let (true, Some((_, why))) = (spec.get(source).is_set(), why) {
            told.push(format!("{}: {why}", spec.child(shown)));
        }
    }
}

fn claim(object: &Value, told: &mut Told) {
    let key = "volume.beta.kubernetes.io/storage-class";
    if object["metadata"]["annotations"].get(key).is_some() {
        told.push(format!(
            "metadata.annotations[{key}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
        ));
    }
    claim_spec(&Place::of(object, "spec"), told);
}

fn claim_spec(spec: &Place<'_>, told: &mut Told) {
    let resources = spec.get("resources");
    fractions(&resources.get("requests"), &["storage"], told);
    fractions(&resources.get("limits"), &["storage"], told);
}
