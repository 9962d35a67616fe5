//! What is deleted in which order, and what the status says.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::ObjectMeta;
use kube::discovery::{ApiCapabilities, ApiResource, Scope};

use super::plan::{Kind, Remaining, kinds, merge};

fn resource(group: &str, plural: &str, scope: Scope, verbs: &[&str]) -> (ApiResource, ApiCapabilities) {
    let resource = ApiResource {
        group: group.into(),
        version: "v1".into(),
        api_version: "v1".into(),
        kind: plural.into(),
        plural: plural.into(),
    };
    let operations = verbs.iter().map(|verb| (*verb).to_owned()).collect();
    (resource, ApiCapabilities { scope, subresources: Vec::new(), operations })
}

fn config_maps() -> Kind {
    kinds([resource("", "configmaps", Scope::Namespaced, &["list", "delete"])]).remove(0)
}

#[test]
fn kinds_pods_come_first_and_what_cannot_be_deleted_is_left_out() {
    let all = ["list", "delete", "deletecollection"];
    let kinds = kinds([
        resource("apps", "deployments", Scope::Namespaced, &all),
        resource("", "configmaps", Scope::Namespaced, &all[..2]),
        resource("", "pods", Scope::Namespaced, &all),
        resource("", "nodes", Scope::Cluster, &all),
        resource("authorization.k8s.io", "reviews", Scope::Namespaced, &["create"]),
    ]);
    let order: Vec<(&str, bool)> = kinds.iter().map(|k| (k.resource.plural.as_str(), k.collection)).collect();
    assert_eq!(order, [("pods", true), ("configmaps", false), ("deployments", true)]);
}

#[test]
fn conditions_name_what_remains_and_who_holds_it() {
    let mut remaining = Remaining::default();
    assert!(remaining.is_nothing());
    let held = ObjectMeta { finalizers: Some(vec!["example.com/x".into()]), ..ObjectMeta::default() };
    remaining.add(&config_maps(), &[held, ObjectMeta::default()]);
    assert!(!remaining.is_nothing());
    let conditions = remaining.conditions(&Time(Timestamp::UNIX_EPOCH));
    let of = |type_: &str| {
        let condition = conditions.iter().find(|condition| condition.type_ == type_).unwrap();
        (condition.status.clone(), condition.message.clone().unwrap())
    };
    let (status, message) = of("NamespaceContentRemaining");
    assert_eq!(status, "True");
    assert_eq!(message, "Some resources are remaining: configmaps. has 2 resource instances");
    let (_, message) = of("NamespaceFinalizersRemaining");
    assert!(message.ends_with("example.com/x in 1 resource instances"), "{message}");
    assert_eq!(of("NamespaceDeletionContentFailure").0, "False");
}

#[test]
fn merge_writes_only_what_is_news() {
    let conditions = Remaining::default().conditions(&Time(Timestamp::UNIX_EPOCH));
    let merged = merge(&[], conditions).unwrap();
    let later = Remaining::default().conditions(&Time(Timestamp::MAX));
    assert_eq!(merge(&merged, later), None);
}

#[test]
fn look_again_backs_off_and_does_not_outwait_the_grace_period() {
    let remaining = Remaining::default();
    assert_eq!(remaining.look_again(0), Duration::from_secs(1));
    assert_eq!(remaining.look_again(40), Duration::from_secs(32));
    let graceful = Remaining { grace: 2, ..Remaining::default() };
    assert_eq!(graceful.look_again(3), Duration::from_secs(3));
}
