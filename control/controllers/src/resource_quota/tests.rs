//! The plan of one quota: what is written, and when nothing is.

use serde_json::json;
use skep_api::resources::read;

use super::plan::Status;

#[test]
fn status_differs_by_amount_and_not_by_how_it_is_written() {
    let status = Status { hard: read(&json!({ "cpu": "1" })), used: read(&json!({ "cpu": "500m" })) };
    assert!(!status.differs(&json!({ "hard": { "cpu": "1000m" }, "used": { "cpu": "0.5" } })));
    assert!(status.differs(&json!({ "hard": { "cpu": "2" }, "used": { "cpu": "0.5" } })));
    assert!(status.differs(&json!({ "hard": { "cpu": "1" }, "used": {} })));
    assert!(status.is_less(&json!({ "used": { "cpu": "1" } })));
    assert!(!status.is_less(&json!({ "used": { "cpu": "100m", "pods": "3" } })));
    assert!(status.is_first(&json!({ "used": { "pods": "3" } })) && status.is_first(&json!(null)));
    assert!(!status.is_first(&json!({ "used": { "cpu": "0", "pods": "3" } })));
}
