//! How often a configuration file that changed came into force, or did not, and which one is in force: under upstream's
//! names, for any of the files that are followed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prometheus::{IntCounterVec, IntGaugeVec, Registry};
use sha2::{Digest, Sha256};

use super::{counter, gauge};

/// The counters of one file.
#[derive(Clone, Debug)]
pub struct Reloads {
    /// Which server this is.
    server: String,
    total: IntCounterVec,
    last: IntGaugeVec,
    info: IntGaugeVec,
}

impl Reloads {
    /// Of the file that `which` names (`authentication`), followed by the server of this name.
    pub fn new(registry: &Registry, which: &str, server: &str) -> Self {
        let name = |end: &str| format!("apiserver_{which}_config_controller_{end}");
        let about = |text: &str| format!("{text} of the {which} configuration.");
        Self {
            server: hash(server),
            total: counter(
                registry,
                &name("automatic_reloads_total"),
                &about("Changes, by outcome,"),
                &["status", "apiserver_id_hash"],
            ),
            last: gauge(
                registry,
                &name("automatic_reload_last_timestamp_seconds"),
                &about("When the last change was, by outcome,"),
                &["status", "apiserver_id_hash"],
            ),
            info: gauge(
                registry,
                &name("last_config_info"),
                &about("The hash of what is in force"),
                &["apiserver_id_hash", "hash"],
            ),
        }
    }

    /// This text is in force.
    pub fn in_force(&self, text: &str) {
        self.in_force_hashed(&hash(text));
    }

    /// The file with this hash is in force.
    pub(crate) fn in_force_hashed(&self, hash: &str) {
        self.info.reset();
        self.info.with_label_values(&[self.server.as_str(), hash]).set(1);
    }

    /// The file changed to this, at `now`, and that is in force, or was refused.
    pub fn changed(&self, text: &str, good: bool, now: SystemTime) {
        self.looked(good, now);
        if good {
            self.in_force(text);
        }
    }

    /// The file changed at `now`, and that is in force, or was refused.
    pub(crate) fn looked(&self, good: bool, now: SystemTime) {
        let labels = [if good { "success" } else { "failure" }, self.server.as_str()];
        let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.total.with_label_values(&labels).inc();
        self.last.with_label_values(&labels).set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }
}

/// The same of the files out of which admission plug-ins take webhooks and policies.
#[derive(Clone, Debug)]
pub(crate) struct PluginReloads {
    server: String,
    total: IntCounterVec,
    last: IntGaugeVec,
    info: IntGaugeVec,
    /// The hash of what is in force, by plug-in.
    known: Arc<Mutex<BTreeMap<&'static str, String>>>,
}

impl PluginReloads {
    /// Of the server of this name.
    pub(crate) fn new(registry: &Registry, server: &str) -> Self {
        let name = |end: &str| format!("apiserver_manifest_admission_config_controller_{end}");
        Self {
            server: hash(server),
            total: counter(
                registry,
                &name("automatic_reloads_total"),
                "Changes of the manifests of admission, by outcome and plug-in.",
                &["status", "plugin", "apiserver_id_hash"],
            ),
            last: gauge(
                registry,
                &name("automatic_reload_last_timestamp_seconds"),
                "When the last change of the manifests of admission was, by outcome and plug-in.",
                &["status", "plugin", "apiserver_id_hash"],
            ),
            info: gauge(
                registry,
                &name("last_config_info"),
                "The hash of the manifests of admission that are in force, by plug-in.",
                &["plugin", "apiserver_id_hash", "hash"],
            ),
            known: Arc::default(),
        }
    }

    /// The files of a plug-in changed, at `now`, and are in force as what has this hash, or were refused.
    pub(crate) fn changed(&self, plugin: &'static str, hash: Option<&str>, now: SystemTime) {
        let labels = [if hash.is_some() { "success" } else { "failure" }, plugin, self.server.as_str()];
        let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.total.with_label_values(&labels).inc();
        self.last.with_label_values(&labels).set(i64::try_from(seconds).unwrap_or(i64::MAX));
        let Some(hash) = hash else { return };
        if let Some(before) = self.known.lock().insert(plugin, hash.to_owned()) {
            // It may have been none.
            let _ = self.info.remove_label_values(&[plugin, self.server.as_str(), before.as_str()]);
        }
        self.info.with_label_values(&[plugin, self.server.as_str(), hash]).set(1);
    }
}

/// As upstream writes it; nothing of nothing.
pub(crate) fn hash(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().fold("sha256:".to_owned(), |hash, byte| hash + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn change_that_is_refused_leaves_what_is_in_force() {
        let registry = Registry::new();
        let reloads = Reloads::new(&registry, "authentication", "");
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        reloads.in_force("a");
        reloads.changed("b", true, at(5));
        reloads.changed("c", false, at(7));
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        let name = "apiserver_authentication_config_controller_";
        let b = "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d";
        for line in [
            format!("{name}automatic_reloads_total{{apiserver_id_hash=\"\",status=\"failure\"}} 1"),
            format!(
                "{name}automatic_reload_last_timestamp_seconds{{apiserver_id_hash=\"\",status=\"success\"}} 5"
            ),
            format!("{name}last_config_info{{apiserver_id_hash=\"\",hash=\"sha256:{b}\"}} 1"),
        ] {
            assert!(text.contains(&line), "{line} in {text}");
        }
        assert_eq!(text.matches("last_config_info{").count(), 1);
    }
}
