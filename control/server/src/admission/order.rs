//! All of upstream's plug-ins by name, in the order in which they run (`AllOrderedPlugins` of kube-apiserver), which of
//! them run unless told otherwise, and how they are made.

use serde_json::Value;

use super::{ConfigError, Ingredients, Plugin};
use super::{
    certificates, claim_resize, declared_features, default_class, default_tolerations, event_rate_limit,
    image_policy, limit_ranger, namespace_lifecycle, namespace_presence, node_restriction, node_taint,
    owner_references, pod_node_selector, pod_resize, pod_security, pod_topology, policy, priority, quota,
    runtime_class, service_account, simple, storage_protection, tolerations, webhook,
};

/// Makes a plug-in out of its configuration, if it has one.
pub(crate) type Make = fn(&Ingredients, Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError>;

/// A plug-in by name.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    /// Whether it runs unless told otherwise.
    pub(crate) default: bool,
    pub(crate) make: Make,
}

const fn on(name: &'static str, make: Make) -> Entry {
    Entry { name, default: true, make }
}

/// Those that run only when they are asked for.
const fn off(name: &'static str, make: Make) -> Entry {
    Entry { name, default: false, make }
}

/// Those that judge what an alpha feature makes possible. Upstream has them on, and they have nothing to say as long as the
/// feature is off there; here, it is not there.
const fn idle(name: &'static str) -> Entry {
    on(name, simple::make_idle)
}

/// The order.
pub(crate) const ORDER: &[Entry] = &[
    off("AlwaysAdmit", simple::make_admit),
    off("NamespaceAutoProvision", namespace_presence::make_provision),
    on("NamespaceLifecycle", namespace_lifecycle::make),
    off("NamespaceExists", namespace_presence::make_exists),
    off("LimitPodHardAntiAffinityTopology", simple::make_topology),
    on("LimitRanger", limit_ranger::make),
    on("ServiceAccount", service_account::make),
    on("NodeRestriction", node_restriction::make),
    on("TaintNodesByCondition", node_taint::make),
    off("AlwaysPullImages", simple::make_pull),
    off("ImagePolicyWebhook", image_policy::make),
    on("PodSecurity", pod_security::make),
    off("PodNodeSelector", pod_node_selector::make),
    on("Priority", priority::make),
    on("DefaultTolerationSeconds", default_tolerations::make),
    off("PodTolerationRestriction", tolerations::make_restriction),
    off("EventRateLimit", event_rate_limit::make),
    off("ExtendedResourceToleration", tolerations::make_extended),
    on("DefaultStorageClass", default_class::make_storage),
    on("StorageObjectInUseProtection", storage_protection::make),
    idle("PodGroupProtection"),
    off("OwnerReferencesPermissionEnforcement", owner_references::make),
    on("PersistentVolumeClaimResize", claim_resize::make),
    on("RuntimeClass", runtime_class::make),
    on("CertificateApproval", certificates::make_approval),
    on("CertificateSigning", certificates::make_signing),
    on("ClusterTrustBundleAttest", certificates::make_attest),
    on("CertificateSubjectRestriction", certificates::make_restriction),
    on("DefaultIngressClass", default_class::make_ingress),
    off("DenyServiceExternalIPs", simple::make_external),
    on("PodTopologyLabels", pod_topology::make),
    idle("PodGroupWorkloadExists"),
    on("NodeDeclaredFeatureValidator", declared_features::make),
    idle("JobValidation"),
    on("PodResizeValidator", pod_resize::make),
    on("MutatingAdmissionPolicy", policy::make_mutating),
    on("MutatingAdmissionWebhook", webhook::make_mutating),
    on("ValidatingAdmissionPolicy", policy::make_validating),
    on("ValidatingAdmissionWebhook", webhook::make_validating),
    on("ResourceQuota", quota::make),
    off("AlwaysDeny", simple::make_deny),
];
