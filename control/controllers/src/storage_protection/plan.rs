//! Who uses what, and what becomes of a finalizer: pure.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::core::ObjectMeta;

use crate::pod::{Pod, Volume};
use crate::runtime::ownership::controller_of;

/// The finalizer of claims.
pub(super) const CLAIM: &str = "kubernetes.io/pvc-protection";
/// The finalizer of volumes.
pub(super) const VOLUME: &str = "kubernetes.io/pv-protection";
/// The finalizer of classes of volume attributes.
pub(super) const CLASS: &str = "kubernetes.io/vac-protection";

/// What to do about an object, with the finalizers that it has then.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is as it should be.
    Nothing,
    /// It was made without the finalizer.
    Protect(Vec<String>),
    /// It is to go, if nobody uses it.
    Release(Vec<String>),
}

/// The next step for an object.
pub(super) fn step(meta: &ObjectMeta, finalizer: &str) -> Step {
    let own = meta.finalizers.clone().unwrap_or_default();
    let has = own.iter().any(|one| one == finalizer);
    match (meta.deletion_timestamp.is_some(), has) {
        (true, true) => Step::Release(own.into_iter().filter(|one| one != finalizer).collect()),
        (false, false) => Step::Protect(own.into_iter().chain([finalizer.to_owned()]).collect()),
        _ => Step::Nothing,
    }
}

/// The name of the claim behind a volume of a pod.
fn claim_of<'a>(pod: &'a Pod, volume: &'a Volume) -> Option<(String, bool)> {
    if let Some(source) = &volume.persistent_volume_claim {
        return Some((source.claim_name.clone(), false));
    }
    volume.ephemeral.as_ref()?;
    Some((format!("{}-{}", pod.metadata.name.as_deref()?, volume.name), true))
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec.iter().flat_map(|spec| &spec.volumes)
}

/// The names of all claims that a pod refers to.
pub(super) fn claims_of(pod: &Pod) -> Vec<String> {
    volumes(pod).filter_map(|volume| Some(claim_of(pod, volume)?.0)).collect()
}

/// Whether a pod uses a claim. One that has no node cannot, as it will not be started on a claim that goes.
pub(super) fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let scheduled =
        pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_ref().is_some_and(|n| !n.is_empty()));
    let meta = &pod.metadata;
    let shut_down = meta.deletion_timestamp.is_some() && meta.deletion_grace_period_seconds == Some(0);
    let owned = || controller_of(&claim.metadata).is_some_and(|owner| Some(&owner.uid) == meta.uid.as_ref());
    let name = claim.metadata.name.as_deref();
    scheduled
        && volumes(pod)
            .filter_map(|volume| claim_of(pod, volume))
            .any(|(used, ephemeral)| Some(used.as_str()) == name && (!ephemeral || (!shut_down && owned())))
}

/// Whether a claim has the volume.
pub(super) fn is_bound(volume: &PersistentVolume) -> bool {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
}

/// The classes that a claim's volume has or is to have.
pub(super) fn classes_of_claim(claim: &PersistentVolumeClaim) -> Vec<&str> {
    let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
    let status = claim.status.as_ref();
    let current = status.and_then(|status| status.current_volume_attributes_class_name.as_deref());
    let target = status.and_then(|status| status.modify_volume_status.as_ref());
    let target = target.and_then(|target| target.target_volume_attributes_class_name.as_deref());
    [wanted, current, target].into_iter().flatten().filter(|name| !name.is_empty()).collect()
}

/// The class of a volume.
pub(super) fn class_of_volume(volume: &PersistentVolume) -> Option<&str> {
    volume.spec.as_ref()?.volume_attributes_class_name.as_deref().filter(|name| !name.is_empty())
}
