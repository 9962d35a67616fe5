//! The answer to a list: objects are streamed from a snapshot, without a copy of the collection.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream;
use http::header::{CONTENT_ENCODING, HeaderValue, VARY};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use skep_api::protobuf;
use skep_api::registry::Resource;
use skep_api::status::Status;
use skep_api::table;

use super::render::untyped;
use super::{CHUNK, GZIP_FROM, JSON, Manner, Renderer, gzip, streamed};
use crate::audit::Returned;
use crate::body::Body;
use crate::cache::Object;
use crate::failure;
use crate::negotiate::{Form, Wire};

/// Objects as they are found.
pub(crate) type Found = Box<dyn Iterator<Item = Arc<Object>> + Send>;

/// What a list holds.
pub(crate) struct ListAnswer {
    pub(crate) resource: Arc<Resource>,
    pub(crate) objects: Found,
    pub(crate) revision: u64,
    /// Where the client can go on, and how many objects are left, if that is known.
    pub(crate) rest: Option<(String, Option<u64>)>,
}

impl ListAnswer {
    fn meta(&self) -> Value {
        let mut meta = json!({ "resourceVersion": self.revision.to_string() });
        if let Some((token, remaining)) = &self.rest {
            meta["continue"] = json!(token);
            if let Some(remaining) = remaining {
                meta["remainingItemCount"] = json!(remaining);
            }
        }
        meta
    }

    /// The answer, as this client wants it.
    pub(crate) fn respond(self, manner: &Manner, now: jiff::Timestamp) -> Response<Body> {
        let renderer = Renderer::new(self.resource.clone(), manner, now);
        if manner.form == Form::Table {
            let meta = self.meta();
            let values: Vec<_> = self.objects.map(|object| renderer.value(&object)).collect();
            let values: Vec<&Value> = values.iter().map(|value| &**value).collect();
            let table = table::render(&self.resource, &values, Some(&meta), manner.include, now);
            return manner.value(StatusCode::OK, &table);
        }
        if manner.wire == Wire::Protobuf {
            return self.in_protobuf(manner, &renderer);
        }
        let (kind, api_version) = self.kind(manner);
        let head = json!({ "kind": kind, "apiVersion": api_version, "metadata": self.meta() }).to_string();
        let head = format!("{},\"items\":[", &head[..head.len() - 1]);
        let mut pieces = Pieces { renderer, objects: self.objects, before: head.into(), ended: false };
        // What is short goes out as a whole; of the rest no more is put together than it takes to see that it is not.
        let short = match manner {
            Manner { pretty: true, .. } => usize::MAX,
            Manner { gzip: true, .. } => GZIP_FROM,
            _ => CHUNK,
        };
        let (mut begun, mut length) = (Vec::new(), 0);
        while length < short && !pieces.ended {
            let piece = pieces.next().unwrap_or_default();
            length += piece.len();
            begun.push(piece);
        }
        if pieces.ended {
            let whole = if begun.len() == 1 { begun.remove(0) } else { begun.concat().into() };
            return manner.json(StatusCode::OK, whole);
        }
        let pieces = begun.into_iter().chain(pieces);
        if !manner.gzip {
            return streamed(stream::iter(pieces), JSON);
        }
        let mut response =
            streamed(stream::iter(Compressed { pieces, encoder: Some(gzip::Pieces::default()) }), JSON);
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        response
    }

    fn kind(&self, manner: &Manner) -> (String, String) {
        match manner.form {
            Form::Metadata => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned()),
            _ => (self.resource.list_kind(), self.resource.group_version()),
        }
    }

    /// The length of everything stands at its beginning: nothing can be sent before all is written.
    fn in_protobuf(self, manner: &Manner, renderer: &Renderer) -> Response<Body> {
        let (meta, (kind, api_version)) = (self.meta(), self.kind(manner));
        let values: Vec<Arc<Value>> = self.objects.map(|object| renderer.value(&object)).collect();
        let items = values.iter().map(|value| &**value);
        let written = match manner.form {
            Form::Metadata => protobuf::metadata_list(&meta, items),
            _ => protobuf::list(&self.resource.group_version(), &self.resource.kind, &meta, items),
        };
        match written {
            Ok(bytes) => {
                let mut response = manner.encoded(StatusCode::OK, bytes.into());
                if manner.audited {
                    let items = in_json(manner, &values);
                    let list =
                        json!({ "kind": kind, "apiVersion": api_version, "metadata": meta, "items": items });
                    response.extensions_mut().insert(Returned(list));
                }
                response
            }
            Err(why) => failure::response(&Status::internal(why)),
        }
    }
}

/// The items that a list in another encoding holds.
fn in_json(manner: &Manner, values: &[Arc<Value>]) -> Vec<Value> {
    let item = |value: &Arc<Value>| match manner.form {
        Form::Metadata => json!({ "metadata": value["metadata"] }),
        _ => untyped(value),
    };
    values.iter().map(item).collect()
}

/// The text of the list, in pieces of about [`CHUNK`] bytes.
struct Pieces {
    renderer: Renderer,
    objects: Found,
    /// What comes before the next object: the head, then commas.
    before: Bytes,
    ended: bool,
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut piece = BytesMut::with_capacity(CHUNK + CHUNK / 8);
        while piece.len() < CHUNK {
            let Some(object) = self.objects.next() else {
                if self.before.len() > 1 {
                    piece.extend_from_slice(&self.before);
                }
                piece.extend_from_slice(b"]}\n");
                self.ended = true;
                break;
            };
            piece.extend_from_slice(&std::mem::replace(&mut self.before, Bytes::from_static(b",")));
            self.renderer.item(&object, &mut piece);
        }
        Some(piece.freeze())
    }
}

struct Compressed<I> {
    pieces: I,
    encoder: Option<gzip::Pieces>,
}

impl<I: Iterator<Item = Bytes>> Iterator for Compressed<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        loop {
            let encoder = self.encoder.as_mut()?;
            match self.pieces.next() {
                Some(piece) => {
                    let piece = encoder.push(&piece);
                    if !piece.is_empty() {
                        return Some(piece);
                    }
                }
                None => return self.encoder.take().map(gzip::Pieces::finish),
            }
        }
    }
}
