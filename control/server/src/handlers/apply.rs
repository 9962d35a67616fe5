//! Server-side apply (`application/apply-patch+yaml`) to an object or its status; the object is made when it is not there.
//!
//! Owns the wiring: options, body, who may create, and trying again. What applying means is in `skep_api::apply`.

use http::{Response, StatusCode};
use serde_json::{Value, json};
use skep_api::apply as machine;
use skep_api::decode::{self, FieldValidation};
use skep_api::status::Status;

use super::Call;
use crate::body::Body;
use crate::negotiate::{self, Number};
use crate::options::ApplyOptions;
use crate::storage::{Ownership, Scope, metadata};

/// What was applied last by a client that merges itself.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Annotations are at most so long together (bytes).
const LONGEST_ANNOTATION: usize = 256 * 1024;

/// The media type.
pub(super) const APPLY: &str = "application/apply-patch+yaml";

/// Whether the request is an apply.
pub(super) fn is_apply(call: &Call) -> bool {
    negotiate::content_type(&call.parts.headers) == APPLY
}

pub(super) async fn apply(call: &Call, body: Body) -> Result<Response<Body>, Status> {
    let manner = call.manner(Number::One)?;
    let options = ApplyOptions::parse(&call.query)?;
    let bytes = call.read(body).await?;
    call.record.patched(&bytes);
    let decode::Applied { value: mut applied, undeclared, duplicates } =
        decode::applied(&call.resource, &bytes)?;
    check(call, &mut applied)?;
    let warnings = complain(call, &applied, undeclared, duplicates, options.write.validation)?;
    warnings.into_iter().for_each(|warning| call.notes.warn(warning));
    let scope = Scope { ownership: Ownership::Decided, ..call.scope(options.write.dry_run) };
    let now = call.server.ids().now_text();
    let conversions = machine::Conversions::default();
    let writer = scope.writer(&options.manager, &now, &conversions);
    let propose = |current: &Value| {
        let mut object = machine::apply(&writer, current, &applied, options.force)?;
        if options.manager == "kubectl" {
            remember(&applied, &mut object);
        }
        // What is merged is in canonical form; the warnings about it were given for the applied object.
        decode::check(&call.resource, &mut object, FieldValidation::Ignore)?;
        Ok(object)
    };
    let storage = call.server.storage();
    let name = &call.info.name;
    let mut tries = 0;
    let (code, object) = loop {
        tries += 1;
        match storage.update_converted(&scope, name, call.part(), &propose, Some(&conversions)).await {
            Err(status) if status.code == 404 && call.info.subresource.is_empty() => {
                metadata::is_named(&applied, name)?;
                let _inside = call.enter().await?;
                let object = fresh(call, &writer, &applied, options.force).await?;
                match storage.create(&scope, object).await {
                    Err(status) if status.reason == "AlreadyExists" && tries < 5 => {}
                    made => break (StatusCode::CREATED, made?),
                }
            }
            outcome => break (StatusCode::OK, outcome?),
        }
    };
    Ok(call.object(&manner, code, &object))
}

/// Keeps what `kubectl apply` of the old kind goes by up to date, where it is used: kubectl may go back to it.
fn remember(applied: &Value, object: &mut Value) {
    if object["metadata"]["annotations"].get(LAST_APPLIED).is_none() {
        return;
    }
    let mut applied = applied.clone();
    if let Some(annotations) = applied["metadata"].get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    let text = format!("{applied}\n");
    if text.len() <= LONGEST_ANNOTATION {
        object["metadata"]["annotations"][LAST_APPLIED] = text.into();
    }
}

/// What is wrong with the text of an applied object: warnings, or a refusal.
fn complain(
    call: &Call,
    applied: &Value,
    undeclared: Vec<String>,
    duplicates: Vec<String>,
    mode: FieldValidation,
) -> Result<Vec<String>, Status> {
    if !undeclared.is_empty() {
        let mut why = undeclared;
        if why.len() > 1 {
            why = vec![format!("errors:\n  {}", why.join("\n  "))];
        }
        return Err(machine::untyped(&call.resource, applied, &why.concat()));
    }
    match mode {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(decode::told(duplicates)),
        FieldValidation::Strict if duplicates.is_empty() => Ok(Vec::new()),
        FieldValidation::Strict => {
            let why = duplicates.join(", ");
            let message = format!("error strict decoding YAML: error converting YAML to JSON: {why}");
            Err(Status::bad_request(message))
        }
    }
}

/// Checks what every applied object must keep to, and names it as the path does.
fn check(call: &Call, applied: &mut Value) -> Result<(), Status> {
    let meta = &applied["metadata"];
    if meta.get("managedFields").is_some_and(|entries| !entries.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    for (member, wanted, what) in
        [("name", call.info.name.as_str(), "name"), ("namespace", call.scope(false).namespace, "namespace")]
    {
        let found = meta[member].as_str().unwrap_or_default();
        if !found.is_empty() && found != wanted {
            return Err(Status::bad_request(format!(
                "the {what} of the object ({found}) does not match the {what} on the URL ({wanted})"
            )));
        }
    }
    if applied["metadata"].is_null() {
        applied["metadata"] = json!({});
    }
    Ok(())
}

/// The object that apply makes where there is none.
async fn fresh(
    call: &Call,
    writer: &machine::Writer<'_>,
    applied: &Value,
    force: bool,
) -> Result<Value, Status> {
    call.is_allowed_to_create().await?;
    let uid = applied["metadata"]["uid"].as_str().unwrap_or_default();
    if !uid.is_empty() {
        let why = format!(
            "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        );
        return Err(Status::conflict(&call.resource, &call.info.name, &why));
    }
    let mut object = machine::apply(writer, &json!({}), applied, force)?;
    object["metadata"]["name"] = call.info.name.clone().into();
    Ok(object)
}
