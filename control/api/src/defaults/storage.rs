//! Defaults of the storage group.

use serde_json::{Value, json};

use super::{child, default, default_unset};
use crate::registry::Resource;

pub(super) fn apply(resource: &Resource, object: &mut Value) {
    match resource.plural.as_str() {
        "storageclasses" => {
            default_unset(object, "reclaimPolicy", "Delete");
            default_unset(object, "volumeBindingMode", "Immediate");
        }
        "csidrivers" => {
            let spec = child(object, "spec");
            default(spec, "attachRequired", true);
            default(spec, "podInfoOnMount", false);
            default(spec, "storageCapacity", false);
            default_unset(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
            default(spec, "requiresRepublish", false);
            default(spec, "seLinuxMount", false);
            default(spec, "volumeLifecycleModes", json!(["Persistent"]));
        }
        _ => {}
    }
}
