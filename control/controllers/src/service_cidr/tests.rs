//! Networks and the addresses in them, as tables.

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use serde_json::{Value, json};

use super::FINALIZER;
use super::plan::{GRACE, Network, Step, address, networks, plan};

fn cidr(cidrs: &[&str], more: Value) -> ServiceCIDR {
    let mut object = json!({ "metadata": { "name": "a" }, "spec": { "cidrs": cidrs } });
    for (member, value) in more.as_object().unwrap() {
        match object[member].as_object_mut() {
            Some(old) => old.extend(value.as_object().unwrap().clone()),
            None => object[member] = value.clone(),
        }
    }
    serde_json::from_value(object).unwrap()
}

fn next(object: &ServiceCIDR, others: &[&str], addresses: &[&str], now: &str) -> Step {
    let others: Vec<Network> = networks(&cidr(others, json!({})));
    let addresses = addresses.iter().map(|text| text.parse().unwrap());
    plan(object, &others, addresses, now.parse::<Timestamp>().unwrap())
}

const DELETED: &str = "2026-01-01T00:00:00Z";
const LATER: &str = "2026-01-01T00:01:00Z";

fn ready(status: &str, reason: &str) -> Value {
    let condition = json!({ "type": "Ready", "status": status, "reason": reason, "message": "", "lastTransitionTime": DELETED });
    json!({ "conditions": [condition] })
}

#[test]
fn new_network_is_protected_and_then_said_to_be_ready() {
    let plain = cidr(&["10.0.0.0/24"], json!({}));
    assert_eq!(next(&plain, &[], &[], LATER), Step::Protect);
    let protected = cidr(&["10.0.0.0/24"], json!({ "metadata": { "finalizers": [FINALIZER] } }));
    let Step::Say(said) = next(&protected, &[], &[], LATER) else { panic!("nothing is said") };
    assert_eq!(said.status, "True");
    let done = json!({ "metadata": { "finalizers": [FINALIZER] }, "status": ready("True", "") });
    assert_eq!(next(&cidr(&["10.0.0.0/24"], done), &[], &[], LATER), Step::Nothing);
}

#[test]
fn deleted_network_waits_for_its_addresses_or_another_network() {
    let going = json!({ "finalizers": [FINALIZER], "deletionTimestamp": DELETED });
    let object = cidr(&["10.0.0.0/24"], json!({ "metadata": going }));
    let Step::Say(said) = next(&object, &[], &["10.0.0.7"], LATER) else { panic!("nothing is said") };
    assert_eq!(said.status, "False");
    let told = cidr(&["10.0.0.0/24"], json!({ "metadata": going, "status": ready("False", "Terminating") }));
    assert_eq!(next(&told, &[], &["10.0.0.7"], LATER), Step::Nothing);
    assert_eq!(next(&told, &[], &["10.0.1.7", "fd00::7"], LATER), Step::Release);
    assert_eq!(next(&told, &["10.0.0.0/16"], &["10.0.0.7"], LATER), Step::Release);
    assert_eq!(next(&told, &["10.0.0.0/28"], &["10.0.0.7"], LATER), Step::Release);
    assert_eq!(next(&told, &["10.0.0.0/28"], &["10.0.0.77"], LATER), Step::Nothing);
    assert_eq!(next(&told, &[], &[], DELETED), Step::Wait(GRACE));
}

#[test]
fn addresses_of_others_keep_no_network() {
    let record = |labels: Value| -> IPAddress {
        serde_json::from_value(json!({ "metadata": { "name": "10.0.0.7", "labels": labels } })).unwrap()
    };
    let own = json!({ "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io" });
    assert_eq!(address(&record(own)), Some("10.0.0.7".parse().unwrap()));
    assert_eq!(address(&record(json!({}))), None);
}
