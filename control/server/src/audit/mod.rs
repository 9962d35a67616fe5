//! Who did what, written down by a policy (`audit.k8s.io/v1`), to a log file and to a webhook.
//!
//! The way of an event: [`Policy`] says how much of a request is written, a [`Record`] follows the request and collects
//! it, and at each stage the event goes to every [`Output`](output::Output). Without a policy nothing is written.
//!
//! Owns everything between the request and the bytes of the event. Does not decide about requests, but for one case: in
//! the mode `blocking-strict`, a request whose first event cannot be written is refused.

mod event;
mod log;
mod metrics;
mod output;
mod policy;
mod record;
mod rotate;
mod source;
mod webhook;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::request::Parts;
use jiff::Timestamp;
use prometheus::Registry;
use skep_api::status::Status;

pub use self::event::Event;
pub use self::log::Format;
pub use self::metrics::AuditMetrics;
pub use self::output::{BatchOptions, Mode, OutputOptions, TruncateOptions};
pub use self::policy::{Level, Policy, Stage};
pub use self::record::Record;
pub(crate) use self::record::{Audited, Returned, Said, Times};
pub use self::rotate::Rotation;

use self::event::{ObjectReference, User};
use self::log::Log;
use self::output::Output;
use self::webhook::Webhook;
use crate::admission::{AuditDetail, Notes};
use crate::error::Error;
use crate::gate::Clock;
use crate::ids::Ids;
use crate::request::RequestInfo;
use crate::user::UserInfo;

/// The header that carries the id of a request's events, both ways.
pub(crate) const ID_HEADER: &str = "audit-id";

/// The log backend as operators ask for it.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The file; `-` is standard output.
    pub path: PathBuf,
    /// When it is put aside.
    pub rotation: Rotation,
    /// The form of its lines.
    pub format: Format,
    /// Whether requests wait, and limits.
    pub output: OutputOptions,
}

/// The webhook backend as operators ask for it.
#[derive(Clone, Debug)]
pub struct WebhookOptions {
    /// A kubeconfig file that says how it is reached.
    pub kubeconfig: PathBuf,
    /// The pause before a batch that failed is sent again for the first time.
    pub initial_backoff: Duration,
    /// Whether requests wait, and limits.
    pub output: OutputOptions,
}

/// Auditing as operators ask for it.
#[derive(Clone, Debug, Default)]
pub struct AuditOptions {
    /// The policy; nothing is written without one.
    pub policy: Option<PathBuf>,
    /// The log file.
    pub log: Option<LogOptions>,
    /// The webhook.
    pub webhook: Option<WebhookOptions>,
}

/// Auditing; the default one writes nothing. Clones are the same.
#[derive(Clone, Default)]
pub struct Audit(Option<Arc<Inner>>);

struct Inner {
    policy: Policy,
    outputs: Vec<Output>,
    metrics: AuditMetrics,
    clock: Clock,
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit").field("on", &self.0.is_some()).finish_non_exhaustive()
    }
}

impl Audit {
    /// Auditing by these options; must be called in a runtime.
    ///
    /// # Errors
    ///
    /// When the policy is not valid or a backend cannot be had.
    pub fn open(options: AuditOptions, clock: Clock, registry: &Registry) -> Result<Self, Error> {
        let metrics = AuditMetrics::new(registry);
        let Some(policy) = options.policy else {
            if options.log.is_some() || options.webhook.is_some() {
                tracing::warn!("no audit policy file was given, no audit events will be written");
            }
            return Ok(Self::default());
        };
        let policy = Policy::read(&policy)?;
        let mut outputs = Vec::new();
        if let Some(LogOptions { path, rotation, format, output }) = options.log {
            let log = Log::open(path, rotation, format, clock.clone())?;
            outputs.push(Output::new(Arc::new(log), output, metrics.clone()));
        }
        if let Some(WebhookOptions { kubeconfig, initial_backoff, output }) = options.webhook {
            let webhook = Webhook::open(&kubeconfig, initial_backoff)?;
            outputs.push(Output::new(Arc::new(webhook), output, metrics.clone()));
        }
        Ok(Self::of(policy, outputs, metrics, clock))
    }

    fn of(policy: Policy, outputs: Vec<Output>, metrics: AuditMetrics, clock: Clock) -> Self {
        Self((!outputs.is_empty()).then(|| Arc::new(Inner { policy, outputs, metrics, clock })))
    }

    /// Writes what waits to be written; what comes after it may be lost.
    pub async fn close(&self) {
        for output in self.0.iter().flat_map(|inner| &inner.outputs) {
            output.close().await;
        }
    }

    /// Begins the record of a request by `user`.
    ///
    /// # Errors
    ///
    /// 500 when it must be written down and cannot.
    pub(crate) async fn receive(
        &self,
        id: &HeaderValue,
        user: &UserInfo,
        info: &RequestInfo,
        parts: &Parts,
        times: Option<Times>,
    ) -> Result<Record, Status> {
        let lasts = info.is_long_running();
        let Some(record) = self.record(id, Some(user), info, parts, lasts, times) else {
            return Ok(Record::default());
        };
        if record.receive().await {
            return Ok(record);
        }
        record.close();
        if let Some(inner) = &self.0 {
            inner.metrics.rejected();
        }
        Err(Status::internal("failed to store audit event"))
    }

    /// Writes that a request was refused because of its credentials.
    pub(crate) async fn refused(
        &self,
        id: &HeaderValue,
        info: &RequestInfo,
        parts: &Parts,
        status: &Status,
        notes: &Notes,
    ) {
        if let Some(record) = self.record(id, None, info, parts, true, None) {
            record.failed(status);
            for (key, value) in notes.annotations(AuditDetail::Metadata) {
                record.annotate(&key, value);
            }
            record.begin(status.code).await;
            record.close();
        }
    }

    fn record(
        &self,
        id: &HeaderValue,
        user: Option<&UserInfo>,
        info: &RequestInfo,
        parts: &Parts,
        lasts: bool,
        times: Option<Times>,
    ) -> Option<Record> {
        let inner = self.0.as_ref()?;
        let verdict = inner.policy.judge(user, info);
        inner.metrics.level(verdict.level);
        if verdict.level == Level::None {
            return None;
        }
        let id = String::from_utf8_lossy(id.as_bytes()).into_owned();
        let mut event = Event::new(verdict.level, id, inner.now());
        event.verb.clone_from(&info.verb);
        event.request_uri = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        event.user_agent = source::agent(&parts.headers);
        event.source_ips = source::addresses(parts);
        event.user = user.map(User::from).unwrap_or_default();
        event.object_ref = info.is_resource.then(|| ObjectReference {
            resource: info.resource.clone(),
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            api_group: info.group.clone(),
            api_version: info.version.clone(),
            subresource: info.subresource.clone(),
            ..ObjectReference::default()
        });
        Some(Record::new(inner.clone(), verdict, event, lasts, times))
    }
}

/// The id of a request's events: the one that it came with, or a new one.
pub(crate) fn id(headers: &http::HeaderMap, ids: &Ids) -> HeaderValue {
    let given = headers.get(ID_HEADER).filter(|id| !id.is_empty()).cloned();
    given.unwrap_or_else(|| HeaderValue::try_from(ids.uid()).unwrap_or(HeaderValue::from_static("unknown")))
}

impl Inner {
    fn now(&self) -> Timestamp {
        Timestamp::try_from((self.clock)()).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    async fn write(&self, event: Event) -> bool {
        self.metrics.event();
        let (event, mut written) = (Arc::new(event), true);
        for output in &self.outputs {
            written &= output.process(&event).await;
        }
        written
    }
}
