//! Webhooks and policies out of files (`staticManifestsDir`, feature gate `ManifestBasedAdmissionControlConfig`): they are in
//! force before the first request, nobody can take them away through the API, and they have a say even in what becomes of
//! the objects that are webhooks and policies themselves.
//!
//! A directory belongs to one of four plug-ins ([`Family`]). [`load`] reads and checks it; here it is followed: what changed
//! and is good comes into force, what is not good changes nothing. Their names end in [`SUFFIX`], which no object of the API
//! may have while the feature is on.

mod load;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use serde_json::Value;

use super::{ConfigError, Ingredients};
use crate::metrics::PluginReloads;

pub(super) use load::{
    Family, MUTATING_POLICIES, MUTATING_WEBHOOKS, VALIDATING_POLICIES, VALIDATING_WEBHOOKS,
};
use load::{Objects, objects, read};

/// The end of the names of all that is in files.
pub(super) const SUFFIX: &str = ".static.k8s.io";
/// So often the directory is looked at.
const CHECK: Duration = Duration::from_secs(10);

/// The objects of one directory that are in force.
pub(super) struct Manifests {
    directory: PathBuf,
    family: &'static Family,
    current: RwLock<Objects>,
    /// What there is of kinds that are in no file.
    none: Arc<Vec<Arc<Value>>>,
    reloads: Arc<PluginReloads>,
}

/// Where the files of a plug-in are, as its configuration says it; nothing where it does not.
///
/// # Errors
///
/// When there is no such directory, or the feature is off; in upstream's words.
pub(super) fn directory(configuration: &Value, enabled: bool) -> Result<Option<PathBuf>, String> {
    let text = match &configuration["staticManifestsDir"] {
        Value::Null => return Ok(None),
        Value::String(text) if text.is_empty() => return Ok(None),
        Value::String(text) => text,
        other => return Err(format!("staticManifestsDir: {other} is not a text")),
    };
    if !enabled {
        return Err("staticManifestsDir: Forbidden: staticManifestsDir requires the \
                    ManifestBasedAdmissionControlConfig feature gate to be enabled"
            .to_owned());
    }
    let wrong = |why: String| Err(format!("staticManifestsDir: Invalid value: {text:?}: {why}"));
    let path = Path::new(text);
    if !path.is_absolute() {
        return wrong("must be an absolute file path".to_owned());
    }
    match std::fs::metadata(path) {
        Err(error) => wrong(format!("unable to read: {error}")),
        Ok(found) if !found.is_dir() => wrong("must be a directory".to_owned()),
        Ok(_) => Ok(Some(path.to_owned())),
    }
}

impl Manifests {
    /// Reads the directory of a plug-in, and follows it for as long as what it returns is there.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or what is in it is not right.
    pub(super) fn follow(
        from: &Ingredients,
        family: &'static Family,
        directory: PathBuf,
    ) -> Result<Arc<Self>, ConfigError> {
        let first = read(&directory).and_then(|files| Ok((objects(&files, family)?, files.hash)));
        let (first, hash) = first.map_err(|why| ConfigError::Plugin {
            name: family.plugin,
            reason: format!("failed to load static {} manifests from {directory:?}: {why}", family.what),
        })?;
        let reloads = from.manifests.reloads.clone();
        reloads.changed(family.plugin, Some(&hash), SystemTime::now());
        tracing::info!(plugin = family.plugin, directory = %directory.display(), "admission by files");
        let (current, none) = (RwLock::new(first), Arc::default());
        let this = Arc::new(Self { directory, family, current, none, reloads });
        tokio::spawn(Self::keep(Arc::downgrade(&this), hash));
        Ok(this)
    }

    async fn keep(this: Weak<Self>, mut known: String) {
        loop {
            tokio::time::sleep(CHECK).await;
            let Some(this) = this.upgrade() else { return };
            this.look(&mut known);
        }
    }

    /// Looks whether the files changed since those of the hash `known`, and puts them in force.
    fn look(&self, known: &mut String) {
        let (hash, outcome) = match read(&self.directory) {
            Err(why) => (String::new(), Err(why)),
            Ok(files) if files.hash == *known => return,
            Ok(files) => {
                let outcome = objects(&files, self.family);
                (files.hash, outcome)
            }
        };
        let (plugin, directory) = (self.family.plugin, self.directory.display());
        let good = outcome.is_ok();
        match outcome {
            Ok(objects) => {
                *self.current.write() = objects;
                tracing::info!(plugin, %directory, "reloaded admission manifest config");
            }
            Err(why) => tracing::error!(plugin, %directory, why, "the manifests before stay in force"),
        }
        self.reloads.changed(plugin, good.then_some(hash.as_str()), SystemTime::now());
        if !hash.is_empty() || good {
            // What cannot be read at all is tried, and counted, again.
            *known = hash;
        }
    }

    /// The objects of that plural that are in force, in order of their names. As long as nothing changes it is the same `Arc`.
    pub(super) fn of(&self, plural: &str) -> Arc<Vec<Arc<Value>>> {
        self.current.read().get(plural).cloned().unwrap_or_else(|| self.none.clone())
    }
}

/// What plug-ins need of the server for their files.
#[derive(Clone)]
pub(crate) struct ManifestSettings {
    /// Whether there may be any.
    pub(crate) enabled: bool,
    pub(crate) reloads: Arc<PluginReloads>,
}
