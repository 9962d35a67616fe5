//! `EncryptionConfiguration` (`apiserver.config.k8s.io/v1`) as operators write it: reading and checking.
//!
//! Pure. Secrets are in [`Provider`] and nowhere else: messages say REDACTED, as upstream's do.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use skep_api::decode::{self, Encoding};

use crate::duration;

const AES_SIZES: &[usize] = &[16, 24, 32];
const BOX_SIZES: &[usize] = &[32];
const KMS_TIMEOUT: Duration = Duration::from_secs(3);
const KINDS: [&str; 5] = ["aesgcm", "aescbc", "secretbox", "kms", "identity"];

/// A resource, or all of a group (`*.apps`, `*.`), or all (`*.*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GroupResource {
    pub(super) group: String,
    pub(super) resource: String,
}

/// A named key.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) secret: Vec<u8>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A key management service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KmsConfig {
    pub(super) name: String,
    /// The path of its socket.
    pub(super) socket: String,
    pub(super) timeout: Duration,
}

/// One provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Provider {
    Aesgcm(Vec<Key>),
    Aescbc(Vec<Key>),
    Secretbox(Vec<Key>),
    Kms(KmsConfig),
    Identity,
}

/// Which providers, in order, for which resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) resources: Vec<GroupResource>,
    pub(super) providers: Vec<Provider>,
}

impl GroupResource {
    /// Reads `secrets`, `deployments.apps`, `*.apps`, `*.`, `*.*`.
    fn parse(text: &str) -> Self {
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        Self { group: group.to_owned(), resource: resource.to_owned() }
    }

    fn is_everything(&self) -> bool {
        self.group == "*" && self.resource == "*"
    }

    /// Whether this rule is about (group, resource).
    pub(super) fn covers(&self, group: &str, resource: &str) -> bool {
        self.is_everything() || (self.group == group && (self.resource == "*" || self.resource == resource))
    }

    /// How narrow it is: the narrowest that covers a resource decides.
    pub(super) fn rank(&self) -> u8 {
        match (self.group.as_str(), self.resource.as_str()) {
            ("*", "*") => 0,
            (_, "*") => 1,
            _ => 2,
        }
    }
}

impl std::fmt::Display for GroupResource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.group.as_str(), self.resource.as_str()) {
            ("", "*") => f.write_str("*."),
            ("", resource) => f.write_str(resource),
            (group, resource) => write!(f, "{resource}.{group}"),
        }
    }
}

/// Reads a configuration.
///
/// # Errors
///
/// Every fault, in upstream's words.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Rule>, String> {
    if text.is_empty() {
        return Err("the file is empty".into());
    }
    let value = decode::parse(text, Encoding::Yaml).map_err(|status| status.message)?.value;
    let (version, kind) = (text_of(&value["apiVersion"]), text_of(&value["kind"]));
    if version != "apiserver.config.k8s.io/v1" || kind != "EncryptionConfiguration" {
        return Err(format!("no kind {kind:?} is registered for version {version:?}"));
    }
    let mut faults = Faults::default();
    faults.unknown("", &value, &["apiVersion", "kind", "metadata", "resources"]);
    let mut rules = Vec::new();
    for (i, rule) in items(&value["resources"]).enumerate() {
        rules.push(faults.rule(&format!("resources[{i}]"), rule));
    }
    if rules.is_empty() {
        faults.add("resources: Required value: at least one resources is required".to_owned());
    }
    if !faults.found.is_empty() {
        return Err(faults.found.join(", "));
    }
    check_masks(&rules)?;
    Ok(rules)
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// No rule may come behind one that covers it already.
fn check_masks(rules: &[Rule]) -> Result<(), String> {
    let mut seen: Vec<&GroupResource> = Vec::new();
    for rule in rules {
        for one in &rule.resources {
            let mask = seen.iter().find(|earlier| {
                earlier.resource == "*" && (earlier.is_everything() || earlier.group == one.group)
            });
            if let Some(mask) = mask {
                return Err(format!(
                    "resource {:?} is masked by earlier rule {:?}",
                    one.to_string(),
                    mask.to_string()
                ));
            }
        }
        seen.extend(&rule.resources);
    }
    Ok(())
}

/// What is wrong, and the names of key management services seen so far.
#[derive(Default)]
struct Faults {
    found: Vec<String>,
    services: Vec<String>,
}

impl Faults {
    fn add(&mut self, fault: String) {
        self.found.push(fault);
    }

    fn unknown(&mut self, at: &str, value: &Value, known: &[&str]) {
        for key in value.as_object().into_iter().flat_map(|object| object.keys()) {
            if !known.contains(&key.as_str()) {
                self.add(format!("strict decoding error: unknown field \"{at}{key}\""));
            }
        }
    }

    fn rule(&mut self, at: &str, rule: &Value) -> Rule {
        self.unknown(&format!("{at}."), rule, &["resources", "providers"]);
        let names: Vec<&str> = items(&rule["resources"]).map(text_of).collect();
        for (member, empty) in
            [("resources", names.is_empty()), ("providers", items(&rule["providers"]).next().is_none())]
        {
            if empty {
                self.add(format!("{at}.{member}: Required value: at least one {at}.{member} is required"));
            }
        }
        for (i, name) in names.iter().enumerate() {
            if let Some(why) = name_fault(name) {
                self.add(format!("{at}.resources[{i}]: Invalid value: {name:?}: {why}"));
            }
        }
        let resources: Vec<GroupResource> = names.iter().map(|name| GroupResource::parse(name)).collect();
        for why in overlaps(&resources) {
            self.add(format!("{at}.resources: Invalid value: {names:?}: {why}"));
        }
        let providers = items(&rule["providers"]).enumerate();
        let providers = providers.filter_map(|(i, one)| self.provider(&format!("{at}.providers[{i}]"), one));
        Rule { providers: providers.collect(), resources }
    }

    fn provider(&mut self, at: &str, provider: &Value) -> Option<Provider> {
        self.unknown(&format!("{at}."), provider, &KINDS);
        // A member without a value counts only for identity, which has nothing to say.
        let there = |kind: &&&str| provider.get(**kind).is_some_and(|value| !value.is_null());
        let found: Vec<&&str> = KINDS.iter().filter(there).collect();
        let kind = match found[..] {
            [kind] => *kind,
            [] => {
                self.add(format!(
                    "{at}: Invalid value: provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, \
                     Secretbox, Identity"
                ));
                return None;
            }
            _ => {
                self.add(format!(
                    "{at}: Invalid value: more than one provider specified in a single element, should split into different \
                     list elements"
                ));
                return None;
            }
        };
        let (at, value) = (format!("{at}.{kind}"), &provider[kind]);
        Some(match kind {
            "aesgcm" => Provider::Aesgcm(self.keys(&at, value, AES_SIZES)),
            "aescbc" => Provider::Aescbc(self.keys(&at, value, AES_SIZES)),
            "secretbox" => Provider::Secretbox(self.keys(&at, value, BOX_SIZES)),
            "kms" => Provider::Kms(self.kms(&at, value)?),
            _ => Provider::Identity,
        })
    }

    fn keys(&mut self, at: &str, value: &Value, sizes: &[usize]) -> Vec<Key> {
        self.unknown(&format!("{at}."), value, &["keys"]);
        let mut keys = Vec::new();
        for (i, key) in items(&value["keys"]).enumerate() {
            let at = format!("{at}.keys[{i}]");
            self.unknown(&format!("{at}."), key, &["name", "secret"]);
            let (name, secret) = (text_of(&key["name"]), text_of(&key["secret"]));
            for (member, text) in [("name", name), ("secret", secret)] {
                if text.is_empty() {
                    self.add(format!(
                        "{at}.{member}: Required value: {member} is a mandatory field for a key"
                    ));
                }
            }
            match STANDARD.decode(secret) {
                _ if secret.is_empty() => {}
                Err(_) => self
                    .add(format!("{at}.secret: Invalid value: \"REDACTED\": secrets must be base64 encoded")),
                Ok(secret) if !sizes.contains(&secret.len()) => {
                    let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
                    self.add(format!(
                        "{at}.secret: Invalid value: \"REDACTED\": secret is not of the expected length, got {}, expected \
                         one of [{}]",
                        secret.len(),
                        sizes.join(" ")
                    ));
                }
                Ok(secret) => keys.push(Key { name: name.to_owned(), secret }),
            }
        }
        if items(&value["keys"]).next().is_none() {
            self.add(format!("{at}.keys: Required value: at least one keys is required"));
        }
        keys
    }

    fn kms(&mut self, at: &str, value: &Value) -> Option<KmsConfig> {
        self.unknown(&format!("{at}."), value, &["apiVersion", "name", "cachesize", "endpoint", "timeout"]);
        let before = self.found.len();
        let name = text_of(&value["name"]);
        if name.is_empty() {
            self.add(format!("{at}.name: Required value: name is a mandatory field for a kms"));
        }
        if name.contains(':') {
            self.add(format!(
                "{at}.name: Invalid value: {name:?}: invalid KMS provider name {name}, must not contain ':'"
            ));
        }
        if self.services.iter().any(|service| service == name) {
            self.add(format!(
                "{at}.name: Invalid value: {name:?}: duplicate KMS provider name {name}, names must be unique"
            ));
        }
        self.services.push(name.to_owned());
        let timeout = match &value["timeout"] {
            Value::Null => Some(KMS_TIMEOUT),
            text => duration::parse(text_of(text)).ok().filter(|timeout| !timeout.is_zero()),
        };
        if timeout.is_none() {
            self.add(format!(
                "{at}.timeout: Invalid value: {}: timeout should be a positive value",
                value["timeout"]
            ));
        }
        let endpoint = text_of(&value["endpoint"]);
        let socket = endpoint.strip_prefix("unix:").map(|rest| rest.strip_prefix("//").unwrap_or(rest));
        if endpoint.is_empty() {
            self.add(format!("{at}.endpoint: Invalid value: \"\": endpoint is a mandatory field for a kms"));
        } else if socket.is_none() {
            let scheme = endpoint.split_once(':').map_or("", |(scheme, _)| scheme);
            self.add(format!(
                "{at}.endpoint: Invalid value: {endpoint:?}: unsupported scheme {scheme:?} for KMS provider, only unix is \
                 supported"
            ));
        }
        if text_of(&value["apiVersion"]) != "v2" {
            self.add(format!(
                "{at}.apiVersion: Invalid value: {}: KMSv1 is deprecated and not supported here, use KMSv2 instead (v2)",
                value["apiVersion"]
            ));
        }
        if !value["cachesize"].is_null() {
            self.add(format!(
                "{at}.cachesize: Invalid value: {}: cachesize is not supported in v2",
                value["cachesize"]
            ));
        }
        if self.found.len() > before {
            return None;
        }
        Some(KmsConfig { name: name.to_owned(), socket: socket?.to_owned(), timeout: timeout? })
    }
}

fn name_fault(name: &str) -> Option<&'static str> {
    let one = GroupResource::parse(name);
    if name.chars().any(char::is_uppercase) {
        return Some("resource name should not contain capital letters");
    }
    if name == "*" {
        return Some(
            "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources",
        );
    }
    if matches!(name, "apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations") {
        return Some("resources which do not have REST API/s cannot be encrypted");
    }
    match one.group.as_str() {
        "events.k8s.io" => Some(
            "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config \
             file",
        ),
        "extensions" => Some("'extensions' group has been removed and cannot be used for encryption"),
        "*" if one.resource != "*" => Some("encrypting the same resource across groups is not supported"),
        _ => None,
    }
}

fn overlaps(resources: &[GroupResource]) -> Vec<&'static str> {
    let pairs = || {
        let indexed = resources.iter().enumerate();
        indexed.flat_map(|(i, one)| resources[i + 1..].iter().map(move |other| (one, other)))
    };
    let mut found = Vec::new();
    if pairs().any(|(one, other)| one == other) {
        found.push("the same resource cannot be specified multiple times");
    }
    let overlap = |one: &GroupResource, other: &GroupResource| {
        one != other
            && (one.is_everything()
                || other.is_everything()
                || (one.group == other.group && (one.resource == "*" || other.resource == "*")))
    };
    if pairs().any(|(one, other)| overlap(one, other)) {
        found.push(
            "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will \
             be masked",
        );
    }
    found
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
