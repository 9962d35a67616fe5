//! `PodSecurityConfiguration` (`pod-security.admission.config.k8s.io/v1`): what holds where namespaces say nothing, and
//! who is exempt.

use serde_json::Value;
use skep_api::object::{at, items, text};
use skep_api::validation::names::{dns_label, dns_subdomain};

use super::policy::{LEVELS, Level, Policy, Standard, VERSIONS, Version};
use crate::admission::ConfigError;
use crate::admission::config::strict;

/// What the plug-in goes by.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) defaults: Policy,
    pub(super) usernames: Vec<String>,
    pub(super) runtime_classes: Vec<String>,
    pub(super) namespaces: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            defaults: Policy::OPEN,
            usernames: Vec::new(),
            runtime_classes: Vec::new(),
            namespaces: Vec::new(),
        }
    }
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn read(value: &Value) -> Result<Self, ConfigError> {
        Self::parse(value).map_err(|reason| ConfigError::Plugin { name: "PodSecurity", reason })
    }

    fn parse(value: &Value) -> Result<Self, String> {
        strict(value, &["apiVersion", "kind", "defaults", "exemptions"])?;
        let version = text(value, &["apiVersion"]).strip_prefix("pod-security.admission.config.k8s.io/");
        if !matches!(version, Some("v1" | "v1beta1" | "v1alpha1"))
            || text(value, &["kind"]) != "PodSecurityConfiguration"
        {
            return Err(
                "expected PodSecurityConfiguration of pod-security.admission.config.k8s.io/v1".to_owned()
            );
        }
        let standard = |mode: &str| -> Result<Standard, String> {
            let level = match text(value, &["defaults", mode]) {
                "" => Level::Privileged,
                level => Level::parse(level)
                    .ok_or_else(|| format!("defaults.{mode}: Invalid value: {level:?}: {LEVELS}"))?,
            };
            let name = format!("{mode}-version");
            let version = match text(value, &["defaults", &name]) {
                "" => Version::Latest,
                version => Version::parse(version)
                    .ok_or_else(|| format!("defaults.{name}: Invalid value: {version:?}: {VERSIONS}"))?,
            };
            Ok(Standard { level, version })
        };
        if let Some(defaults) = at(value, &["defaults"]) {
            let known = ["enforce", "enforce-version", "audit", "audit-version", "warn", "warn-version"];
            strict(defaults, &known)?;
        }
        if let Some(exemptions) = at(value, &["exemptions"]) {
            strict(exemptions, &["usernames", "runtimeClasses", "namespaces"])?;
        }
        Ok(Self {
            defaults: Policy {
                enforce: standard("enforce")?,
                audit: standard("audit")?,
                warn: standard("warn")?,
            },
            usernames: exempt(value, "usernames", |name| !name.is_empty())?,
            runtime_classes: exempt(value, "runtimeClasses", |name| dns_subdomain(name).is_ok())?,
            namespaces: exempt(value, "namespaces", |name| dns_label(name).is_ok())?,
        })
    }
}

fn exempt(value: &Value, list: &str, is_valid: impl Fn(&str) -> bool) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = Vec::new();
    for (at, name) in items(value, &["exemptions", list]).iter().enumerate() {
        let name = name.as_str().unwrap_or_default();
        if !is_valid(name) {
            return Err(format!("exemptions.{list}[{at}]: Invalid value: {name:?}"));
        }
        if names.iter().any(|other| other == name) {
            return Err(format!("exemptions.{list}[{at}]: Duplicate value: {name:?}"));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}
