//! The flags of encryption at rest, under upstream's names.

use std::path::PathBuf;

use clap::{ArgAction, Args};
use skep_server::encryption::EncryptionOptions;

#[derive(Debug, Args)]
pub(crate) struct EncryptionArguments {
    /// What is stored encrypted, and with which keys (`apiserver.config.k8s.io/v1 EncryptionConfiguration`).
    #[arg(long, value_name = "FILE")]
    pub(crate) encryption_provider_config: Option<PathBuf>,
    /// Follow that file while the server runs.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
        default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) encryption_provider_config_automatic_reload: bool,
}

impl EncryptionArguments {
    /// What these flags ask for, if anything.
    ///
    /// # Errors
    ///
    /// When there is no file to follow.
    pub(crate) fn options(&self) -> anyhow::Result<Option<EncryptionOptions>> {
        let reload = self.encryption_provider_config_automatic_reload;
        match &self.encryption_provider_config {
            Some(path) => Ok(Some(EncryptionOptions { path: path.clone(), reload })),
            None if reload => anyhow::bail!(
                "--encryption-provider-config-automatic-reload must be set with --encryption-provider-config"
            ),
            None => Ok(None),
        }
    }
}
