//! StorageObjectInUseProtection: claims, volumes and classes of attributes carry a finalizer from the start, which a
//! controller takes off when nobody uses them any more.

use async_trait::async_trait;
use serde_json::{Value, json};
use skep_api::status::Status;

use super::{Attributes, ConfigError, Ingredients, Plugin};

const PROTECTED: [(&str, &str, &str); 3] = [
    ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
    ("", "persistentvolumes", "kubernetes.io/pv-protection"),
    ("storage.k8s.io", "volumeattributesclasses", "kubernetes.io/vac-protection"),
];

struct StorageProtection;

pub(super) fn make(_: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(StorageProtection))
}

fn finalizer(attributes: &Attributes<'_>) -> Option<&'static str> {
    PROTECTED
        .iter()
        .find(|(group, plural, _)| attributes.is(group, plural))
        .map(|(_, _, finalizer)| *finalizer)
}

#[async_trait]
impl Plugin for StorageProtection {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.creates() && finalizer(attributes).is_some()
    }

    async fn admit(&self, attributes: &Attributes<'_>, object: Option<&mut Value>) -> Result<(), Status> {
        if let (Some(object), Some(finalizer)) = (object, finalizer(attributes)) {
            let finalizers = &mut object["metadata"]["finalizers"];
            let mut all = finalizers.as_array_mut().map(std::mem::take).unwrap_or_default();
            if !all.iter().any(|one| one == finalizer) {
                all.push(finalizer.into());
            }
            *finalizers = json!(all);
        }
        Ok(())
    }
}
