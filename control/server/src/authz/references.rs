//! What an object refers to, as far as a node has to read it: pods and their volumes, persistent volumes, attachments.
//!
//! Pure: one object in, names out. The lists of fields are those of upstream's `VisitPodSecretNames`,
//! `VisitPodConfigmapNames` and `VisitPVSecretNames`.

use std::collections::BTreeSet;

use serde_json::Value;

/// A kind of object that pods need, in the pod's namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Secret,
    ConfigMap,
    Claim,
    ServiceAccount,
    ResourceClaim,
}

/// What a pod that is bound to a node needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) node: String,
    pub(super) objects: BTreeSet<(Kind, String)>,
}

/// What a persistent volume that is claimed refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Volume {
    /// Namespace and name of the claim.
    pub(super) claim: (String, String),
    /// Namespaces and names of secrets that mounting it takes.
    pub(super) secrets: BTreeSet<(String, String)>,
}

/// Sources of pod volumes that have their credentials in a secret that is a reference.
const POD_SOURCES: [&str; 7] = ["cephfs", "cinder", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos"];
/// The same of persistent volumes.
const VOLUME_SOURCES: [&str; 7] = POD_SOURCES;
/// Secrets of a CSI volume that nodes read; those for publishing and expanding at the controller are not for them.
const CSI_SECRETS: [&str; 3] = ["nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"];
const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

fn items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}

/// What a pod needs; nothing while it is on no node. A mirror pod needs nothing: its node has written it itself.
pub(super) fn needs(pod: &Value) -> Option<Needs> {
    let spec = &pod["spec"];
    let node = text(&spec["nodeName"])?.to_owned();
    let mut found = Found(BTreeSet::new());
    if pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_null() {
        found.add(Kind::ServiceAccount, &spec["serviceAccountName"]);
        items(spec, "imagePullSecrets").for_each(|secret| found.add(Kind::Secret, &secret["name"]));
        CONTAINERS.iter().flat_map(|list| items(spec, list)).for_each(|container| found.container(container));
        items(spec, "volumes").for_each(|volume| found.volume(pod, volume));
        items(spec, "resourceClaims").for_each(|claim| found.resource_claim(pod, claim));
        let extended = &pod["status"]["extendedResourceClaimStatus"]["resourceClaimName"];
        found.add(Kind::ResourceClaim, extended);
    }
    Some(Needs { node, objects: found.0 })
}

struct Found(BTreeSet<(Kind, String)>);

impl Found {
    fn add(&mut self, kind: Kind, name: &Value) {
        if let Some(name) = text(name) {
            self.0.insert((kind, name.to_owned()));
        }
    }

    fn container(&mut self, container: &Value) {
        for source in items(container, "envFrom") {
            self.add(Kind::Secret, &source["secretRef"]["name"]);
            self.add(Kind::ConfigMap, &source["configMapRef"]["name"]);
        }
        for variable in items(container, "env") {
            self.add(Kind::Secret, &variable["valueFrom"]["secretKeyRef"]["name"]);
            self.add(Kind::ConfigMap, &variable["valueFrom"]["configMapKeyRef"]["name"]);
        }
    }

    fn volume(&mut self, pod: &Value, volume: &Value) {
        self.add(Kind::Secret, &volume["secret"]["secretName"]);
        self.add(Kind::Secret, &volume["azureFile"]["secretName"]);
        self.add(Kind::Secret, &volume["csi"]["nodePublishSecretRef"]["name"]);
        for source in POD_SOURCES {
            self.add(Kind::Secret, &volume[source]["secretRef"]["name"]);
        }
        self.add(Kind::ConfigMap, &volume["configMap"]["name"]);
        for source in items(&volume["projected"], "sources") {
            self.add(Kind::Secret, &source["secret"]["name"]);
            self.add(Kind::ConfigMap, &source["configMap"]["name"]);
        }
        self.add(Kind::Claim, &volume["persistentVolumeClaim"]["claimName"]);
        if volume["ephemeral"].is_object()
            && let (Some(pod), Some(volume)) = (text(&pod["metadata"]["name"]), text(&volume["name"]))
        {
            self.0.insert((Kind::Claim, format!("{pod}-{volume}")));
        }
    }

    /// A claim of the pod's own, or the one that was made for it from a template.
    fn resource_claim(&mut self, pod: &Value, claim: &Value) {
        self.add(Kind::ResourceClaim, &claim["resourceClaimName"]);
        if text(&claim["resourceClaimTemplateName"]).is_some() {
            let made =
                items(&pod["status"], "resourceClaimStatuses").find(|one| one["name"] == claim["name"]);
            if let Some(made) = made {
                self.add(Kind::ResourceClaim, &made["resourceClaimName"]);
            }
        }
    }
}

/// What a persistent volume refers to; nothing while nobody claims it.
pub(super) fn volume(volume: &Value) -> Option<Volume> {
    let spec = &volume["spec"];
    let claim = &spec["claimRef"];
    let namespace = claim["namespace"].as_str().unwrap_or_default();
    let claim = (namespace.to_owned(), text(&claim["name"])?.to_owned());
    let mut secrets = BTreeSet::new();
    // A secret without a namespace is in that of the claim.
    let mut add = |namespace_field: &Value, name: &Value| {
        if let Some(name) = text(name) {
            secrets.insert((text(namespace_field).unwrap_or(namespace).to_owned(), name.to_owned()));
        }
    };
    add(&spec["azureFile"]["secretNamespace"], &spec["azureFile"]["secretName"]);
    let references = VOLUME_SOURCES.iter().map(|source| &spec[*source]["secretRef"]);
    for reference in references.chain(CSI_SECRETS.iter().map(|field| &spec["csi"][*field])) {
        add(&reference["namespace"], &reference["name"]);
    }
    Some(Volume { claim, secrets })
}

/// The node that an attachment or a slice is for.
pub(super) fn node_name(object: &Value) -> Option<String> {
    text(&object["spec"]["nodeName"]).map(str::to_owned)
}
