//! `pods/binding`: the one way in which a pod gets its node.

use http::{Response, StatusCode};
use serde_json::{Value, json};
use skep_api::registry::Resource;
use skep_api::status::Status;
use skep_api::validation::FieldError;

use super::Call;
use crate::body::Body;
use crate::options::WriteOptions;
use crate::storage::Part;

pub(super) async fn bind(call: &Call, body: Body) -> Result<Response<Body>, Status> {
    let manner = crate::respond::Manner::plain(&call.parts, &call.query);
    let options = WriteOptions::parse("CreateOptions", &call.query)?;
    let (mut binding, warnings) = call.sub_body(body, options.validation).await?;
    call.admit(options.dry_run, &mut binding).await?;
    check(call, &binding)?;
    let now = call.server.ids().now_text();
    let propose = |pod: &Value| bound(&call.resource, &call.info.name, pod, &binding, &now);
    call.server.storage().update(&call.scope(options.dry_run), &call.info.name, Part::Own, &propose).await?;
    let done =
        json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
    let mut response = manner.value(StatusCode::CREATED, &done);
    crate::respond::warn(&mut response, &warnings);
    Ok(response)
}

fn check(call: &Call, binding: &Value) -> Result<(), Status> {
    let name = binding["metadata"]["name"].as_str().unwrap_or_default();
    if !name.is_empty() && name != call.info.name {
        let why = format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.info.name
        );
        return Err(Status::bad_request(why));
    }
    let mut errors = Vec::new();
    let kind = binding["target"]["kind"].as_str().unwrap_or_default();
    if !matches!(kind, "" | "Node") {
        errors.push(FieldError::not_supported("target.kind", kind, &["Node", "<empty>"]));
    }
    if binding["target"]["name"].as_str().unwrap_or_default().is_empty() {
        errors.push(FieldError::required("target.name", ""));
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(&call.resource, &call.info.name, errors)) }
}

/// The pod on its node: pure.
fn bound(resource: &Resource, name: &str, pod: &Value, binding: &Value, now: &str) -> Result<Value, Status> {
    let refuse = |why: String| Err(Status::conflict(resource, name, &why));
    let uid = binding["metadata"]["uid"].as_str().unwrap_or_default();
    if !uid.is_empty() && pod["metadata"]["uid"] != uid {
        return refuse(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            pod["metadata"]["uid"].as_str().unwrap_or_default()
        ));
    }
    if pod["metadata"]["deletionTimestamp"].is_string() {
        return refuse(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    if let Some(node) = pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty()) {
        return refuse(format!("pod {name} is already assigned to node {node:?}"));
    }
    let mut pod = pod.clone();
    pod["spec"]["nodeName"] = binding["target"]["name"].clone();
    for member in ["annotations", "labels"] {
        for (key, value) in binding["metadata"][member].as_object().into_iter().flatten() {
            pod["metadata"][member][key.as_str()] = value.clone();
        }
    }
    let mut conditions = pod["status"]["conditions"].as_array_mut().map(std::mem::take).unwrap_or_default();
    conditions.retain(|condition| condition["type"] != "PodScheduled");
    conditions.push(json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now,
    }));
    pod["status"]["conditions"] = json!(conditions);
    Ok(pod)
}
