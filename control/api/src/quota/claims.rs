//! What persistent volume claims count for.

use serde_json::Value;

use super::Selector;
use crate::object::{at, text};
use crate::quantity::Quantity;
use crate::resources::{self, Amounts};

const COUNT: &str = "count/persistentvolumeclaims";
const NAMES: [&str; 2] = ["persistentvolumeclaims", "requests.storage"];
/// Between the name of a class and what is limited of it.
const BY_CLASS: &str = ".storageclass.storage.k8s.io/";
/// The class of a claim before there was a field for it.
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) fn is_measured(name: &str) -> bool {
    let of_class = |name: &str| {
        NAMES.iter().any(|end| name.strip_suffix(end).is_some_and(|start| start.ends_with(BY_CLASS)))
    };
    name == COUNT || NAMES.contains(&name) || of_class(name)
}

/// The storage class of a claim, empty when it has none.
fn class(claim: &Value) -> &str {
    match text(claim, &["metadata", "annotations", OLD_CLASS]) {
        "" => text(claim, &["spec", "storageClassName"]),
        old => old,
    }
}

/// What the claim asks for, or has been given if that is more, in whole bytes.
fn size(claim: &Value) -> Option<Quantity> {
    let asked = resources::parse(at(claim, &["spec", "resources", "requests", "storage"])?)?;
    let given = at(claim, &["status", "allocatedResources", "storage"]).and_then(resources::parse);
    Some(given.map_or(asked, |given| given.max(asked)).rounded_up())
}

pub(super) fn usage(claim: &Value) -> Amounts {
    let one = Quantity::of(1);
    let mut usage: Amounts = [(NAMES[0], one), (COUNT, one)].map(|(name, n)| (name.to_owned(), n)).into();
    let class = class(claim);
    if !class.is_empty() {
        usage.insert(format!("{class}{BY_CLASS}{}", NAMES[0]), one);
    }
    if let Some(size) = size(claim) {
        usage.insert(NAMES[1].to_owned(), size);
        if !class.is_empty() {
            usage.insert(format!("{class}{BY_CLASS}{}", NAMES[1]), size);
        }
    }
    usage
}

/// The classes of attributes that the volume has, had or gets.
fn attribute_classes(claim: &Value) -> Vec<&str> {
    let places: [&[&str]; 3] = [
        &["spec", "volumeAttributesClassName"],
        &["status", "currentVolumeAttributesClassName"],
        &["status", "modifyVolumeStatus", "targetVolumeAttributesClassName"],
    ];
    let mut classes: Vec<&str> =
        places.iter().map(|place| text(claim, place)).filter(|name| !name.is_empty()).collect();
    classes.sort_unstable();
    classes.dedup();
    classes
}

pub(super) fn in_scope(selector: &Selector, claim: &Value) -> bool {
    if selector.scope != "VolumeAttributesClass" {
        return false;
    }
    match attribute_classes(claim).as_slice() {
        [] => selector.admits(None),
        classes => classes.iter().any(|class| selector.admits(Some(class))),
    }
}

/// Whether a change of the status changes what the claim counts for, or where.
pub(super) fn changed(old: &Value, new: &Value) -> bool {
    size(old) != size(new) || attribute_classes(old) != attribute_classes(new)
}
