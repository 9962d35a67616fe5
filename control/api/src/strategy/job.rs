//! Jobs: the selector and labels that tie pods to their Job, unless the owner brings their own.

use serde_json::{Value, json};

use crate::object::{at, flag, name, set, uid};

pub(super) fn create(job: &mut Value) {
    if flag(job, &["spec", "manualSelector"]) || uid(job).is_empty() || !job["spec"]["template"].is_object() {
        return;
    }
    let (name, uid) = (name(job).to_owned(), uid(job).to_owned());
    let metadata = &mut job["spec"]["template"]["metadata"];
    if !metadata.is_object() {
        *metadata = json!({});
    }
    if !metadata["labels"].is_object() {
        set(metadata, "labels", json!({}));
    }
    for (key, value) in [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("job-name", &name),
    ] {
        set(&mut metadata["labels"], key, value.clone());
    }
    // As upstream, which takes a Job's labels from its template whenever it reads one without.
    if at(job, &["metadata", "labels"]).is_none() {
        let labels = job["spec"]["template"]["metadata"]["labels"].clone();
        set(&mut job["metadata"], "labels", labels);
    }
    if at(job, &["spec", "selector"]).is_none() {
        set(
            &mut job["spec"],
            "selector",
            json!({ "matchLabels": { "batch.kubernetes.io/controller-uid": uid } }),
        );
    }
}
