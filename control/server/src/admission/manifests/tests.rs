//! What files may hold, and what happens when they change.

use prometheus::TextEncoder;

use super::*;

const POLICY: &str = "apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: p.static.k8s.io}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]
  validations: [{expression: 'true'}]
";
const BINDING: &str = "apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: b.static.k8s.io}
spec: {policyName: p.static.k8s.io, validationActions: [Deny]}
";
const HOOK: &str = "apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: h.static.k8s.io}
webhooks:
- name: h.example.org
  clientConfig: {url: 'https://h.example.org/'}
  rules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]
  sideEffects: None
  admissionReviewVersions: [v1]
";

fn files(all: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in all {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn load(family: &Family, all: &[(&str, &str)]) -> Result<Objects, String> {
    let directory = files(all);
    let loaded = read(directory.path()).and_then(|files| objects(&files, family));
    loaded.map_err(|why| why.replace(&directory.path().display().to_string(), "DIR"))
}

fn names(objects: &Objects, plural: &str) -> Vec<String> {
    let all =
        objects.get(plural).map(|all| all.iter().map(|one| skep_api::object::name(one).to_owned()).collect());
    all.unwrap_or_default()
}

#[test]
fn files_are_read_in_order_documents_and_lists_one_by_one() {
    let item = |text: &str| text.replace('\n', "\n  ").replacen("apiVersion", "- apiVersion", 1);
    let list =
        format!("apiVersion: v1\nkind: List\nitems:\n{}\n", item(&BINDING.replace("b.static", "a.static")));
    let both = format!("---\n# a comment\n---\n{BINDING}--- # and another\n{POLICY}")
        .replace("# a comment\n---\n", "");
    let all = [("z.YAML", both.as_str()), ("a.yml", &list), ("b.txt", "nothing"), ("c.json", "")];
    let found = load(&VALIDATING_POLICIES, &all).unwrap();
    assert_eq!(names(&found, "validatingadmissionpolicies"), ["p.static.k8s.io"]);
    assert_eq!(names(&found, "validatingadmissionpolicybindings"), ["a.static.k8s.io", "b.static.k8s.io"]);
    let policy = &found["validatingadmissionpolicies"][0];
    assert_eq!(policy["spec"]["failurePolicy"], "Fail", "what is left out is filled in");
    let typed =
        "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfigurationList\nitems:\n";
    let hooks = typed.to_owned() + &item(HOOK);
    let found = load(&VALIDATING_WEBHOOKS, &[("a.yaml", &hooks)]).unwrap();
    assert_eq!(found["validatingwebhookconfigurations"][0]["webhooks"][0]["timeoutSeconds"], 10);
    assert!(load(&MUTATING_POLICIES, &[]).unwrap().is_empty());
}

#[test]
fn what_may_not_be_in_files_is_refused_in_upstreams_words() {
    let service = HOOK.replace("url: 'https://h.example.org/'", "service: {name: s, namespace: ns}");
    let with = |text: &str, from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    };
    let policies = &VALIDATING_POLICIES;
    let hooks = &VALIDATING_WEBHOOKS;
    for (family, text, why) in [
        (
            hooks,
            service,
            "webhook \"h.example.org\" in \"h.static.k8s.io\" (file \"DIR/a.yaml\"): clientConfig.service is not supported \
             for static manifests; use clientConfig.url instead",
        ),
        (
            hooks,
            with(HOOK, "h.static.k8s.io", "h"),
            "error loading DIR/a.yaml: \"h\" in file \"DIR/a.yaml\" must have a name ending with \".static.k8s.io\"",
        ),
        (hooks, with(HOOK, "{name: h.static.k8s.io}", "{}"), "metadata.name: Required value"),
        (
            hooks,
            with(HOOK, "sideEffects: None", "sideEffects: Some"),
            "ValidatingWebhookConfiguration \"h.static.k8s.io\": ",
        ),
        (hooks, with(HOOK, "sideEffects:", "sideEffect:"), "unknown field \"webhooks[0].sideEffect\""),
        (hooks, with(HOOK, "sideEffects: None", "sideEffects: None\n  sideEffects: None"), "sideEffects"),
        (
            hooks,
            format!("{HOOK}---\n{HOOK}"),
            "duplicate name \"h.static.k8s.io\" found in file \"DIR/a.yaml\" (previously seen",
        ),
        (
            hooks,
            with(HOOK, "Validating", "Mutating"),
            "unsupported resource type MutatingWebhookConfiguration",
        ),
        (hooks, with(HOOK, "io/v1\n", "io/v1beta1\n"), "ValidatingWebhookConfiguration"),
        (hooks, "apiVersion: v1\nkind: Pod".to_owned(), "no kind \"Pod\" is registered for version \"v1\""),
        (hooks, "a: b".to_owned(), "Object 'Kind' is missing"),
        (hooks, "{".to_owned(), "error loading DIR/a.yaml: "),
        (policies, HOOK.to_owned(), "unsupported resource type ValidatingWebhookConfiguration"),
        (
            policies,
            with(POLICY, "spec:", "spec:\n  paramKind: {apiVersion: v1, kind: ConfigMap}"),
            "ValidatingAdmissionPolicy \"p.static.k8s.io\": spec.paramKind is not supported for static manifests",
        ),
        (policies, with(POLICY, "'true'", "'true +'"), "spec.validations[0].expression"),
        (
            policies,
            BINDING.to_owned(),
            "binding \"b.static.k8s.io\" references policy \"p.static.k8s.io\" which does not exist in the manifest directory",
        ),
        (
            policies,
            with(BINDING, "p.static.k8s.io", "p"),
            "binding \"b.static.k8s.io\": spec.policyName \"p\" must end with \".static.k8s.io\"",
        ),
        (
            policies,
            with(
                BINDING,
                "validationActions",
                "paramRef: {name: x, parameterNotFoundAction: Deny}, validationActions",
            ),
            "binding \"b.static.k8s.io\": spec.paramRef is not supported for static manifests",
        ),
    ] {
        let found = load(family, &[("a.yaml", &text)]).unwrap_err();
        assert!(found.contains(why), "{why}\n{found}");
    }
}

#[test]
fn directory_is_one_and_the_feature_is_on() {
    let place = files(&[("file", "")]);
    let of =
        |path: &str, enabled: bool| directory(&serde_json::json!({ "staticManifestsDir": path }), enabled);
    let path = place.path().display().to_string();
    assert_eq!(of(&path, true), Ok(Some(place.path().to_owned())));
    assert_eq!(of("", false), Ok(None));
    assert_eq!(directory(&Value::Null, false), Ok(None));
    assert!(
        of(&path, false)
            .unwrap_err()
            .contains("requires the ManifestBasedAdmissionControlConfig feature gate")
    );
    assert!(of("relative", true).unwrap_err().ends_with("must be an absolute file path"));
    assert!(of(&format!("{path}/none"), true).unwrap_err().contains("unable to read: "));
    assert!(of(&format!("{path}/file"), true).unwrap_err().ends_with("must be a directory"));
}

#[test]
fn change_that_is_not_good_changes_nothing_and_is_counted() {
    let place = files(&[("a.yaml", HOOK)]);
    let registry = prometheus::Registry::new();
    let first = read(place.path()).unwrap();
    let manifests = Manifests {
        directory: place.path().to_owned(),
        family: &VALIDATING_WEBHOOKS,
        current: RwLock::new(objects(&first, &VALIDATING_WEBHOOKS).unwrap()),
        none: Arc::default(),
        reloads: Arc::new(PluginReloads::new(&registry, "one")),
    };
    let mut known = first.hash;
    let mut now = |text: &str| {
        std::fs::write(place.path().join("a.yaml"), text).unwrap();
        manifests.look(&mut known);
        names(&manifests.current.read(), "validatingwebhookconfigurations")
    };
    let before = manifests.of("validatingwebhookconfigurations");
    assert_eq!(now(HOOK), ["h.static.k8s.io"]);
    assert!(Arc::ptr_eq(&before, &manifests.of("validatingwebhookconfigurations")), "nothing changed");
    assert_eq!(now(&HOOK.replace("h.static", "h")), ["h.static.k8s.io"]);
    assert_eq!(now(&HOOK.replace("h.static", "h")), ["h.static.k8s.io"]);
    assert_eq!(now(&HOOK.replace("h.static", "other.static")), ["other.static.k8s.io"]);
    assert!(now("").is_empty());
    let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    let start = "apiserver_manifest_admission_config_controller_";
    for (outcome, times) in [("failure", 1), ("success", 2)] {
        let rest = format!("status=\"{outcome}\"}} {times}\n");
        let line = text.lines().find(|line| {
            line.starts_with(&format!("{start}automatic_reloads_total{{")) && line.contains(outcome)
        });
        assert!(format!("{}\n", line.unwrap_or_default()).ends_with(&rest), "{outcome} in {text}");
    }
    assert_eq!(text.matches("last_config_info{").count(), 1, "{text}");
    assert!(text.contains("plugin=\"ValidatingAdmissionWebhook\""));
}
