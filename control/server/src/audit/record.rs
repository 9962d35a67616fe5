//! What is being written down about one request.
//!
//! A record goes through: received -> (answer begun, of requests that last) -> complete. It is complete when the server
//! says so, or when nobody holds it any more: a client that went away, a stream that ended. Clones are the same record.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use skep_api::registry::Resource;
use skep_api::status::Status;
use tokio::time::Instant;

use super::Inner;
use super::event::{AuthenticationMetadata, Event, User};
use super::policy::{Level, Stage, Verdict};
use crate::admission::Notes;
use crate::gate::Assumed;

/// The record of a request; the default one writes nothing.
#[derive(Clone, Default)]
pub struct Record(Option<Arc<Writing>>);

/// What an answer says about itself, for records: the `Status` that is its body. An extension of the response.
#[derive(Clone, Debug)]
pub(crate) struct Said(pub(crate) Value);

/// The object that an answer in another encoding holds, for records. An extension of the response.
#[derive(Clone, Debug)]
pub(crate) struct Returned(pub(crate) Value);

/// Marks a request whose answer is to be taken down. An extension of the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Audited;

/// What a slow request is explained by.
pub(crate) struct Times {
    pub(crate) notes: Arc<Notes>,
    pub(crate) began: Instant,
}

struct Writing {
    audit: Arc<Inner>,
    verdict: Verdict,
    event: Mutex<Event>,
    lasts: bool,
    times: Option<Times>,
    begun: AtomicBool,
    complete: AtomicBool,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record").field("level", &self.level()).finish_non_exhaustive()
    }
}

impl Record {
    pub(super) fn new(
        audit: Arc<Inner>,
        verdict: Verdict,
        event: Event,
        lasts: bool,
        times: Option<Times>,
    ) -> Self {
        Self(Some(Arc::new(Writing {
            audit,
            verdict,
            event: Mutex::new(event),
            lasts,
            times,
            begun: AtomicBool::new(false),
            complete: AtomicBool::new(false),
        })))
    }

    /// The notes of the request, if what is still said of its times will be written.
    pub(crate) fn timed(&self) -> Option<Arc<Notes>> {
        let times = self.0.as_ref()?.times.as_ref()?;
        Some(times.notes.clone())
    }

    /// How much is written.
    pub fn level(&self) -> Level {
        self.0.as_ref().map_or(Level::None, |writing| writing.verdict.level)
    }

    /// Adds an annotation, such as a decision and its reason. The first of a name stays.
    pub fn annotate(&self, key: &str, value: impl Into<String>) {
        let Some(writing) = &self.0 else { return };
        let (mut event, value) = (writing.event.lock(), value.into());
        match event.annotations.get(key) {
            Some(first) if *first != value => {
                tracing::warn!(key, value, first, id = event.audit_id, "an audit annotation is set already");
            }
            Some(_) => {}
            None => drop(event.annotations.insert(key.to_owned(), value)),
        }
    }

    /// Takes down as whom the request acts, and under which constrained right, if it was one.
    pub(crate) fn impersonated(&self, assumed: &Assumed) {
        let Some(writing) = &self.0 else { return };
        let mut event = writing.event.lock();
        event.impersonated_user = Some(User::from(&assumed.user));
        if !assumed.constraint.is_empty() {
            let impersonation_constraint = assumed.constraint.to_owned();
            event.authentication_metadata = Some(AuthenticationMetadata { impersonation_constraint });
        }
    }

    /// Takes down the object that was sent: where it belongs, and itself if the policy wants it.
    pub(crate) fn requested(&self, resource: &Resource, subresource: &str, object: &Value) {
        let Some(writing) = &self.0 else { return };
        let mut event = writing.event.lock();
        let reference = event.object_ref.get_or_insert_default();
        let fill = |member: &mut String, value: &str| {
            if member.is_empty() {
                value.clone_into(member);
            }
        };
        let text = |member: &str| object["metadata"][member].as_str().unwrap_or_default();
        fill(&mut reference.namespace, text("namespace"));
        fill(&mut reference.name, text("name"));
        fill(&mut reference.uid, text("uid"));
        fill(&mut reference.resource_version, text("resourceVersion"));
        fill(&mut reference.resource, &resource.plural);
        fill(&mut reference.api_group, &resource.group);
        fill(&mut reference.api_version, &resource.version);
        fill(&mut reference.subresource, subresource);
        if writing.verdict.level >= Level::Request {
            event.request_object = writing.raw(object);
        }
    }

    /// The same of an object of the resource itself, which is taken down as it was understood: with defaults.
    pub(crate) fn requested_own(&self, resource: &Resource, subresource: &str, object: &Value) {
        if self.0.as_ref().is_none_or(|writing| writing.verdict.level < Level::Request) {
            return self.requested(resource, subresource, object);
        }
        let mut understood = object.clone();
        skep_api::defaults::apply(resource, &mut understood);
        self.requested(resource, subresource, &understood);
    }

    /// Takes down a patch, as it was sent.
    pub(crate) fn patched(&self, patch: &[u8]) {
        let Some(writing) = self.0.as_ref().filter(|writing| writing.verdict.level >= Level::Request) else {
            return;
        };
        // Apply patches are YAML.
        let value = skep_api::decode::parse(patch, skep_api::decode::Encoding::Yaml);
        writing.event.lock().request_object =
            value.ok().and_then(|parsed| to_raw_value(&parsed.value).ok()).map(Into::into);
    }

    /// Takes down the object that is the answer.
    pub(crate) fn returned(&self, object: &Value) {
        if let Some(writing) = self.0.as_ref().filter(|writing| writing.wants_response()) {
            let raw = writing.raw(object);
            writing.event.lock().response_object = raw;
        }
    }

    /// Whether the answer's object is to be taken down.
    pub(crate) fn wants_response(&self) -> bool {
        self.0.as_ref().is_some_and(|writing| writing.wants_response())
    }

    /// Takes down a failure; the code is that of the answer.
    pub(crate) fn failed(&self, status: &Status) {
        let mut value = status.to_value();
        self.said(&value);
        value["metadata"] = json!({});
        self.returned(&value);
    }

    /// Takes down the `Status` that is the answer.
    pub(crate) fn said(&self, status: &Value) {
        let Some(writing) = &self.0 else { return };
        let mut kept = json!({ "metadata": {} });
        for member in ["status", "message", "reason", "details", "code"] {
            if let Some(value) = status.get(member) {
                kept[member] = value.clone();
            }
        }
        writing.event.lock().response_status = Some(kept);
    }

    fn coded(&self, code: u16) {
        if let Some(writing) = &self.0 {
            let mut event = writing.event.lock();
            event.response_status.get_or_insert_with(|| json!({ "metadata": {} }))["code"] = json!(code);
        }
    }

    /// Writes that the request has come; says whether it may go on.
    pub(super) async fn receive(&self) -> bool {
        match &self.0 {
            Some(writing) => writing.emit(Stage::RequestReceived).await,
            None => true,
        }
    }

    /// Writes that the answer begins with this code, where requests last.
    pub(crate) async fn begin(&self, code: u16) {
        self.coded(code);
        if let Some(writing) = self.0.as_ref().filter(|writing| writing.lasts)
            && !writing.begun.swap(true, Ordering::SeqCst)
        {
            writing.emit(Stage::ResponseStarted).await;
        }
    }

    /// Writes that the answer is complete. A second time does nothing.
    pub(crate) async fn complete(&self) {
        if let Some(writing) = &self.0
            && !writing.complete.swap(true, Ordering::SeqCst)
        {
            writing.emit(Stage::ResponseComplete).await;
        }
    }

    /// Writes that the handler failed as it never should, and nothing after it.
    pub(crate) async fn panicked(&self) {
        let Some(writing) = &self.0 else { return };
        if !writing.complete.swap(true, Ordering::SeqCst) {
            let message = "APIServer panic'd: the handler failed";
            self.said(&Status::new(500, "InternalError", message).to_value());
            writing.emit(Stage::Panic).await;
        }
    }

    /// Nothing more will be written: the request was refused before it was anybody's.
    pub(super) fn close(&self) {
        if let Some(writing) = &self.0 {
            writing.complete.store(true, Ordering::SeqCst);
        }
    }
}

impl Writing {
    fn wants_response(&self) -> bool {
        self.verdict.level >= Level::RequestResponse && !self.lasts
    }

    fn raw(&self, object: &Value) -> Option<Arc<RawValue>> {
        let raw = match self.verdict.omit_managed_fields {
            false => to_raw_value(object),
            true => to_raw_value(&without_managed_fields(object)),
        };
        raw.ok().map(Into::into)
    }

    fn staged(&self, stage: Stage) -> Option<Event> {
        if self.verdict.omit_stages.contains(&stage) {
            return None;
        }
        let mut event = self.event.lock().clone();
        event.stage = stage;
        if stage != Stage::RequestReceived {
            event.stage_timestamp = self.audit.now();
        }
        if let (Stage::ResponseComplete, Some(times)) = (stage, &self.times) {
            for (key, value) in times.notes.latencies.annotations(times.began.elapsed()) {
                event.annotations.entry(key).or_insert(value);
            }
        }
        Some(event)
    }

    async fn emit(&self, stage: Stage) -> bool {
        match self.staged(stage) {
            Some(event) => self.audit.write(event).await,
            None => true,
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if *self.complete.get_mut() {
            return;
        }
        if self.event.get_mut().response_status.is_none() {
            let early = json!({
                "metadata": {}, "status": "Success", "message": "Connection closed early", "code": 200,
            });
            self.event.get_mut().response_status = Some(early);
        }
        let begun = self.lasts && !*self.begun.get_mut();
        let stages = [begun.then_some(Stage::ResponseStarted), Some(Stage::ResponseComplete)];
        let events: Vec<Event> =
            stages.into_iter().flatten().filter_map(|stage| self.staged(stage)).collect();
        let audit = self.audit.clone();
        // Nobody can wait here. Without a runtime the process is at its end.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                for event in events {
                    audit.write(event).await;
                }
            });
        }
    }
}

/// An object, list or table without the managed fields of what is in it.
fn without_managed_fields(object: &Value) -> Value {
    fn strip(object: &mut Value) {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    }
    let mut object = object.clone();
    strip(&mut object);
    object.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten().for_each(strip);
    let rows = object.get_mut("rows").and_then(Value::as_array_mut).into_iter().flatten();
    rows.filter_map(|row| row.get_mut("object")).for_each(strip);
    object
}
