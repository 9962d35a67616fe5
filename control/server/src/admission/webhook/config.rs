//! What the plug-ins' own configuration says (`WebhookAdmissionConfiguration`): what webhooks are shown of this server.

use std::path::Path;

use serde_json::Value;

use super::super::config::strict;
use crate::callout::Credentials;
use crate::failure::with_causes;

/// The versions and kinds under which it may stand in a file.
const KINDS: [(&str, &str); 2] = [
    ("apiserver.config.k8s.io/v1", "WebhookAdmissionConfiguration"),
    ("apiserver.config.k8s.io/v1alpha1", "WebhookAdmission"),
];

/// Reads the file that a configuration names, if there is one.
///
/// # Errors
///
/// Why the configuration, or that file, is none.
pub(super) fn credentials(configuration: Option<&Value>) -> Result<Credentials, String> {
    let Some(configuration) = configuration else { return Ok(Credentials::default()) };
    let text = |field: &str| configuration[field].as_str().unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    if !KINDS.contains(&(version, kind)) {
        return Err(format!("no kind {kind:?} is registered for version {version:?}"));
    }
    strict(configuration, &["apiVersion", "kind", "kubeConfigFile", "staticManifestsDir"])?;
    if !text("staticManifestsDir").is_empty() {
        // Upstream's words for what is alpha there and off, as it always is here.
        return Err("staticManifestsDir: Forbidden: staticManifestsDir requires the \
                    ManifestBasedAdmissionControlConfig feature gate to be enabled"
            .to_owned());
    }
    let file = text("kubeConfigFile");
    if file.is_empty() {
        return Ok(Credentials::default());
    }
    if !file.starts_with('/') {
        return Err(format!("kubeConfigFile: Invalid value: {file:?}: must be an absolute file path"));
    }
    Credentials::read(Path::new(file)).map_err(|error| with_causes(&error))
}
