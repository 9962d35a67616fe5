use serde_json::json;
use skep_api::resources::read;

use super::plan::{Status, replacing};

#[test]
fn status_differs_by_amount_and_not_by_how_it_is_written() {
    let status = Status { hard: read(&json!({ "cpu": "1" })), used: read(&json!({ "cpu": "500m" })) };
    assert!(!status.differs(&json!({ "hard": { "cpu": "1000m" }, "used": { "cpu": "0.5" } })));
    assert!(status.differs(&json!({ "hard": { "cpu": "2" }, "used": { "cpu": "0.5" } })));
    assert!(status.differs(&json!({ "hard": { "cpu": "1" }, "used": {} })));
    assert!(status.is_less(&json!({ "used": { "cpu": "1" } })));
    assert!(!status.is_less(&json!({ "used": { "cpu": "100m", "pods": "3" } })));
}

#[test]
fn patch_takes_out_what_is_not_limited_any_more() {
    let old = [("pods", "1"), ("cpu", "1")].map(|(name, amount)| {
        (name.to_owned(), k8s_openapi::apimachinery::pkg::api::resource::Quantity(amount.to_owned()))
    });
    let patch = replacing(Some(&old.into()), &read(&json!({ "cpu": "2" })));
    assert_eq!(patch, json!({ "cpu": "2", "pods": null }));
}
