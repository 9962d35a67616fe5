//! Levels, versions and the labels by which a namespace chooses them (`pod-security.kubernetes.io/...`).

use std::fmt;

use serde_json::Value;
use skep_api::validation::FieldError;

/// How much is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Self::Privileged),
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

pub(super) const LEVELS: &str = "must be one of privileged, baseline, restricted";
pub(super) const VERSIONS: &str = "must be \"latest\" or \"v1.x\"";

/// The release whose checks apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Version {
    Latest,
    /// 1.x
    Minor(u32),
}

impl Version {
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Self::Latest);
        }
        let minor = text.strip_prefix("v1.")?;
        let canonical = minor == "0" || !minor.starts_with('0');
        (canonical && minor.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| minor.parse().ok().map(Self::Minor))
            .flatten()
    }
}

/// A level as of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Standard {
    pub(super) level: Level,
    pub(super) version: Version,
}

impl Standard {
    pub(super) const OPEN: Self = Self { level: Level::Privileged, version: Version::Latest };

    fn is_like(&self, other: &Self) -> bool {
        (self.level == Level::Privileged && other.level == Level::Privileged) || self == other
    }
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = self.level.name();
        match self.version {
            Version::Latest => write!(f, "{level}:latest"),
            Version::Minor(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

/// What a namespace asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) enforce: Standard,
    pub(super) audit: Standard,
    pub(super) warn: Standard,
}

impl Policy {
    pub(super) const OPEN: Self =
        Self { enforce: Standard::OPEN, audit: Standard::OPEN, warn: Standard::OPEN };

    pub(super) fn is_open(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|one| one.level == Level::Privileged)
    }

    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.enforce.is_like(&other.enforce)
            && self.audit.is_like(&other.audit)
            && self.warn.is_like(&other.warn)
    }
}

pub(super) fn label(mode: &str) -> String {
    format!("pod-security.kubernetes.io/{mode}")
}

/// The policy that the labels of a namespace say, where they say nothing that of `defaults`; with what is wrong in them.
/// What cannot be read is enforced as restricted, and neither audited nor warned about.
pub(super) fn of_labels(labels: &Value, defaults: Policy) -> (Policy, Vec<FieldError>) {
    let mut faults = Vec::new();
    let mut policy = defaults;
    let modes = [
        ("enforce", &mut policy.enforce, Level::Restricted),
        ("audit", &mut policy.audit, Level::Privileged),
        ("warn", &mut policy.warn, Level::Privileged),
    ];
    let mut read = |name: &str, why: &str, ok: bool, text: &str| {
        if !ok {
            faults.push(FieldError::invalid(format!("metadata.labels[{}]", label(name)), text, why));
        }
    };
    let mut enforced = false;
    for (mode, standard, otherwise) in modes {
        if let Some(text) = labels[label(mode)].as_str() {
            let level = Level::parse(text);
            enforced |= mode == "enforce" && level.is_some();
            read(mode, LEVELS, level.is_some(), text);
            standard.level = level.unwrap_or(otherwise);
        }
        let name = format!("{mode}-version");
        if let Some(text) = labels[label(&name)].as_str() {
            let version = Version::parse(text);
            read(&name, VERSIONS, version.is_some(), text);
            standard.version = version.unwrap_or(Version::Latest);
        }
    }
    // Who enforces wants to know what would be refused by it in workloads, too.
    let says = |name: &str| labels[label(name)].is_string();
    if !says("warn") && enforced && policy.enforce.level > policy.warn.level {
        policy.warn.level = policy.enforce.level;
        if !says("warn-version") {
            policy.warn.version = policy.enforce.version;
        }
    }
    (policy, faults)
}
