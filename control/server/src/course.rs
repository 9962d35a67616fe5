//! What belongs to one request from its beginning to the end of its answer, beside the request itself: its id, its record
//! for the audit log, and how the answer is finished.

use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use skep_api::decode::{self, Encoding};
use skep_api::status::Status;
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::admission::{AuditDetail, Notes};
use crate::audit::{ID_HEADER, Level, Record, Returned, Said};
use crate::body::{self, Body};
use crate::failure;
use crate::fairness::{Classified, Permit};
use crate::held::Held;
use crate::negotiate;
use crate::request::RequestInfo;
use crate::respond;
use crate::turns::Lane;

/// The course of one request.
pub(crate) struct Course {
    /// The id that the events of the request share, and that its answer carries.
    pub(crate) id: HeaderValue,
    /// What is written down about it.
    pub(crate) record: Record,
    /// What is said about it beside the answer.
    pub(crate) notes: Arc<Notes>,
    /// Its seats, once it has some.
    pub(crate) permit: Option<Permit>,
    /// By what it was given them, or not.
    pub(crate) classified: Classified,
    /// Where it waits for its turns.
    pub(crate) lane: Lane,
    /// When it came.
    pub(crate) began: Instant,
    /// When it has to be over, if it is not meant to last.
    pub(crate) deadline: Option<Instant>,
    /// The end of the server waits for it, if it is not meant to last.
    pub(crate) under_way: Option<TaskTrackerToken>,
    /// Whether a browser only asks whether it may ask.
    pub(crate) preflight: bool,
    /// Whether it was ended, or not begun, to protect the server.
    pub(crate) cut_off: bool,
    panicked: bool,
}

impl Course {
    pub(crate) fn new(id: HeaderValue, lane: Lane, began: Instant) -> Self {
        Self {
            id,
            record: Record::default(),
            notes: Arc::default(),
            permit: None,
            classified: Classified::default(),
            lane,
            began,
            deadline: None,
            under_way: None,
            preflight: false,
            cut_off: false,
            panicked: false,
        }
    }

    /// Notes that the handler failed as it never should; the answer to that.
    pub(crate) fn panicked(&mut self, info: &RequestInfo) -> Status {
        tracing::error!(path = info.path, verb = info.verb, "a handler panicked");
        self.panicked = true;
        self.cut_off = true;
        Status::internal("the server failed while handling the request")
    }

    /// Notes that it took too long; the answer to that.
    pub(crate) fn too_long(&mut self) -> Status {
        self.cut_off = true;
        failure::too_long()
    }

    /// The answer as it goes out, written down as far as it has to be. Its reader has to read steadily, or not.
    pub(crate) async fn end(self, outcome: Result<Response<Body>, Status>, steady: bool) -> Response<Body> {
        let Self { id, record, notes, permit, classified, deadline, panicked, under_way: _under_way, .. } =
            self;
        let mut response = match outcome {
            Ok(response) => response,
            Err(status) => {
                record.failed(&status);
                failure::response(&status)
            }
        };
        respond::warn(&mut response, &notes.warnings());
        classified.tell(response.headers_mut());
        let detail =
            if record.level() >= Level::Request { AuditDetail::Request } else { AuditDetail::Metadata };
        for (key, value) in notes.annotations(detail) {
            record.annotate(&key, value);
        }
        response.headers_mut().entry(HeaderName::from_static(ID_HEADER)).or_insert(id);
        if let Some(Said(status)) = response.extensions_mut().remove() {
            record.said(&status);
        }
        if let Some(Returned(object)) = response.extensions_mut().remove() {
            record.returned(&object);
        } else if record.wants_response() && response.status().is_success() {
            response = read(&record, response).await;
        }
        if panicked {
            record.panicked().await;
            return response;
        }
        record.begin(response.status().as_u16()).await;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            // Who carries the bytes holds the record.
            return response;
        }
        let mut held = Held { record, permit, deadline, steady };
        if let Some(size) = http_body::Body::size_hint(response.body()).exact() {
            std::mem::take(&mut held.record).complete().await;
            // What fits into the buffers on the way is as good as sent.
            if size <= respond::CHUNK as u64 {
                return response;
            }
        }
        response.map(|body| held.with(body))
    }
}

/// Reads an answer for the record. It was asked for without compression.
async fn read(record: &Record, response: Response<Body>) -> Response<Body> {
    let (parts, body) = response.into_parts();
    let bytes = match body.collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) => return failure::response(&Status::internal(error)),
    };
    let kind = parts.headers.get(CONTENT_TYPE).map_or(&[][..], |kind| kind.as_bytes());
    let encoding = match kind.starts_with(negotiate::PROTOBUF.as_bytes()) {
        true => Encoding::Protobuf,
        false => Encoding::Json,
    };
    match decode::parse(&bytes, encoding) {
        Ok(parsed) => record.returned(&parsed.value),
        Err(status) => tracing::warn!(why = status.message, "an answer cannot be read for the audit log"),
    }
    Response::from_parts(parts, body::full(bytes))
}
