//! `scale`: the number of replicas of whatever has one, in one form (`autoscaling/v1 Scale`).

use http::{Response, StatusCode};
use serde_json::{Value, json};
use skep_api::apply::{self, Conversions};
use skep_api::decode::{self, Encoding};
use skep_api::status::Status;
use skep_api::validation::FieldError;

use super::Call;
use super::apply::is_apply;
use super::patch::Patch;
use crate::body::Body;
use crate::options::{ApplyOptions, WriteOptions};
use crate::respond::{Manner, view};
use crate::scale::Places;
use crate::storage::{Ownership, Part, Scope, metadata};

fn of(call: &Call, object: &Value) -> Value {
    Places::of(&call.resource).scale(&call.resource, object)
}

pub(super) async fn get(call: &Call) -> Result<Response<Body>, Status> {
    let manner = Manner::plain(&call.parts, &call.query);
    let object = call.server.storage().get(&call.scope(false), &call.info.name).await?;
    Ok(manner.value(StatusCode::OK, &of(call, &view(&call.resource, &object))))
}

/// What a client sent: a whole scale, or a patch of one.
enum Sent {
    Whole(Value),
    Patch(Patch),
}

/// Server-side apply of a scale: its applier owns the number of replicas through this subresource.
async fn applied(call: &Call, body: Body) -> Result<Response<Body>, Status> {
    let manner = Manner::plain(&call.parts, &call.query);
    let options = ApplyOptions::parse(&call.query)?;
    let bytes = call.read(body).await?;
    call.record.patched(&bytes);
    let subresource = call.resource.subresource("scale").ok_or_else(Status::no_such_path)?;
    let mode = options.write.validation;
    let (scale, warnings) = decode::subresource(&call.resource, subresource, &bytes, Encoding::Yaml, mode)?;
    warnings.into_iter().for_each(|warning| call.notes.warn(warning));
    let mut wanted = json!({
        "apiVersion": call.resource.group_version(),
        "kind": call.resource.kind,
        "metadata": { "name": call.info.name, "namespace": call.info.namespace },
        "spec": {},
    });
    if scale["spec"].get("replicas").is_some() {
        Places::of(&call.resource).set(&mut wanted, replicas(call, &scale)?);
    }
    let scope = Scope { ownership: Ownership::Decided, ..call.scope(options.write.dry_run) };
    let now = call.server.ids().now_text();
    let conversions = Conversions::default();
    let writer = scope.writer(&options.manager, &now, &conversions);
    let propose = |object: &Value| apply::apply(&writer, object, &wanted, options.force);
    let (storage, name, known) = (call.server.storage(), &call.info.name, Some(&conversions));
    let object = storage.update_converted(&scope, name, Part::Scale, &propose, known).await?;
    Ok(manner.value(StatusCode::OK, &of(call, &view(&call.resource, &object))))
}

pub(super) async fn set(call: &Call, body: Body) -> Result<Response<Body>, Status> {
    if call.info.verb == "patch" && is_apply(call) {
        return applied(call, body).await;
    }
    let manner = Manner::plain(&call.parts, &call.query);
    let options = WriteOptions::parse("UpdateOptions", &call.query)?;
    let sent = match call.info.verb.as_str() {
        "patch" => Sent::Patch(Patch::read(call, body).await?),
        _ => Sent::Whole(call.sub_body(body, options.validation).await?),
    };
    if let Sent::Whole(scale) = &sent {
        metadata::is_in_namespace(scale, &call.info.namespace)?;
        metadata::is_named(scale, &call.info.name)?;
    }
    let propose = |object: &Value| {
        let scale = match &sent {
            Sent::Whole(scale) => scale.clone(),
            Sent::Patch(patch) => patch.apply(None, &of(call, object))?,
        };
        metadata::is_named(&scale, &call.info.name)?;
        let replicas = match (&sent, replicas(call, &scale)) {
            (Sent::Patch(patch), Err(why)) if why.code == 400 => {
                return Err(patch.made_nonsense(&scale, &why));
            }
            (_, replicas) => replicas?,
        };
        let mut object = object.clone();
        Places::of(&call.resource).set(&mut object, replicas);
        for member in ["resourceVersion", "uid"] {
            if let Some(value) = scale["metadata"].get(member) {
                object["metadata"][member] = value.clone();
            }
        }
        Ok(object)
    };
    let scope = call.scope(options.dry_run);
    let object = call.server.storage().update(&scope, &call.info.name, Part::Scale, &propose).await?;
    Ok(manner.value(StatusCode::OK, &of(call, &view(&call.resource, &object))))
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
        let name = &call.info.name;
        let message = format!("Scale.autoscaling {name:?} is invalid: {error}");
        let mut status = Status::new(422, "Invalid", message).about("autoscaling", "Scale", name);
        status.details.get_or_insert_default()["causes"] = json!([error.to_cause()]);
        return Err(status);
    }
    Ok(replicas)
}
