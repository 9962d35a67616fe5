//! `scale`: the number of replicas of whatever has one, in one form (`autoscaling/v1 Scale`).

use http::{Response, StatusCode};
use serde_json::{Value, json};
use skep_api::decode::{self, Encoding};
use skep_api::status::Status;
use skep_api::validation::FieldError;

use super::Call;
use super::apply::is_apply;
use super::patch::Patch;
use crate::body::Body;
use crate::content;
use crate::options::{ApplyOptions, WriteOptions};
use crate::respond::{Manner, view, warn};
use crate::storage::{Ownership, Part, Scope};

/// The scale of an object.
fn of(object: &Value) -> Value {
    let meta = &object["metadata"];
    let mut scale = json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {},
        "spec": {},
        "status": { "replicas": object["status"]["replicas"].as_i64().unwrap_or_default() },
    });
    for member in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = meta.get(member) {
            scale["metadata"][member] = value.clone();
        }
    }
    if let Some(replicas) = object["spec"].get("replicas") {
        scale["spec"]["replicas"] = replicas.clone();
    }
    let selector = selector(&object["spec"]["selector"]);
    if !selector.is_empty() {
        scale["status"]["selector"] = json!(selector);
    }
    scale
}

/// A label selector as text: what `matchLabels` (or the plain map of a replication controller) and `matchExpressions`
/// say.
fn selector(selector: &Value) -> String {
    let structured = selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some();
    let labels = if structured { &selector["matchLabels"] } else { selector };
    let mut terms: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
        .collect();
    for one in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = one["key"].as_str().unwrap_or_default();
        let values: Vec<_> =
            one["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        match one["operator"].as_str() {
            Some("In") => terms.push(format!("{key} in ({})", values.join(","))),
            Some("NotIn") => terms.push(format!("{key} notin ({})", values.join(","))),
            Some("Exists") => terms.push(key.to_owned()),
            Some("DoesNotExist") => terms.push(format!("!{key}")),
            _ => {}
        }
    }
    terms.join(",")
}

pub(super) async fn get(call: &Call) -> Result<Response<Body>, Status> {
    let manner = Manner::plain(&call.parts, &call.query);
    let object = call.server.storage().get(&call.scope(false), &call.info.name).await?;
    Ok(manner.value(StatusCode::OK, &of(&view(call.resource, &object))))
}

/// What a client sent: a whole scale, or a patch of one.
enum Sent {
    Whole(Value),
    Patch(Patch),
}

/// Server-side apply of a scale: its applier owns the number of replicas through this subresource.
async fn apply(call: &Call, body: Body) -> Result<Response<Body>, Status> {
    let manner = Manner::plain(&call.parts, &call.query);
    let options = ApplyOptions::parse(&call.query)?;
    let bytes = content::read(body).await?;
    let subresource = call.resource.subresource("scale").ok_or_else(Status::no_such_path)?;
    let mode = options.write.validation;
    let (scale, warnings) = decode::subresource(call.resource, subresource, &bytes, Encoding::Yaml, mode)?;
    let mut wanted = json!({
        "apiVersion": call.resource.group_version(),
        "kind": call.resource.kind,
        "metadata": { "name": call.info.name, "namespace": call.info.namespace },
        "spec": {},
    });
    if scale["spec"].get("replicas").is_some() {
        wanted["spec"]["replicas"] = json!(replicas(call, &scale)?);
    }
    let scope = Scope { ownership: Ownership::Decided, ..call.scope(options.write.dry_run) };
    let now = call.server.ids().now_text();
    let writer = scope.writer(&options.manager, &now);
    let propose = |object: &Value| skep_api::apply::apply(&writer, object, &wanted, options.force);
    let object = call.server.storage().update(&scope, &call.info.name, Part::Whole, &propose).await?;
    let mut response = manner.value(StatusCode::OK, &of(&view(call.resource, &object)));
    warn(&mut response, &warnings);
    Ok(response)
}

pub(super) async fn set(call: &Call, body: Body) -> Result<Response<Body>, Status> {
    if call.info.verb == "patch" && is_apply(call) {
        return apply(call, body).await;
    }
    let manner = Manner::plain(&call.parts, &call.query);
    let options = WriteOptions::parse("UpdateOptions", &call.query)?;
    let sent = match call.info.verb.as_str() {
        "patch" => Sent::Patch(Patch::read(call, body).await?),
        _ => Sent::Whole(call.sub_body(body, options.validation).await?.0),
    };
    let propose = |object: &Value| {
        let scale = match &sent {
            Sent::Whole(scale) => scale.clone(),
            Sent::Patch(patch) => patch.apply(None, &of(object))?,
        };
        let replicas = replicas(call, &scale)?;
        let mut object = object.clone();
        object["spec"]["replicas"] = json!(replicas);
        for member in ["resourceVersion", "uid"] {
            if let Some(value) = scale["metadata"].get(member) {
                object["metadata"][member] = value.clone();
            }
        }
        Ok(object)
    };
    let scope = call.scope(options.dry_run);
    let object = call.server.storage().update(&scope, &call.info.name, Part::Whole, &propose).await?;
    Ok(manner.value(StatusCode::OK, &of(&view(call.resource, &object))))
}

/// The number in a scale. None means none, as for upstream's types.
fn replicas(call: &Call, scale: &Value) -> Result<i64, Status> {
    let cannot = |why: &str| {
        Status::bad_request(format!("Scale in version \"v1\" cannot be handled as a Scale: {why}"))
    };
    if scale["kind"] != "Scale" {
        return Err(cannot(&format!("unexpected kind {}", scale["kind"])));
    }
    let replicas = match &scale["spec"]["replicas"] {
        Value::Null => 0,
        value => value.as_i64().filter(|number| i32::try_from(*number).is_ok()).ok_or_else(|| {
            cannot(&format!(
                "json: cannot unmarshal {value} into Go struct field ScaleSpec.spec.replicas of type int32"
            ))
        })?,
    };
    if replicas < 0 {
        let error = FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
        return Err(Status::invalid(call.resource, &call.info.name, vec![error]));
    }
    Ok(replicas)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selector_of_a_scale_is_text() {
        let cases = [
            (json!({ "app": "a" }), "app=a"),
            (json!({ "matchLabels": { "app": "a", "tier": "b" } }), "app=a,tier=b"),
            (
                json!({ "matchExpressions": [{ "key": "x", "operator": "In", "values": ["1", "2"] }, { "key": "y", "operator": "DoesNotExist" }] }),
                "x in (1,2),!y",
            ),
            (Value::Null, ""),
        ];
        for (given, expected) in cases {
            assert_eq!(selector(&given), expected, "{given}");
        }
    }
}
