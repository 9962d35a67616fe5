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

/// What a list holds.
pub(crate) struct ListAnswer {
    pub(crate) resource: Arc<Resource>,
    pub(crate) objects: Vec<Arc<Object>>,
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
            let values: Vec<_> = self.objects.iter().map(|object| renderer.value(object)).collect();
            let values: Vec<&Value> = values.iter().map(|value| &**value).collect();
            let table = table::render(&self.resource, &values, Some(&self.meta()), manner.include, now);
            return manner.value(StatusCode::OK, &table);
        }
        if manner.wire == Wire::Protobuf {
            return self.in_protobuf(manner, &renderer);
        }
        let (kind, api_version) = self.kind(manner);
        let head = json!({ "kind": kind, "apiVersion": api_version, "metadata": self.meta() }).to_string();
        let head = format!("{},\"items\":[", &head[..head.len() - 1]);
        let size: usize = self.objects.iter().map(|object| object.json().len() + 1).sum();
        let pieces =
            Pieces { renderer, objects: self.objects.into_iter(), before: head.into(), ended: false };
        if manner.pretty || size < CHUNK {
            let mut whole = BytesMut::with_capacity(size + 256);
            for piece in pieces {
                whole.extend_from_slice(&piece);
            }
            return manner.json(StatusCode::OK, whole.freeze());
        }
        if !manner.gzip || size < GZIP_FROM {
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

    /// What a list in another encoding holds.
    fn in_json(&self, manner: &Manner, values: &[Arc<Value>]) -> Value {
        let (kind, api_version) = self.kind(manner);
        let item = |value: &Arc<Value>| match manner.form {
            Form::Metadata => json!({ "metadata": value["metadata"] }),
            _ => untyped(value),
        };
        let items: Vec<Value> = values.iter().map(item).collect();
        json!({ "kind": kind, "apiVersion": api_version, "metadata": self.meta(), "items": items })
    }

    /// The length of everything stands at its beginning: nothing can be sent before all is written.
    fn in_protobuf(&self, manner: &Manner, renderer: &Renderer) -> Response<Body> {
        let values: Vec<Arc<Value>> = self.objects.iter().map(|object| renderer.value(object)).collect();
        let items = values.iter().map(|value| &**value);
        let written = match manner.form {
            Form::Metadata => protobuf::metadata_list(&self.meta(), items),
            _ => protobuf::list(&self.resource.group_version(), &self.resource.kind, &self.meta(), items),
        };
        match written {
            Ok(bytes) => {
                let mut response = manner.encoded(StatusCode::OK, bytes.into());
                if manner.audited {
                    response.extensions_mut().insert(Returned(self.in_json(manner, &values)));
                }
                response
            }
            Err(why) => failure::response(&Status::internal(why)),
        }
    }
}

/// The text of the list, in pieces of about [`CHUNK`] bytes.
struct Pieces {
    renderer: Renderer,
    objects: std::vec::IntoIter<Arc<Object>>,
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

struct Compressed {
    pieces: Pieces,
    encoder: Option<gzip::Pieces>,
}

impl Iterator for Compressed {
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
