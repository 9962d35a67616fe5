//! What is said of volumes, claims, drivers and what tells where storage is.

use serde_json::Value;

use super::{Told, expressions, fractions, of_label};
use crate::validation::place::Place;

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

/// Sources of a pod's volume that are on their way out.
pub(super) fn sources(volume: &Place<'_>, told: &mut Told) {
    SOURCES.iter().for_each(|(source, why)| source_of(volume, source, why, told));
}

fn source_of(place: &Place<'_>, source: &str, why: &str, told: &mut Told) {
    // The path is that of the field upstream, which is not in every case that of its JSON.
    let shown = if source == "storageos" { "storageOS" } else { source };
    if place.get(source).is_set() {
        told.push(format!("{}: {why}", place.child(shown)));
    }
}

/// Tokens among the attributes of a volume end up in logs.
pub(super) fn csi_driver(spec: &Place<'_>, old: Option<&Value>, told: &mut Told) {
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

/// Labels of nodes in the topologies that a class allows.
pub(super) fn class(object: &Value, told: &mut Told) {
    for term in Place::of(object, "allowedTopologies").items() {
        for expression in term.each("matchLabelExpressions") {
            let key = expression.get("key");
            if let Some(why) = of_label(key.text()) {
                told.push(format!("{}: {why}", key.path));
            }
        }
    }
}

/// Labels of nodes in the topology of a capacity.
pub(super) fn capacity(object: &Value, told: &mut Told) {
    let topology = Place::of(object, "nodeTopology");
    expressions(&topology, false, told);
    for (key, place) in topology.get("matchLabels").entries() {
        if let Some(why) = of_label(key) {
            told.push(format!("{}.{key}: {why}", place.path.trim_end_matches(&format!("[{key}]"))));
        }
    }
}

pub(super) fn volume(object: &Value, told: &mut Told) {
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
        if let Some((_, why)) = SOURCES.iter().find(|(name, _)| *name == source) {
            source_of(&spec, source, why, told);
        }
    }
}

pub(super) fn claim(object: &Value, told: &mut Told) {
    let key = "volume.beta.kubernetes.io/storage-class";
    if object["metadata"]["annotations"].get(key).is_some() {
        told.push(format!(
            "metadata.annotations[{key}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
        ));
    }
    claim_spec(&Place::of(object, "spec"), told);
}

pub(super) fn claim_spec(spec: &Place<'_>, told: &mut Told) {
    let resources = spec.get("resources");
    fractions(&resources.get("requests"), &["storage"], told);
    fractions(&resources.get("limits"), &["storage"], told);
}
