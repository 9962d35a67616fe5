//! All of upstream's plug-ins by name, in the order in which they run (`AllOrderedPlugins` of kube-apiserver), which of
//! them run unless told otherwise, and how those that are here are made.

use serde_json::Value;

use super::{ConfigError, Ingredients, Plugin};
use super::{
    certificates, claim_resize, default_class, default_tolerations, limit_ranger, namespace_lifecycle,
    node_taint, priority, runtime_class, service_account, storage_protection,
};

/// Makes a plug-in out of its configuration, if it has one.
pub(crate) type Make = fn(&Ingredients, Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError>;

/// A plug-in by name.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    /// Whether it runs unless told otherwise.
    pub(crate) default: bool,
    /// Nothing for those of upstream that are not here.
    pub(crate) make: Option<Make>,
}

const fn on(name: &'static str, make: Make) -> Entry {
    Entry { name, default: true, make: Some(make) }
}

/// Those that run only when they are asked for.
#[allow(dead_code, reason = "options come one by one")]
const fn off(name: &'static str, make: Make) -> Entry {
    Entry { name, default: false, make: Some(make) }
}

const fn absent(name: &'static str) -> Entry {
    Entry { name, default: false, make: None }
}

/// The order.
pub(crate) const ORDER: &[Entry] = &[
    absent("AlwaysAdmit"),
    absent("NamespaceAutoProvision"),
    on("NamespaceLifecycle", namespace_lifecycle::make),
    absent("NamespaceExists"),
    absent("LimitPodHardAntiAffinityTopology"),
    on("LimitRanger", limit_ranger::make),
    on("ServiceAccount", service_account::make),
    absent("NodeRestriction"),
    on("TaintNodesByCondition", node_taint::make),
    absent("AlwaysPullImages"),
    absent("ImagePolicyWebhook"),
    absent("PodSecurity"),
    absent("PodNodeSelector"),
    on("Priority", priority::make),
    on("DefaultTolerationSeconds", default_tolerations::make),
    absent("PodTolerationRestriction"),
    absent("EventRateLimit"),
    absent("ExtendedResourceToleration"),
    on("DefaultStorageClass", default_class::make_storage),
    off("StorageObjectInUseProtection", storage_protection::make),
    absent("PodGroupProtection"),
    absent("OwnerReferencesPermissionEnforcement"),
    on("PersistentVolumeClaimResize", claim_resize::make),
    on("RuntimeClass", runtime_class::make),
    on("CertificateApproval", certificates::make_approval),
    on("CertificateSigning", certificates::make_signing),
    on("ClusterTrustBundleAttest", certificates::make_attest),
    on("CertificateSubjectRestriction", certificates::make_restriction),
    on("DefaultIngressClass", default_class::make_ingress),
    absent("DenyServiceExternalIPs"),
    absent("PodTopologyLabels"),
    absent("PodGroupWorkloadExists"),
    absent("NodeDeclaredFeatureValidator"),
    absent("JobValidation"),
    absent("PodResizeValidator"),
    absent("MutatingAdmissionPolicy"),
    absent("MutatingAdmissionWebhook"),
    absent("ValidatingAdmissionPolicy"),
    absent("ValidatingAdmissionWebhook"),
    absent("ResourceQuota"),
    absent("AlwaysDeny"),
];
