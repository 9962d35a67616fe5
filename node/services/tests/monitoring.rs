//! The dashboard and the alert rules ask for metrics that exist; promtool takes the rules and their unit tests.
#![allow(clippy::unwrap_used)] // a test

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use skep_maps::fake::FakeDataplane;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../monitoring")
}

/// The names in `text` that look like our metrics.
fn metrics_in(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("skep_") || word.starts_with("kubeproxy_"))
        .map(|word| word.trim_end_matches("_bucket").to_owned())
        .collect()
}

/// The names that the source of the service part and of the datapath give to metrics.
fn known() -> BTreeSet<String> {
    let folders =
        ["../services/src", "../dataplane/src"].map(|f| Path::new(env!("CARGO_MANIFEST_DIR")).join(f));
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let mut text = String::new();
    for file in
        files.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "rs"))
    {
        text.push_str(&std::fs::read_to_string(file).unwrap());
    }
    text.split('"').map(str::to_owned).collect()
}

#[test]
fn dashboard_and_alerts_name_only_metrics_that_exist() {
    let known = known();
    for file in ["dashboard.json", "alerts.yaml"] {
        let text = std::fs::read_to_string(folder().join(file)).unwrap();
        let asked = metrics_in(&text);
        assert!(asked.len() > 5, "{file} asks for {asked:?}");
        let unknown: Vec<_> = asked.difference(&known).collect();
        assert!(unknown.is_empty(), "{file} asks for {unknown:?}");
    }
}

#[test]
fn dashboard_is_json_with_a_title_and_query_in_every_panel() {
    let text = std::fs::read_to_string(folder().join("dashboard.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(!panels.is_empty());
    for panel in panels {
        assert!(panel["title"].is_string() && panel["targets"][0]["expr"].is_string(), "{panel}");
    }
}

#[test]
fn kube_proxys_metric_names_are_registered() {
    let registry = prometheus::Registry::new();
    let _metrics = skep_services::Metrics::register(&registry, Arc::new(FakeDataplane::new(8, 8))).unwrap();
    let names: BTreeSet<String> = registry.gather().iter().map(|f| f.name().to_owned()).collect();
    for name in [
        "kubeproxy_sync_proxy_rules_duration_seconds",
        "kubeproxy_network_programming_duration_seconds",
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
        "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
    ] {
        assert!(names.contains(name), "{name} is not among {names:?}");
    }
}

#[test]
fn promtool_takes_the_rules_and_their_tests() {
    let tiers = std::env::var("SKEP_TEST_TIERS").unwrap_or_default();
    if !tiers.split(',').any(|tier| tier == "prometheus") {
        eprintln!(
            "skipped: SKEP_TEST_TIERS does not contain `prometheus` (needs Debian's package prometheus)"
        );
        return;
    }
    for arguments in [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]] {
        let output = Command::new("promtool").args(arguments).current_dir(folder()).output();
        let output = output.expect("promtool is missing: apt-get install prometheus");
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "promtool {arguments:?}: {text}");
    }
}
