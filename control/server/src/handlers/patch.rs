//! patch: the three formats, applied to the newest version and again when somebody else was faster.

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use skep_api::decode::FieldValidation;
use skep_api::registry::Resource;
use skep_api::status::Status;
use skep_api::validation::FieldError;
use skep_api::{decode, object, patch as patches};

use super::{Call, apply};
use crate::body::Body;
use crate::negotiate::{self, Number};
use crate::options::WriteOptions;

/// What custom resources do not take: it needs merge keys.
const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// The media types, in the words of the 415 answer.
pub(crate) const TAKEN: [&str; 4] =
    ["application/json-patch+json", "application/merge-patch+json", STRATEGIC, apply::APPLY];

/// A patch in one of the formats.
#[derive(Clone, Debug)]
pub(super) enum Patch {
    Json(Bytes),
    Merge(Bytes),
    Strategic(Bytes),
}

impl Patch {
    pub(super) async fn read(call: &Call, body: Body) -> Result<Self, Status> {
        let kind = negotiate::content_type(&call.parts.headers).to_owned();
        let make = match kind.as_str() {
            "application/json-patch+json" => Self::Json,
            "application/merge-patch+json" => Self::Merge,
            STRATEGIC if call.resource.custom.is_none() => Self::Strategic,
            _ if call.resource.custom.is_some() => {
                let others: Vec<&str> = TAKEN.into_iter().filter(|kind| *kind != STRATEGIC).collect();
                return Err(Status::unsupported_media_type(&others));
            }
            _ => return Err(Status::unsupported_media_type(&TAKEN)),
        };
        let patch = call.read(body).await?;
        call.record.patched(&patch);
        Ok(make(patch))
    }

    /// 422: the patch applies, but what comes out is no object of the kind.
    pub(super) fn made_nonsense(&self, object: &Value, why: &Status) -> Status {
        let value = match self {
            Self::Strategic(patch) => patches::quoted(patch),
            Self::Json(_) | Self::Merge(_) => object.to_string(),
        };
        // Of unknown fields upstream tells without naming the kind before.
        let from = why.message.find("strict decoding error: ").unwrap_or_default();
        let error = FieldError::invalid("patch", value, &why.message[from..]);
        let message = format!(" \"\" is invalid: {error}");
        Status {
            details: Some(json!({ "causes": [error.to_cause()] })),
            ..Status::new(422, "Invalid", message)
        }
    }

    /// What is odd about its text.
    fn problems(&self) -> Vec<String> {
        match self {
            Self::Json(patch) => patches::json_patch_problems(patch),
            Self::Merge(patch) | Self::Strategic(patch) => patches::problems(patch),
        }
    }

    /// The patched object. `resource` is what a strategic patch goes by.
    pub(super) fn apply(&self, resource: Option<&Resource>, object: &Value) -> Result<Value, Status> {
        match (self, resource) {
            (Self::Json(patch), _) => patches::json_patch(object, patch),
            (Self::Strategic(patch), Some(resource)) => {
                patches::strategic_merge_patch(resource, object, patch)
            }
            (Self::Merge(patch) | Self::Strategic(patch), _) => patches::merge_patch(object, patch),
        }
    }
}

pub(super) async fn patch(call: &Call, body: Body) -> Result<Response<Body>, Status> {
    if apply::is_apply(call) {
        return apply::apply(call, body).await;
    }
    let manner = call.manner(Number::One)?;
    let options = WriteOptions::parse("PatchOptions", &call.query)?;
    let patch = Patch::read(call, body).await?;
    let propose = |current: &Value| {
        let mut patched = patch.apply(Some(&*call.resource), current)?;
        let problems =
            if options.validation == FieldValidation::Ignore { Vec::new() } else { patch.problems() };
        // What the patch left alone was checked when it came.
        let unchanged = object::take_unchanged(&mut patched, current);
        let checked = decode::check_patched(&call.resource, &mut patched, problems, options.validation);
        object::put_back(&mut patched, unchanged);
        let warnings = checked.map_err(|why| patch.made_nonsense(&patched, &why))?;
        warnings.into_iter().for_each(|warning| call.notes.warn(warning));
        Ok(patched)
    };
    let scope = call.scope(options.dry_run);
    let object = call.server.storage().update(&scope, &call.info.name, call.part(), &propose).await?;
    Ok(call.object(&manner, StatusCode::OK, &object))
}
