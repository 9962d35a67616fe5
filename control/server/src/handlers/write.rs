//! create, update, and the two subresources that are writes of their own: finalize and token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Response, StatusCode};
use serde_json::Value;
use skep_api::apply::{self, Conversions};
use skep_api::decode::{self, FieldValidation};
use skep_api::object;
use skep_api::status::Status;
use skep_api::strategy::{self, Narrow};

use super::Call;
use crate::body::Body;
use crate::negotiate::{self, Number};
use crate::options::WriteOptions;
use crate::remarks::noting;
use crate::storage::{Part, metadata};
use crate::tokens;

impl Call {
    /// Reads an object of the resource. Its author is warned of what is odd about it, whatever becomes of it.
    pub(super) async fn own_body(&self, body: Body, mode: FieldValidation) -> Result<Value, Status> {
        let encoding = negotiate::encoding(&self.parts.headers)?;
        let bytes = self.read(body).await?;
        let (mut object, warnings) = decode::object(&self.resource, &bytes, encoding, mode)?;
        warnings.into_iter().for_each(|warning| self.notes.warn(warning));
        self.record.requested_own(&self.resource, &self.info.subresource, &object);
        let duplicates = object::dedup_owners(&mut object);
        if !duplicates.is_empty() {
            self.notes.warn_of_owners("", &duplicates);
        }
        Ok(object)
    }

    pub(super) fn part(&self) -> Part {
        match (self.info.subresource.as_str(), Narrow::of(&self.info.subresource)) {
            ("status", _) => Part::Status,
            (_, Some(narrow)) => Part::Narrow(narrow),
            _ => Part::Whole,
        }
    }
}

pub(super) async fn create(call: &Call, body: Body) -> Result<Response<Body>, Status> {
    let manner = call.manner(Number::One)?;
    let options = WriteOptions::parse("CreateOptions", &call.query)?;
    if matches!(call.resource.group.as_str(), "authentication.k8s.io" | "authorization.k8s.io") {
        negotiate::plain(&call.parts.headers)?;
        let mut review = call.own_body(body, options.validation).await?;
        let scope = call.scope(options.dry_run);
        metadata::wipe(&mut review);
        metadata::place(&scope, None, &mut review)?;
        let now = call.server.storage().ids.now_text();
        // Reviews are not stored, and tell nevertheless who wrote what of them, as upstream's do.
        decode::omit_zeros(&call.resource, &mut review);
        let conversions = Conversions::default();
        let writer = scope.writer(call.manager(), &now, &conversions);
        apply::update(&writer, &decode::nothing_set(&call.resource), &mut review);
        call.admit(options.dry_run, &mut review).await?;
        let answer =
            noting(&call.notes, call.server.gate().reviews.create(&call.user, &call.info, review, &now))
                .await?;
        return Ok(manner.value(StatusCode::CREATED, &answer));
    }
    let _inside = call.enter().await?;
    let object = call.own_body(body, options.validation).await?;
    let object = call.server.storage().create(&call.scope(options.dry_run), object).await?;
    Ok(call.object(&manner, StatusCode::CREATED, &object))
}

pub(super) async fn update(call: &Call, body: Body) -> Result<Response<Body>, Status> {
    let manner = call.manner(Number::One)?;
    let options = WriteOptions::parse("UpdateOptions", &call.query)?;
    let object = call.own_body(body, options.validation).await?;
    let scope = call.scope(options.dry_run);
    metadata::is_in_namespace(&object, scope.namespace)?;
    metadata::is_named(&object, &call.info.name)?;
    let storage = call.server.storage();
    let propose = |_: &Value| Ok(object.clone());
    let (code, object) = match storage.update(&scope, &call.info.name, call.part(), &propose).await {
        Err(status) if status.code == 404 && may_create(call, &object) => {
            metadata::is_named(&object, &call.info.name)?;
            call.is_allowed_to_create().await?;
            (StatusCode::CREATED, storage.create(&scope, object).await?)
        }
        other => (StatusCode::OK, other?),
    };
    Ok(call.object(&manner, code, &object))
}

/// Whether an update of something that is not there creates it: of these kinds, unless it was meant for a certain one.
fn may_create(call: &Call, object: &Value) -> bool {
    call.info.subresource.is_empty()
        && strategy::is_created_by_update(&call.resource)
        && object["metadata"]["uid"].as_str().unwrap_or_default().is_empty()
        && matches!(object["metadata"]["resourceVersion"].as_str().unwrap_or_default(), "" | "0")
}

/// `namespaces/finalize`: who has cleared a namespace takes itself off the list.
pub(super) async fn finalize(call: &Call, body: Body) -> Result<Response<Body>, Status> {
    let manner = call.manner(Number::One)?;
    let options = WriteOptions::parse("UpdateOptions", &call.query)?;
    let sent = call.own_body(body, options.validation).await?;
    metadata::is_named(&sent, &call.info.name)?;
    let propose = |current: &Value| {
        let mut object = current.clone();
        object["spec"]["finalizers"] = sent["spec"]["finalizers"].clone();
        if object["spec"]["finalizers"].is_null() {
            object["spec"]["finalizers"] = serde_json::json!([]);
        }
        for member in ["resourceVersion", "uid"] {
            if let Some(value) = sent["metadata"].get(member) {
                object["metadata"][member] = value.clone();
            }
        }
        Ok(object)
    };
    let scope = call.scope(options.dry_run);
    let object = call.server.storage().update(&scope, &call.info.name, Part::Finalize, &propose).await?;
    Ok(call.object(&manner, StatusCode::OK, &object))
}

/// `serviceaccounts/token`.
pub(super) async fn token(call: &Call, body: Body) -> Result<Response<Body>, Status> {
    let manner = call.manner(Number::One)?;
    let options = WriteOptions::parse("CreateOptions", &call.query)?;
    let mut request = call.sub_body(body, options.validation).await?;
    metadata::is_in_namespace(&request, &call.info.namespace)?;
    call.admit(options.dry_run, &mut request).await?;
    tokens::check_names(&request, &call.info.namespace, &call.info.name)?;
    // Whoever just created the account may ask.
    call.server.storage().get(&call.scope(false), &call.info.name).await?;
    let (issuer, info) = (&call.server.gate().tokens, &call.info);
    let issue = async { issuer.request(&call.user, &info.namespace, &info.name, request) };
    let answer = noting(&call.notes, issue).await?;
    if let Some(id) = answer["status"]["token"].as_str().and_then(id_of) {
        call.notes.annotate("authentication.kubernetes.io/issued-credential-id", format!("JTI={id}"));
    }
    Ok(manner.value(StatusCode::CREATED, &answer))
}

/// By which a token is known in the audit log.
fn id_of(token: &str) -> Option<String> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    claims["jti"].as_str().map(str::to_owned)
}
