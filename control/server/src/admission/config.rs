//! Which plug-ins run, and their own configuration: upstream's flags and its `AdmissionConfiguration` file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;
use skep_api::decode::{self, Encoding};

use super::order::{Entry, ORDER};

/// By which member of a file without a kind its plug-in is known.
const LEGACY: [(&str, &str); 2] =
    [("podNodeSelectorPluginConfig", "PodNodeSelector"), ("imagePolicy", "ImagePolicyWebhook")];

/// Why a configuration of admission is refused at start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A flag names a plug-in that nobody knows.
    #[error("{flag} plugin {name:?} is unknown")]
    Unknown {
        /// The flag, without its dashes.
        flag: &'static str,
        /// The name.
        name: String,
    },
    /// Plug-ins are enabled and disabled at once.
    #[error("{0:?} in enable-admission-plugins and disable-admission-plugins overlapped")]
    Contradiction(Vec<String>),
    /// The file, or one that it names, cannot be read.
    #[error("unable to read admission control configuration from {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The configuration of a plug-in is not one.
    #[error("couldn't init admission plugin {name:?}: {reason}")]
    Plugin {
        /// The plug-in.
        name: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// Which plug-ins run, with their configuration.
#[derive(Clone, Debug)]
pub struct AdmissionConfig {
    /// Plug-ins that run besides the usual ones.
    pub enable: Vec<String>,
    /// Plug-ins that do not run.
    pub disable: Vec<String>,
    /// Whether webhooks and policies may come out of files (feature gate `ManifestBasedAdmissionControlConfig`).
    pub manifests: bool,
    /// What this server is called, where counters tell servers apart.
    pub server: String,
    /// Seconds for which pods stay on nodes that are not ready, and on those that do not answer.
    pub toleration_seconds: [i64; 2],
    configurations: BTreeMap<String, Value>,
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        Self {
            enable: Vec::new(),
            disable: Vec::new(),
            manifests: false,
            server: String::new(),
            toleration_seconds: [300; 2],
            configurations: BTreeMap::new(),
        }
    }
}

impl AdmissionConfig {
    /// Takes the configuration of plug-ins from an `AdmissionConfiguration` file (`apiserver.config.k8s.io/v1`). What a
    /// plug-in has in a file of its own is read, too; relative paths start where the file is.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or is none.
    pub fn read(&mut self, path: &Path) -> Result<(), ConfigError> {
        let whole = read(path)?;
        let file = |reason: String| ConfigError::File { path: path.to_owned(), reason };
        let kind = (whole["apiVersion"].as_str().unwrap_or_default(), &whole["kind"]);
        if !matches!(kind.0, "apiserver.config.k8s.io/v1" | "apiserver.k8s.io/v1alpha1")
            || *kind.1 != "AdmissionConfiguration"
        {
            // The file that two plug-ins had before there was a common one.
            let named = LEGACY.iter().filter(|(member, _)| whole.get(member).is_some());
            let named: Vec<_> = named.map(|(_, name)| ((*name).to_owned(), whole.clone())).collect();
            if !named.is_empty() {
                self.configurations.extend(named);
                return Ok(());
            }
            return Err(file(format!("expected AdmissionConfiguration, got {} {}", kind.0, kind.1)));
        }
        strict(&whole, &["apiVersion", "kind", "plugins"]).map_err(file)?;
        for plugin in whole["plugins"].as_array().into_iter().flatten() {
            strict(plugin, &["name", "path", "configuration"]).map_err(file)?;
            let name = plugin["name"].as_str().filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| file("a plug-in has no name".to_owned()))?.to_owned();
            let own = plugin["path"].as_str().filter(|own| !own.is_empty());
            let configuration = match (&plugin["configuration"], own) {
                (Value::Null, None) => continue,
                (Value::Null, Some(own)) => read(&path.parent().unwrap_or(Path::new("")).join(own))?,
                (configuration, _) => configuration.clone(),
            };
            self.configurations.entry(name).or_insert(configuration);
        }
        Ok(())
    }

    /// The configuration of one plug-in, if there is one.
    pub(super) fn of(&self, name: &str) -> Option<&Value> {
        self.configurations.get(name)
    }

    /// The plug-ins that run, in order.
    ///
    /// # Errors
    ///
    /// When flags name plug-ins that nobody knows, or contradict each other.
    pub(super) fn enabled(&self) -> Result<Vec<&'static Entry>, ConfigError> {
        let known: BTreeSet<&str> = ORDER.iter().map(|entry| entry.name).collect();
        for (flag, names) in
            [("enable-admission-plugins", &self.enable), ("disable-admission-plugins", &self.disable)]
        {
            if let Some(name) = names.iter().find(|name| !known.contains(name.as_str())) {
                return Err(ConfigError::Unknown { flag, name: name.clone() });
            }
        }
        let both: Vec<String> =
            self.enable.iter().filter(|name| self.disable.contains(name)).cloned().collect();
        if !both.is_empty() {
            return Err(ConfigError::Contradiction(both));
        }
        let named = |names: &[String], entry: &Entry| names.iter().any(|name| name == entry.name);
        let runs =
            |entry: &&Entry| named(&self.enable, entry) || (entry.default && !named(&self.disable, entry));
        Ok(ORDER.iter().filter(runs).collect())
    }
}

fn read(path: &Path) -> Result<Value, ConfigError> {
    let bytes = std::fs::read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let parsed = decode::parse(&bytes, Encoding::Yaml)
        .map_err(|status| ConfigError::File { path: path.to_owned(), reason: status.message })?;
    Ok(parsed.value)
}

/// Refuses members that are not known.
pub(super) fn strict(value: &Value, known: &[&str]) -> Result<(), String> {
    let Some(object) = value.as_object() else { return Err(format!("expected an object, got {value}")) };
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("strict decoding error: unknown field {key:?}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(enable: &[&str], disable: &[&str]) -> AdmissionConfig {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        AdmissionConfig { enable: own(enable), disable: own(disable), ..AdmissionConfig::default() }
    }

    #[test]
    fn plugins_run_in_upstreams_order_whatever_the_flags_say_first() {
        let names = |config: &AdmissionConfig| -> Vec<&str> {
            config.enabled().unwrap().iter().map(|entry| entry.name).collect()
        };
        let usual = names(&config(&[], &[]));
        assert_eq!(usual.first(), Some(&"NamespaceLifecycle"));
        let more = names(&config(&["PodNodeSelector", "AlwaysAdmit"], &["Priority"]));
        assert_eq!(more.first(), Some(&"AlwaysAdmit"));
        assert!(more.contains(&"PodNodeSelector") && !more.contains(&"Priority"), "{more:?}");
    }

    #[test]
    fn flags_that_make_no_sense_are_refused_in_upstreams_words() {
        let refused = |enable: &[&str], disable: &[&str]| {
            config(enable, disable).enabled().err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(refused(&["X"], &[]), "enable-admission-plugins plugin \"X\" is unknown");
        assert_eq!(refused(&[], &["x"]), "disable-admission-plugins plugin \"x\" is unknown");
        assert_eq!(
            refused(&["Priority"], &["Priority"]),
            "[\"Priority\"] in enable-admission-plugins and disable-admission-plugins overlapped"
        );
    }

    #[test]
    fn file_configures_plugins_inline_and_by_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admission.yaml");
        std::fs::write(directory.path().join("own.yaml"), "limits: [1]").unwrap();
        let text = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n\
                    - name: PodSecurity\n  configuration: {defaults: {enforce: baseline}}\n\
                    - name: EventRateLimit\n  path: own.yaml\n- name: Priority\n";
        std::fs::write(&path, text).unwrap();
        let mut config = AdmissionConfig::default();
        config.read(&path).unwrap();
        assert_eq!(config.of("PodSecurity").unwrap()["defaults"]["enforce"], "baseline");
        assert_eq!(config.of("EventRateLimit").unwrap()["limits"][0], 1);
        assert!(config.of("Priority").is_none());
        std::fs::write(&path, "imagePolicy: {kubeConfigFile: /k}\npodNodeSelectorPluginConfig: {}").unwrap();
        let mut legacy = AdmissionConfig::default();
        legacy.read(&path).unwrap();
        assert!(legacy.of("PodNodeSelector").is_some());
        assert_eq!(legacy.of("ImagePolicyWebhook").unwrap()["imagePolicy"]["kubeConfigFile"], "/k");
        for (bad, why) in [
            ("kind: Other", "expected AdmissionConfiguration"),
            (&text.replace("path:", "file:"), "unknown field \"file\""),
            (&text.replace("- name: Priority", "- name: ''"), "no name"),
        ] {
            std::fs::write(&path, bad).unwrap();
            let error = AdmissionConfig::default().read(&path).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert!(AdmissionConfig::default().read(Path::new("/nowhere/x.yaml")).is_err());
    }
}
