//! Secrets at rest: what is stored can be encrypted, resource by resource, as an `EncryptionConfiguration` says.
//!
//! The way of a value: the server writes plain text through an [`EncryptedStore`], which finds the resource by the key, has
//! its first provider seal the value, and hands it to the store; reads and watches come back the other way. Keys, prefixes
//! and layouts are upstream's, so that the same etcd can be used by both.
//!
//! A value that cannot be opened is never left out silently: it is marked, and reading its resource fails with the reason,
//! until the key is there or the value is gone. Other resources are not affected.

mod ciphers;
mod config;
mod error;
mod kms;
mod marker;
mod metrics;
mod places;
mod providers;
mod store;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use parking_lot::RwLock;
use prometheus::Registry;
use sha2::{Digest, Sha256};

use self::error::TransformError;
use self::metrics::EncryptionMetrics;
use self::places::resource_of;
use self::providers::Providers;
use crate::error::Error;
use crate::metrics::Reloads;

pub(crate) use marker::reason_of;
pub(crate) use store::EncryptedStore;

/// How often the file is looked at, if it is to be followed.
const LOOK: Duration = Duration::from_secs(60);
/// So long new key management services have to become healthy before the former configuration stays.
const PATIENCE: Duration = Duration::from_secs(10);

/// Encryption as operators ask for it.
#[derive(Clone, Debug)]
pub struct EncryptionOptions {
    /// The `EncryptionConfiguration`.
    pub path: PathBuf,
    /// Whether the file is followed while the server runs.
    pub reload: bool,
}

/// Encryption by a configuration, which may change.
pub struct Encryption {
    options: EncryptionOptions,
    current: RwLock<Arc<Providers>>,
    /// Of the file that is in use.
    digest: RwLock<Vec<u8>>,
    metrics: EncryptionMetrics,
    reloads: Reloads,
}

impl std::fmt::Debug for Encryption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encryption").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Encryption {
    /// Encryption by a file, in the server of this name. Must be called in a runtime.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is not valid.
    pub async fn open(
        options: EncryptionOptions,
        registry: &Registry,
        server: &str,
    ) -> Result<Arc<Self>, Error> {
        let metrics = EncryptionMetrics::new(registry, server);
        let reloads = Reloads::new(registry, "encryption", server);
        let (rules, digest) = read(&options)?;
        let providers = Providers::new(rules, metrics.clone()).await;
        reloads.in_force_hashed(&shown(&digest));
        let (current, digest) = (RwLock::new(Arc::new(providers)), RwLock::new(digest));
        Ok(Arc::new(Self { options, current, digest, metrics, reloads }))
    }

    /// The health checks of the key management services in use, and whether each holds: one for all where the file is
    /// followed, and where it is not, as the services stay as they are, one for each.
    pub(crate) fn checks(&self) -> Vec<(String, bool)> {
        let providers = self.current.read().clone();
        match self.options.reload {
            true => vec![("kms-providers".to_owned(), providers.health().is_ok())],
            false => providers.checks().collect(),
        }
    }

    /// Follows the file, if that was asked for, for as long as it is polled.
    pub(crate) async fn follow(&self) {
        if !self.options.reload {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(LOOK).await;
            match self.reload().await {
                Ok(false) => {}
                Ok(true) => {
                    self.reloads.looked(true, SystemTime::now());
                    tracing::info!(path = %self.options.path.display(), "using the changed encryption configuration");
                }
                Err(error) => {
                    self.reloads.looked(false, SystemTime::now());
                    tracing::error!(%error, "the changed encryption configuration is not used");
                }
            }
        }
    }

    /// Uses the file as it is now, if it changed; says whether it did. When it cannot be used, nothing changes.
    ///
    /// # Errors
    ///
    /// When it is not valid, or its key management services are not healthy.
    pub(crate) async fn reload(&self) -> Result<bool, Error> {
        let (rules, digest) = read(&self.options)?;
        if *self.digest.read() == digest {
            return Ok(false);
        }
        let providers = Providers::new(rules, self.metrics.clone()).await;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while let Err(reason) = providers.health() {
            if tokio::time::Instant::now() >= deadline {
                return Err(invalid(
                    &self.options,
                    format!("health check for new transformers failed: {reason}"),
                ));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        *self.current.write() = Arc::new(providers);
        self.reloads.in_force_hashed(&shown(&digest));
        *self.digest.write() = digest;
        Ok(true)
    }

    fn seal(&self, key: &str, plain: &Bytes) -> Result<Bytes, TransformError> {
        let providers = self.current.read().clone();
        providers.seal(resource_of(key), key, plain)
    }

    async fn open_value(&self, key: &str, stored: &Bytes) -> Result<(Bytes, bool), TransformError> {
        let providers = self.current.read().clone();
        providers.open(resource_of(key), key, stored).await
    }
}

/// As upstream writes the hash of such a file.
fn shown(digest: &[u8]) -> String {
    digest.iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

fn invalid(options: &EncryptionOptions, reason: String) -> Error {
    Error::Configuration { what: "encryption configuration", path: options.path.clone(), reason }
}

/// The rules in the file, and what tells it from another.
fn read(options: &EncryptionOptions) -> Result<(Vec<config::Rule>, Vec<u8>), Error> {
    let path = options.path.clone();
    let text = std::fs::read(&path).map_err(|source| Error::Read { path, source })?;
    let rules = config::parse(&text).map_err(|reason| invalid(options, reason))?;
    Ok((rules, Sha256::digest(&text).to_vec()))
}
