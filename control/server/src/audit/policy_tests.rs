//! Tables of policies and requests.

use http::Method;

use super::*;
use crate::query::Query;

fn request(line: &str) -> RequestInfo {
    let (method, target) = line.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    RequestInfo::parse(&method.parse::<Method>().unwrap(), path, &Query::parse(query))
}

fn policy(rules: &str) -> Policy {
    Policy::parse(format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n{rules}").as_bytes()).unwrap()
}

#[track_caller]
fn check(rule: &str, line: &str, fits: bool) {
    let user = UserInfo::new("ann", &["devs"]);
    let policy = policy(&format!("- {{level: Metadata, {rule}}}\n"));
    let found = policy.judge(Some(&user), &request(line)).level;
    assert_eq!(found == Level::Metadata, fits, "{rule} on {line}");
}

#[test]
fn rule_fits_what_upstreams_would() {
    let pod = "GET /api/v1/namespaces/a/pods/b";
    let log = "GET /api/v1/namespaces/a/pods/b/log";
    let scale = "PUT /apis/apps/v1/namespaces/a/deployments/d/scale";
    for (rule, line, fits) in [
        ("", pod, true),
        ("users: [ann]", pod, true),
        ("users: [bob]", pod, false),
        ("userGroups: [devs, ops]", pod, true),
        ("userGroups: [ops]", pod, false),
        ("verbs: [get]", pod, true),
        ("verbs: [list]", pod, false),
        ("verbs: ['*']", pod, false),
        ("namespaces: [a]", pod, true),
        ("namespaces: [c]", pod, false),
        ("namespaces: ['']", "GET /api/v1/nodes", true),
        ("namespaces: ['']", pod, false),
        ("resources: [{group: ''}]", pod, true),
        ("resources: [{group: apps}]", pod, false),
        ("resources: [{group: '*', resources: [deployments/scale]}]", scale, true),
        ("resources: [{group: '', resources: [pods]}]", pod, true),
        ("resources: [{group: '', resources: [pods]}]", log, false),
        ("resources: [{group: '', resources: [pods/log]}]", log, true),
        ("resources: [{group: '', resources: ['pods/*']}]", log, true),
        ("resources: [{group: '', resources: ['pods/*']}]", pod, true),
        ("resources: [{group: '', resources: ['*/log']}]", log, true),
        ("resources: [{group: '', resources: ['*/log']}]", pod, false),
        ("resources: [{group: '', resources: ['*']}]", log, true),
        ("resources: [{group: '', resources: [pods], resourceNames: [b]}]", pod, true),
        ("resources: [{group: '', resources: [pods], resourceNames: [c]}]", pod, false),
        ("resources: [{group: ''}]", "GET /healthz", false),
        ("nonResourceURLs: ['/healthz*']", "GET /healthz/etcd", true),
        ("nonResourceURLs: ['/healthz']", "GET /healthz/etcd", false),
        ("nonResourceURLs: ['*']", "GET /version", true),
        ("nonResourceURLs: ['*']", pod, false),
    ] {
        check(rule, line, fits);
    }
}

#[test]
fn rule_about_users_does_not_fit_nobody() {
    let policy = policy("- {level: None, userGroups: ['system:unauthenticated']}\n- {level: Metadata}\n");
    assert_eq!(policy.judge(None, &request("GET /api")).level, Level::Metadata);
}

#[test]
fn first_rule_that_fits_decides_and_stages_add_up() {
    let text = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nomitManagedFields: true\nrules:\n\
                - {level: None, verbs: [watch]}\n- {level: Request, omitStages: [Panic], omitManagedFields: false}\n\
                - {level: RequestResponse}\n";
    let policy = Policy::parse(text.as_bytes()).unwrap();
    assert_eq!(policy.judge(None, &request("GET /api/v1/pods?watch=1")).level, Level::None);
    let verdict = policy.judge(None, &request("GET /api/v1/pods"));
    let stages = vec![Stage::RequestReceived, Stage::Panic];
    assert_eq!(verdict, Verdict { level: Level::Request, omit_stages: stages, omit_managed_fields: false });
}

#[test]
fn request_that_no_rule_fits_is_not_written_down() {
    let policy = policy("- {level: Metadata, verbs: [delete]}\n");
    assert_eq!(policy.judge(None, &request("GET /api/v1/pods")).level, Level::None);
}

#[test]
fn policy_with_faults_is_refused_in_upstreams_words() {
    let head = "apiVersion: audit.k8s.io/v1\nkind: Policy\n";
    for (text, fault) in [
        (format!("{head}rules: []"), "loaded illegal policy with 0 rules"),
        ("kind: Policy\nrules: []".into(), "unknown group version field"),
        (
            format!("{head}rules: [{{level: All}}]"),
            "rules[0].level: Unsupported value: \"All\": supported values: \"None\", \"Metadata\"",
        ),
        (format!("{head}rules: [{{verbs: [get]}}]"), "rules[0].level: Required value"),
        (
            format!("{head}omitStages: [Begin]\nrules: [{{level: None}}]"),
            "omitStages[0]: Invalid value: \"Begin\": allowed stages are RequestReceived,",
        ),
        (
            format!("{head}rules: [{{level: None, nonResourceURLs: [/a], namespaces: [b]}}]"),
            "rules cannot apply to both regular resources and non-resource URLs",
        ),
        (
            format!("{head}rules: [{{level: None, nonResourceURLs: ['/a*b']}}]"),
            "must be the final character of the rule",
        ),
        (
            format!("{head}rules: [{{level: None, resources: [{{group: apps/v1}}]}}]"),
            "rules[0].resources.group: Invalid value: \"apps/v1\"",
        ),
        (
            format!("{head}rules: [{{level: None, resources: [{{resourceNames: [x]}}]}}]"),
            "using resourceNames requires at least one resource",
        ),
    ] {
        let found = Policy::parse(text.as_bytes()).unwrap_err();
        assert!(found.contains(fault), "{text}: {found}");
    }
}

#[test]
fn policy_with_unknown_fields_is_taken() {
    assert_eq!(policy("- {level: Metadata, colour: red}\n").rules.len(), 1);
}
