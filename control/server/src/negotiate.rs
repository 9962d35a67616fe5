//! In which form a client wants its answer, and in which form it sends its body.
//!
//! Owns the reading of `Accept` and `Content-Type`. Does not write bodies.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};
use skep_api::decode::Encoding;
use skep_api::status::Status;

/// What is offered, in the words of the 406 and 415 answers.
const OFFERED: [&str; 2] = ["application/json", "application/yaml"];
const OFFERED_BUILTIN: [&str; 3] = ["application/json", "application/yaml", PROTOBUF];
const TAKEN: [&str; 3] = ["application/json", "application/yaml", PROTOBUF];
const YAML: &str = "application/yaml";
/// The same for what is watched.
const STREAMED: [&str; 2] =
    ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];
/// What several commands of kubectl write, and upstream's components prefer. Custom kinds have no such form.
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// The form of an answer that holds objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The objects themselves.
    Object,
    /// A table for people, in the version given (`v1` or `v1beta1`).
    Table,
    /// Their metadata alone; said as that of one object or of a list.
    Metadata(Number),
}

/// Whether something is about one object or about a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// One object.
    One,
    /// A list.
    Many,
}

/// The bytes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// `application/json`.
    Json,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

/// What upstream's router offers for objects of built-in kinds, for what may be watched, and for logs.
pub const ROUTED: [&str; 3] = OFFERED_BUILTIN;
/// See [`ROUTED`].
pub const ROUTED_STREAMS: [&str; 5] = [
    "application/json",
    "application/yaml",
    PROTOBUF,
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];
/// See [`ROUTED`].
pub const ROUTED_LOG: [&str; 4] = ["text/plain", "application/json", "application/yaml", PROTOBUF];

/// The parts of one entry of an `Accept` header.
struct Range<'a> {
    kind: &'a str,
    quality: u16,
    parameters: Vec<(&'a str, &'a str)>,
}

impl Range<'_> {
    fn has(&self, name: &str) -> bool {
        self.parameters.iter().any(|(key, _)| *key == name)
    }

    fn parameter(&self, name: &str) -> &str {
        self.parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| *value).unwrap_or_default()
    }
}

fn ranges(header: &str) -> Vec<Range<'_>> {
    let mut ranges: Vec<_> = header
        .split(',')
        .map(|entry| {
            let mut parts = entry.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let parameters: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
            let quality =
                parameters.iter().find(|(key, _)| *key == "q").and_then(|(_, q)| q.parse::<f32>().ok());
            Range { kind, quality: (quality.unwrap_or(1.0).clamp(0.0, 1.0) * 1000.0) as u16, parameters }
        })
        .collect();
    ranges.sort_by_key(|range| std::cmp::Reverse(range.quality));
    ranges
}

/// The form and bytes that a client wants for objects: the first of what it takes that we have. `protobuf` says whether
/// the kind has that encoding.
///
/// # Errors
///
/// 406 when there is none.
pub fn form(headers: &HeaderMap, protobuf: bool) -> Result<(Form, Wire), Status> {
    let Some(accept) = accept(headers) else { return Ok((Form::Object, Wire::Json)) };
    if let Some(wanted) = ranges(accept).iter().find_map(|range| read(range, protobuf)) {
        return Ok(wanted);
    }
    Err(Status::not_acceptable(if protobuf { &OFFERED_BUILTIN } else { &OFFERED }))
}

/// The form and bytes that a range asks for, if we have them.
fn read(range: &Range<'_>, protobuf: bool) -> Option<(Form, Wire)> {
    let wire = match range.kind {
        PROTOBUF if protobuf => Wire::Protobuf,
        kind if is_json(kind) => Wire::Json,
        _ => return None,
    };
    // Parameters that change the answer, and that there is no answer for.
    if !matches!(range.parameter("stream"), "" | "watch") || !matches!(range.parameter("sv"), "" | "v1") {
        return None;
    }
    let meta = range.parameter("g") == "meta.k8s.io" && matches!(range.parameter("v"), "v1" | "v1beta1");
    match range.parameter("as") {
        "" if !range.has("g") && !range.has("v") => Some((Form::Object, wire)),
        "Table" if meta && wire == Wire::Json => Some((Form::Table, wire)),
        "PartialObjectMetadata" if meta => Some((Form::Metadata(Number::One), wire)),
        "PartialObjectMetadataList" if meta => Some((Form::Metadata(Number::Many), wire)),
        _ => None,
    }
}

/// Whether what the client would rather have for objects can be watched in: YAML is not sent piece by piece, and who puts it
/// first gets nothing else instead.
///
/// # Errors
///
/// 406 when it cannot.
pub fn streamable(headers: &HeaderMap, protobuf: bool) -> Result<(), Status> {
    let is_yaml = |range: &Range<'_>| {
        range.kind == YAML
            && range.parameter("stream").is_empty()
            && matches!(range.parameter("as"), "" | "Table")
    };
    let takes = |range: &Range<'_>| is_yaml(range) || read(range, protobuf).is_some();
    match accept(headers).and_then(|accept| ranges(accept).into_iter().find(takes)) {
        Some(first) if is_yaml(&first) => {
            Err(Status::not_acceptable(if protobuf { &STREAMED } else { &STREAMED[..1] }))
        }
        _ => Ok(()),
    }
}

/// What upstream's router asks before anybody looks at the parameters of a media type: whether the client takes one of these
/// types by its whole name, or anything at all.
///
/// # Errors
///
/// 406, in the router's words.
pub fn routed(headers: &HeaderMap, offered: &[&str]) -> Result<(), Status> {
    let takes = |range: &Range<'_>| range.kind == "*/*" || offered.contains(&range.kind);
    match accept(headers) {
        Some(accept) if !ranges(accept).iter().any(takes) => {
            let message = format!("406: Not Acceptable\n\nAvailable representations: {}", offered.join(", "));
            Err(Status::new(406, "NotAcceptable", message).about("", "", ""))
        }
        _ => Ok(()),
    }
}

/// The same of the body of a patch: whether the router knows its media type.
///
/// # Errors
///
/// 415, in the router's words.
pub fn routed_patch(headers: &HeaderMap, taken: &[&str]) -> Result<(), Status> {
    let mut said =
        whole_content_type(headers).split(',').map(|one| one.split(';').next().unwrap_or_default());
    match said.any(|kind| taken.contains(&kind.trim_matches(' '))) {
        true => Ok(()),
        false => {
            let message = "415: Unsupported Media Type";
            Err(Status::new(415, "UnsupportedMediaType", message).about("", "", ""))
        }
    }
}

/// Whether the client takes discovery in JSON, in the classic form or in that of `aggregated`.
///
/// # Errors
///
/// 406 when it does not.
pub fn discovery(headers: &HeaderMap, aggregated: bool) -> Result<(), Status> {
    let takes = |range: &Range<'_>| {
        let changed = ["as", "g", "v", "sv"].into_iter().any(|name| range.has(name));
        let streamed = !matches!(range.parameter("stream"), "" | "watch");
        let is_aggregated = aggregated && range.parameter("as") == "APIGroupDiscoveryList";
        (is_json(range.kind) || range.kind == PROTOBUF) && (is_aggregated || !changed) && !streamed
    };
    match accept(headers) {
        Some(accept) if !ranges(accept).iter().any(takes) => Err(Status::not_acceptable(&OFFERED_BUILTIN)),
        _ => Ok(()),
    }
}

/// Whether the client takes JSON at all.
pub fn json(headers: &HeaderMap) -> bool {
    accept(headers).is_none_or(|accept| ranges(accept).iter().any(|range| is_json(range.kind)))
}

/// Whether the client takes an answer that is no object with columns: JSON or protobuf, as nothing else.
///
/// # Errors
///
/// 406 when it does not.
pub fn plain(headers: &HeaderMap) -> Result<(), Status> {
    let takes = |range: &Range<'_>| {
        (is_json(range.kind) || range.kind == PROTOBUF)
            && matches!(range.parameter("as"), "" | "PartialObjectMetadata")
    };
    match accept(headers) {
        Some(accept) if !ranges(accept).iter().any(takes) => Err(Status::not_acceptable(&OFFERED)),
        _ => Ok(()),
    }
}

/// Whether the client would rather have one of these media types than JSON.
pub fn prefers(headers: &HeaderMap, kinds: &[&str]) -> bool {
    let wanted = accept(headers).map(ranges).unwrap_or_default();
    wanted
        .iter()
        .find(|range| is_json(range.kind) || kinds.contains(&range.kind))
        .is_some_and(|r| !is_json(r.kind))
}

/// Whether what is no stored object goes out in protobuf: a failure, or discovery (`is_discovery`) in the form asked for.
/// Whoever asks for a failure in no form that there is gets JSON.
pub fn protobuf_first(headers: &HeaderMap, is_discovery: bool) -> bool {
    let plain = |range: &&Range<'_>| {
        let changed = ["as", "g", "v"].into_iter().any(|name| range.has(name));
        let aggregated = is_discovery && range.parameter("as") == "APIGroupDiscoveryList";
        (!changed || aggregated) && matches!(range.parameter("stream"), "" | "watch")
    };
    let wanted = accept(headers).map(ranges).unwrap_or_default();
    let first = wanted.iter().filter(plain).find(|range| is_json(range.kind) || range.kind == PROTOBUF);
    first.is_some_and(|range| range.kind == PROTOBUF)
}

/// Whether the client prefers the aggregated form of discovery (`apidiscovery.k8s.io/v2`).
pub fn aggregated_discovery(headers: &HeaderMap) -> bool {
    let wanted = accept(headers).and_then(|accept| {
        let first = |range: &Range<'_>| is_json(range.kind) || range.kind == PROTOBUF;
        ranges(accept).into_iter().find(first).map(|range| {
            range.parameter("as") == "APIGroupDiscoveryList"
                && range.parameter("g") == "apidiscovery.k8s.io"
                && range.parameter("v") == "v2"
        })
    });
    wanted.unwrap_or_default()
}

fn accept(headers: &HeaderMap) -> Option<&str> {
    headers.get(ACCEPT).and_then(|value| value.to_str().ok()).filter(|value| !value.trim().is_empty())
}

fn is_json(kind: &str) -> bool {
    matches!(kind, "application/json" | "application/*" | "*/*")
}

fn whole_content_type(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The media type of the body, without parameters.
pub fn content_type(headers: &HeaderMap) -> &str {
    whole_content_type(headers).split(';').next().unwrap_or_default().trim()
}

/// How a body that holds an object is encoded.
///
/// # Errors
///
/// 415 when we do not read that.
pub fn encoding(headers: &HeaderMap) -> Result<Encoding, Status> {
    if whole_content_type(headers).matches('"').count() % 2 == 1 {
        return Err(Status::unsupported_media_type(&TAKEN));
    }
    match content_type(headers).to_ascii_lowercase().as_str() {
        "" if !whole_content_type(headers).is_empty() => Err(Status::unsupported_media_type(&TAKEN)),
        "" | "application/json" => Ok(Encoding::Json),
        "application/yaml" => Ok(Encoding::Yaml),
        PROTOBUF => Ok(Encoding::Protobuf),
        _ => Err(Status::unsupported_media_type(&TAKEN)),
    }
}

#[cfg(test)]
mod tests;
