//! `pods/binding`, and `bindings` before it: the one way in which a pod gets its node.

use http::{Response, StatusCode};
use serde_json::{Value, json};
use skep_api::object;
use skep_api::status::Status;
use skep_api::validation::FieldError;

use super::Call;
use crate::body::Body;
use crate::options::WriteOptions;
use crate::storage::{Part, Scope, metadata};

/// `pods/NAME/binding`.
pub(super) async fn bind(call: &Call, body: Body) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse("CreateOptions", &call.query)?;
    let mut binding = call.sub_body(body, options.validation).await?;
    metadata::is_in_namespace(&binding, &call.info.namespace)?;
    call.admit(options.dry_run, &mut binding).await?;
    if object::name(&binding) != call.info.name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    assign(call, &call.scope(options.dry_run), &binding).await
}

/// `bindings`, the older way: the Binding itself says which pod it is for.
pub(super) async fn create(call: &Call, body: Body) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse("CreateOptions", &call.query)?;
    let mut binding = call.own_body(body, options.validation).await?;
    metadata::place(&call.scope(options.dry_run), None, &mut binding)?;
    call.admit(options.dry_run, &mut binding).await?;
    check(&binding)?;
    if object::name(&binding).is_empty() {
        return Err(Status::bad_request("Name parameter required."));
    }
    let pods = call.kinds.find("", "v1", "pods").ok_or_else(Status::no_such_path)?;
    let scope = Scope { resource: pods, ..call.scope(options.dry_run) };
    assign(call, &scope, &binding).await
}

/// Gives the pod that the binding names its node. `scope` is that of pods.
async fn assign(call: &Call, scope: &Scope<'_>, binding: &Value) -> Result<Response<Body>, Status> {
    check(binding)?;
    let (name, now) = (object::name(binding), call.server.ids().now_text());
    let propose = |pod: &Value| {
        for (title, member) in [("UID", "uid"), ("ResourceVersion", "resourceVersion")] {
            let text = |object: &Value| object::text(object, &["metadata", member]).to_owned();
            let (wanted, found) = (text(binding), text(pod));
            if !wanted.is_empty() && wanted != found {
                return Err(metadata::precondition(scope, name, [title, &wanted, &found]));
            }
        }
        bound(name, pod, binding, &now)
    };
    call.server.storage().update(scope, name, Part::Own, &propose).await?;
    let done =
        json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
    let manner = crate::respond::Manner::plain(&call.parts, &call.query);
    Ok(manner.value(StatusCode::CREATED, &done))
}

/// Whether the binding names a node. Upstream gives these errors no reason, and the code of an error of its own.
fn check(binding: &Value) -> Result<(), Status> {
    let mut errors = Vec::new();
    let kind = object::text(binding, &["target", "kind"]);
    if !matches!(kind, "" | "Node") {
        errors.push(FieldError::not_supported("target.kind", kind, &["Node", "<empty>"]).to_string());
    }
    if object::text(binding, &["target", "name"]).is_empty() {
        errors.push(FieldError::required("target.name", "").to_string());
    }
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(Status::new(500, "", one.clone())),
        several => Err(Status::new(500, "", format!("[{}]", several.join(", ")))),
    }
}

/// The pod on its node: pure.
fn bound(name: &str, pod: &Value, binding: &Value, now: &str) -> Result<Value, Status> {
    let refuse = |why: String| {
        let message = format!("Operation cannot be fulfilled on pods/binding {name:?}: {why}");
        Err(Status::new(409, "Conflict", message).about("", "pods/binding", name))
    };
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
