//! What the plug-ins' own configuration says (`WebhookAdmissionConfiguration`): what webhooks are shown of this server.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::config::strict;
use super::super::manifests;
use crate::callout::Credentials;
use crate::failure::with_causes;

/// The versions and kinds under which it may stand in a file.
const KINDS: [(&str, &str); 2] = [
    ("apiserver.config.k8s.io/v1", "WebhookAdmissionConfiguration"),
    ("apiserver.config.k8s.io/v1alpha1", "WebhookAdmission"),
];

/// Reads the file that a configuration names, if there is one; and where webhooks are in files, if they are.
///
/// # Errors
///
/// Why the configuration, or that file, is none.
pub(super) fn read(
    configuration: Option<&Value>,
    manifests: bool,
) -> Result<(Credentials, Option<PathBuf>), String> {
    let Some(configuration) = configuration else { return Ok((Credentials::default(), None)) };
    let text = |field: &str| configuration[field].as_str().unwrap_or_default();
    let (version, kind) = (text("apiVersion"), text("kind"));
    if !KINDS.contains(&(version, kind)) {
        return Err(format!("no kind {kind:?} is registered for version {version:?}"));
    }
    strict(configuration, &["apiVersion", "kind", "kubeConfigFile", "staticManifestsDir"])?;
    let file = text("kubeConfigFile");
    if !file.is_empty() && !file.starts_with('/') {
        return Err(format!("kubeConfigFile: Invalid value: {file:?}: must be an absolute file path"));
    }
    let directory = manifests::directory(configuration, manifests)?;
    let credentials = match file {
        "" => Credentials::default(),
        file => Credentials::read(Path::new(file)).map_err(|error| with_causes(&error))?,
    };
    Ok((credentials, directory))
}
