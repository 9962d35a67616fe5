//! Tables of configurations and their faults.

use super::*;

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn configuration(rules: &str) -> String {
    format!("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n{rules}")
}

#[test]
fn configuration_of_upstreams_documentation_is_taken() {
    let rules = parse(
        configuration(&format!(
            "- resources: [secrets, configmaps, pandas.awesome.bears.example]\n  providers:\n  - identity: {{}}\n  \
             - aesgcm: {{keys: [{{name: key1, secret: {KEY}}}, {{name: key2, secret: {KEY}}}]}}\n  \
             - aescbc: {{keys: [{{name: key1, secret: {KEY}}}]}}\n  \
             - secretbox: {{keys: [{{name: key1, secret: {KEY}}}]}}\n\
             - resources: [events]\n  providers: [{{identity: {{}}}}]\n\
             - resources: ['*.apps']\n  providers:\n  - aescbc: {{keys: [{{name: key2, secret: {KEY}}}]}}\n\
             - resources: ['*.*']\n  providers:\n  - kms: {{apiVersion: v2, name: k, endpoint: 'unix:///tmp/k.sock'}}\n"
        ))
        .as_bytes(),
    )
    .unwrap();
    assert_eq!(rules.len(), 4);
    assert_eq!(rules[0].resources[2].to_string(), "pandas.awesome.bears.example");
    assert_eq!((rules[0].providers.len(), &rules[0].providers[0]), (4, &Provider::Identity));
    let kms = KmsConfig { name: "k".into(), socket: "/tmp/k.sock".into(), timeout: Duration::from_secs(3) };
    assert_eq!(rules[3].providers, [Provider::Kms(kms)]);
}

#[track_caller]
fn check(rules: &str, fault: &str) {
    let found = parse(configuration(rules).as_bytes()).unwrap_err();
    assert!(found.contains(fault), "{rules}: {found}");
    assert!(!found.contains("MDEy"), "a secret is in the message: {found}");
}

#[test]
fn faults_are_told_in_upstreams_words_and_without_secrets() {
    let short = "MDEyMzQ1Njc4OQ==";
    let aes = |secret: &str| {
        format!(
            "- {{resources: [secrets], providers: [{{aesgcm: {{keys: [{{name: a, secret: {secret}}}]}}}}]}}"
        )
    };
    check("", "resources: Required value: at least one resources is required");
    check("- {resources: [], providers: [{identity: {}}]}", "resources[0].resources: Required value");
    check("- {resources: [secrets]}", "resources[0].providers: Required value");
    check(
        &aes(short),
        "\"REDACTED\": secret is not of the expected length, got 10, expected one of [16 24 32]",
    );
    check(&aes("'MDEy*'"), "\"REDACTED\": secrets must be base64 encoded");
    check("- {resources: [secrets], providers: [{aesgcm: {keys: []}}]}", "at least one keys is required");
    check("- {resources: [secrets], providers: [{}]}", "does not contain any of the expected providers");
    check(
        "- {resources: [secrets], providers: [{identity: {}, aescbc: {}}]}",
        "more than one provider specified",
    );
    check(
        "- {resources: [secrets], providers: [{rot13: {}}]}",
        "unknown field \"resources[0].providers[0].rot13\"",
    );
    let identity =
        |resources: &str| format!("- {{resources: [{resources}], providers: [{{identity: {{}}}}]}}");
    check(&identity("Secrets"), "should not contain capital letters");
    check(&identity("'*'"), "use '*.' to encrypt all the resources");
    check(&identity("events.events.k8s.io"), "Use 'events' instead");
    check(&identity("'secrets.*'"), "across groups is not supported");
    check(&identity("secrets, secrets"), "cannot be specified multiple times");
    check(&identity("secrets, '*.'"), "using overlapping resources");
    check(&identity("secrets, '*.*'"), "using overlapping resources");
    check(
        &format!("{}\n{}", identity("'*.apps'"), identity("deployments.apps")),
        "resource \"deployments.apps\" is masked by earlier rule \"*.apps\"",
    );
    let kms = |rest: &str| format!("- {{resources: [secrets], providers: [{{kms: {{{rest}}}}}]}}");
    check(&kms("apiVersion: v2, name: 'a:b', endpoint: 'unix:///s'"), "must not contain ':'");
    check(&kms("apiVersion: v2, name: a, endpoint: 'tcp://s'"), "unsupported scheme \"tcp\"");
    check(&kms("apiVersion: v2, name: a, endpoint: 'unix:///s', timeout: 0s"), "should be a positive value");
    check(
        &kms("apiVersion: v2, name: a, endpoint: 'unix:///s', cachesize: 5"),
        "cachesize is not supported in v2",
    );
    check(&kms("name: a, endpoint: 'unix:///s'"), "use KMSv2 instead");
    let one = "{kms: {apiVersion: v2, name: a, endpoint: 'unix:///s'}}";
    check(&format!("- {{resources: [secrets], providers: [{one}, {one}]}}"), "names must be unique");
}

#[test]
fn narrowest_rule_covers() {
    for (rule, group, resource, covers, rank) in [
        ("secrets", "", "secrets", true, 2),
        ("secrets", "apps", "secrets", false, 2),
        ("*.", "", "pods", true, 1),
        ("*.apps", "apps", "deployments", true, 1),
        ("*.apps", "", "pods", false, 1),
        ("*.*", "x.example", "ys", true, 0),
    ] {
        let rule = GroupResource::parse(rule);
        assert_eq!((rule.covers(group, resource), rule.rank()), (covers, rank), "{rule}");
    }
}
