//! Which checks a standard consists of: one table, each check with the releases in which it changed.

use std::fmt::Write;

use serde_json::Value;

use super::policy::{Level, Standard, Version};
use super::{baseline, restricted};

/// A pod, or the template of one.
#[derive(Clone, Copy)]
pub(super) struct Pod<'a> {
    pub(super) metadata: &'a Value,
    pub(super) spec: &'a Value,
}

/// What is wrong with a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) reason: String,
    pub(super) detail: String,
}

impl Violation {
    pub(super) fn new(reason: &str, detail: impl Into<String>) -> Option<Self> {
        Some(Self { reason: reason.to_owned(), detail: detail.into() })
    }
}

type Judge = fn(Pod<'_>) -> Option<Violation>;

/// One check: since which release it is done how, and which check of the level below it replaces.
struct Check {
    id: &'static str,
    level: Level,
    since: &'static [(u32, Judge)],
    replaces: &'static str,
}

const fn base(id: &'static str, since: &'static [(u32, Judge)]) -> Check {
    Check { id, level: Level::Baseline, since, replaces: "" }
}

const fn more(id: &'static str, since: &'static [(u32, Judge)], replaces: &'static str) -> Check {
    Check { id, level: Level::Restricted, since, replaces }
}

/// In the order of messages: baseline first, then restricted, both by name as upstream sorts them.
const CHECKS: [Check; 19] = [
    base("appArmorProfile", &[(0, baseline::app_armor)]),
    base("capabilities_baseline", &[(0, baseline::capabilities)]),
    base("hostNamespaces", &[(0, baseline::host_namespaces)]),
    base("hostPathVolumes", &[(0, baseline::host_path)]),
    base("hostPorts", &[(0, baseline::host_ports)]),
    base("hostProbesAndHostLifecycle", &[(34, baseline::probe_hosts)]),
    base("privileged", &[(0, baseline::privileged)]),
    base("procMount", &[(0, baseline::proc_mount), (35, baseline::proc_mount_35)]),
    base("seLinuxOptions", &[(0, baseline::se_linux), (31, baseline::se_linux_31)]),
    base("seccompProfile_baseline", &[(0, baseline::seccomp_annotations), (19, baseline::seccomp)]),
    base(
        "sysctls",
        &[
            (0, baseline::sysctls),
            (27, baseline::sysctls_27),
            (29, baseline::sysctls_29),
            (32, baseline::sysctls_32),
        ],
    ),
    base("windowsHostProcess", &[(0, baseline::windows_host_process)]),
    more("allowPrivilegeEscalation", &[(8, restricted::escalation), (25, restricted::escalation_25)], ""),
    more(
        "capabilities_restricted",
        &[(22, restricted::capabilities), (25, restricted::capabilities_25)],
        "capabilities_baseline",
    ),
    more("procMount_restricted", &[(35, baseline::proc_mount)], "procMount"),
    more("restrictedVolumes", &[(0, restricted::volumes)], "hostPathVolumes"),
    more("runAsNonRoot", &[(0, restricted::non_root), (35, restricted::non_root_35)], ""),
    more("runAsUser", &[(23, restricted::user), (35, restricted::user_35)], ""),
    more(
        "seccompProfile_restricted",
        &[(19, restricted::seccomp), (25, restricted::seccomp_25)],
        "seccompProfile_baseline",
    ),
];

impl Check {
    fn as_of(&self, minor: u32) -> Option<Judge> {
        self.since.iter().rev().find(|(since, _)| *since <= minor).map(|(_, judge)| *judge)
    }
}

/// What a pod violates of a standard, in order.
pub(super) fn evaluate(standard: Standard, pod: Pod<'_>) -> Vec<Violation> {
    let minor = match standard.version {
        Version::Latest => u32::MAX,
        Version::Minor(minor) => minor,
    };
    if standard.level == Level::Privileged {
        return Vec::new();
    }
    let applies = |check: &&Check| check.level <= standard.level && check.as_of(minor).is_some();
    let all: Vec<&Check> = CHECKS.iter().filter(applies).collect();
    let replaced = |check: &Check| all.iter().any(|other| other.replaces == check.id);
    let judged = all.iter().filter(|check| !replaced(check)).filter_map(|check| check.as_of(minor));
    judged.filter_map(|judge| judge(pod)).collect()
}

/// The reasons alone.
pub(super) fn reasons(violations: &[Violation]) -> String {
    violations.iter().map(|one| one.reason.as_str()).collect::<Vec<_>>().join(", ")
}

/// The reasons with their details.
pub(super) fn details(violations: &[Violation]) -> String {
    let mut text = String::new();
    for (at, one) in violations.iter().enumerate() {
        let comma = if at > 0 { ", " } else { "" };
        // Writing to text does not fail.
        let _ = match one.detail.as_str() {
            "" => write!(text, "{comma}{}", one.reason),
            detail => write!(text, "{comma}{} ({detail})", one.reason),
        };
    }
    text
}
