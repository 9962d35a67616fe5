//! Writing answers: objects, lists and tables as JSON, pretty or not, compressed or not.
//!
//! Owns the form of an answer. Which objects are in it, the handlers say.

mod gzip;
mod list;
pub(crate) mod protobuf;
mod render;
pub(crate) mod yaml;

use std::task::Poll;

use bytes::Bytes;
use futures::stream::{self, Stream};
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, VARY, WARNING};
use http::request::Parts;
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::Value;
use skep_api::status::Status;
use skep_api::table::IncludeObject;

use crate::audit::{Audited, Said};
use crate::body::{self, Body, BoxError};
use crate::negotiate::{self, Form, Wire};
use crate::query::Query;

pub(crate) use list::ListAnswer;
pub(crate) use render::{Renderer, view};

/// Answers at least this long are compressed for those who take it, as upstream does.
const GZIP_FROM: usize = 128 * 1024;
/// The media type of what is not asked for in another one.
pub(crate) const JSON: &str = "application/json";
/// A list is sent in pieces of about this size.
pub(crate) const CHUNK: usize = 64 * 1024;

/// Marks an answer that this server made in JSON for everybody, and that may be [written otherwise](protobuf). What another
/// server said goes through as it is. An extension of the response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForEverybody;

/// How this client wants its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) form: Form,
    pub(crate) wire: Wire,
    pub(crate) include: IncludeObject,
    pretty: bool,
    gzip: bool,
    /// Whether the audit log wants the answer, too.
    audited: bool,
}

impl Manner {
    /// Reads `Accept`, `Accept-Encoding` and the query. `protobuf` says whether the kind has that encoding.
    pub(crate) fn of(parts: &Parts, query: &Query, protobuf: bool) -> Result<Self, Status> {
        let (form, wire) = negotiate::form(&parts.headers, protobuf)?;
        let include = match query.get("includeObject") {
            None | Some("Metadata") => IncludeObject::Metadata,
            Some("None") => IncludeObject::None,
            Some("Object") => IncludeObject::Object,
            // Only those who want tables say anything with it.
            Some(_) if form != Form::Table => IncludeObject::Metadata,
            Some(other) => {
                return Err(Status::bad_request(format!(
                    "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: must be 'Metadata', 'Object', 'None', or empty"
                )));
            }
        };
        Ok(Self { form, wire, include, ..Self::plain(parts, query) })
    }

    /// The manner of answers that hold no objects.
    pub(crate) fn plain(parts: &Parts, query: &Query) -> Self {
        let header =
            |name| parts.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or("");
        let agent = header(http::header::USER_AGENT);
        let person = ["curl", "Wget", "Mozilla/5.0"].iter().any(|start| agent.starts_with(start));
        let gzip = header(http::header::ACCEPT_ENCODING).split(',').any(|one| one.trim().starts_with("gzip"));
        let pretty = query.optional_flag("pretty").unwrap_or(person);
        let audited = parts.extensions.get::<Audited>().is_some();
        Self { form: Form::Object, wire: Wire::Json, include: IncludeObject::Metadata, pretty, gzip, audited }
    }

    /// An answer that is one JSON text.
    pub(crate) fn json(&self, code: StatusCode, json: Bytes) -> Response<Body> {
        self.whole(code, if self.pretty { prettify(json) } else { json }, JSON)
    }

    /// An answer that is these objects, in the encoding that the client wants.
    pub(crate) fn encoded(&self, code: StatusCode, bytes: Bytes) -> Response<Body> {
        match self.wire {
            Wire::Json => self.json(code, bytes),
            Wire::Protobuf => self.whole(code, bytes, negotiate::PROTOBUF),
        }
    }

    /// An answer of several parts, which is sent piece by piece if it is long and nobody else wants to see it.
    fn parts<const N: usize>(&self, parts: [Bytes; N], kind: &'static str) -> Response<Body> {
        let size: usize = parts.iter().map(Bytes::len).sum();
        if size <= CHUNK || self.audited {
            return self.whole(StatusCode::OK, parts.concat().into(), kind);
        }
        let mut pieces = parts.into_iter().flat_map(pieces);
        match self.gzip && size >= GZIP_FROM {
            true => compressed(pieces, kind),
            false => streamed(stream::poll_fn(move |_| Poll::Ready(pieces.next())), kind),
        }
    }

    fn whole(&self, code: StatusCode, bytes: Bytes, kind: &'static str) -> Response<Body> {
        let mut response = match self.gzip && bytes.len() >= GZIP_FROM {
            true => compressed(pieces(bytes), kind),
            false => Response::new(body::full(bytes)),
        };
        *response.status_mut() = code;
        headers(&mut response, kind);
        response
    }

    /// An answer that is one value.
    pub(crate) fn value(&self, code: StatusCode, value: &Value) -> Response<Body> {
        let mut response = self.json(code, value.to_string().into());
        response.extensions_mut().insert(ForEverybody);
        if value["kind"] == "Status" {
            response.extensions_mut().insert(Said(value.clone()));
        }
        response
    }
}

/// The same bytes in pieces.
fn pieces(mut bytes: Bytes) -> impl Iterator<Item = Bytes> + Send {
    std::iter::from_fn(move || {
        let size = bytes.len().min(CHUNK);
        (size > 0).then(|| bytes.split_to(size))
    })
}

fn prettify(json: Bytes) -> Bytes {
    match serde_json::from_slice::<Value>(&json) {
        Ok(value) => format!("{value:#}\n").into(),
        Err(_) => json,
    }
}

fn headers(response: &mut Response<Body>, kind: &'static str) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
}

/// An answer that goes on: the pieces of a stream of this media type, sent as they come.
pub(crate) fn streamed<S>(pieces: S, kind: &'static str) -> Response<Body>
where
    S: Stream<Item = Bytes> + Send + 'static,
{
    use futures::StreamExt;
    let frames = pieces.map(|piece| Ok::<_, BoxError>(Frame::data(piece)));
    let mut response = Response::new(body::boxed(StreamBody::new(frames)));
    headers(&mut response, kind);
    response
}

/// The same of a text that is compressed on its way.
fn compressed(pieces: impl Iterator<Item = Bytes> + Send + 'static, kind: &'static str) -> Response<Body> {
    let mut response = streamed(gzip::compressed(pieces), kind);
    response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

/// Adds warnings to an answer, as `kubectl` prints them (RFC 7234, code 299). What is not one line is left out.
pub(crate) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for warning in warnings.iter().filter(|warning| !warning.contains(char::is_control)) {
        let quoted = format!("299 - \"{}\"", warning.replace('\\', "\\\\").replace('"', "\\\""));
        if let Ok(value) = HeaderValue::from_bytes(quoted.as_bytes()) {
            response.headers_mut().append(WARNING, value);
        }
    }
}
