//! The answer to a list: objects are streamed from a snapshot, without a copy of the collection.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use skep_api::protobuf;
use skep_api::registry::Resource;
use skep_api::status::Status;
use skep_api::table;

use super::render::untyped;
use super::{CHUNK, GZIP_FROM, JSON, Manner, Renderer, compressed, streamed};
use crate::audit::Returned;
use crate::body::Body;
use crate::cache::Object;
use crate::failure;
use crate::negotiate::{self, Form, Wire};
use crate::turns;

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
    pub(crate) async fn respond(self, manner: &Manner, now: jiff::Timestamp) -> Response<Body> {
        let renderer = Renderer::new(self.resource.clone(), manner, now);
        if manner.wire == Wire::Protobuf {
            return self.in_protobuf(manner, &renderer).await;
        }
        let before = self.head(manner, now);
        // What is short goes out as a whole; of the rest no more is put together than it takes to see that it is not.
        let short = if manner.gzip { GZIP_FROM } else { CHUNK };
        let (mut first, mut size) = (Vec::new(), 0);
        let layout = if manner.pretty { &PRETTY } else { &PLAIN };
        let objects = self.objects;
        let mut pieces = Pieces { renderer, objects, before, layout, empty: true, ended: false };
        while size < short {
            turns::pause().await;
            let Some(piece) = pieces.next() else { break };
            size += piece.len();
            first.push(piece);
        }
        if pieces.ended {
            return manner.whole(StatusCode::OK, first.concat().into(), JSON);
        }
        let pieces = first.into_iter().chain(pieces);
        match manner.gzip {
            true => compressed(pieces, JSON),
            false => streamed(stream::iter(pieces), JSON),
        }
    }

    /// What comes before the first object.
    fn head(&self, manner: &Manner, now: jiff::Timestamp) -> Bytes {
        let head = match manner.form {
            Form::Table => table::render(&self.resource, &[], Some(&self.meta()), manner.include, now),
            _ => {
                let (kind, api_version) = self.kind(manner);
                json!({ "kind": kind, "apiVersion": api_version, "metadata": self.meta() })
            }
        };
        let (mut text, end) = match manner.pretty {
            true => (format!("{head:#}"), "\n}"),
            false => (head.to_string(), "}"),
        };
        text.truncate(text.len() - end.len());
        match (manner.form, manner.pretty) {
            // The rows, of which there are none yet, are the last member.
            (Form::Table, _) => text.truncate(text.len() - "]".len()),
            (_, true) => text.push_str(",\n  \"items\": ["),
            (_, false) => text.push_str(",\"items\":["),
        }
        text.into()
    }

    fn kind(&self, manner: &Manner) -> (String, String) {
        match manner.form {
            Form::Metadata(_) => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned()),
            _ => (self.resource.list_kind(), self.resource.group_version()),
        }
    }

    /// The length of everything stands at its beginning: nothing can be sent before all is written.
    async fn in_protobuf(mut self, manner: &Manner, renderer: &Renderer) -> Response<Body> {
        match self.written(manner, renderer).await {
            Ok((parts, values)) => {
                let mut response = manner.parts(parts.map(Bytes::from), negotiate::PROTOBUF);
                if manner.audited {
                    response.extensions_mut().insert(Returned(self.in_json(manner, &values)));
                }
                response
            }
            Err(why) => failure::response(&Status::internal(why)),
        }
    }

    /// The list as protobuf, and what is in it if somebody wants to know.
    async fn written(
        &mut self,
        manner: &Manner,
        renderer: &Renderer,
    ) -> Result<([Vec<u8>; 3], Vec<Arc<Value>>), String> {
        let meta = self.meta();
        let mut list = match manner.form {
            Form::Metadata(_) => protobuf::List::of_metadata(&meta)?,
            _ => protobuf::List::new(&self.resource.group_version(), &self.resource.kind, &meta)?,
        };
        let mut values = Vec::new();
        for object in &mut self.objects {
            turns::pause().await;
            let value = renderer.value(&object);
            list.push(&value)?;
            if manner.audited {
                values.push(value);
            }
        }
        Ok((list.finish(), values))
    }

    /// The same list in JSON.
    fn in_json(&self, manner: &Manner, values: &[Arc<Value>]) -> Value {
        let (kind, api_version) = self.kind(manner);
        let item = |value: &Arc<Value>| match manner.form {
            Form::Metadata(_) => json!({ "metadata": value["metadata"] }),
            _ => untyped(value),
        };
        let items: Vec<Value> = values.iter().map(item).collect();
        json!({ "kind": kind, "apiVersion": api_version, "metadata": self.meta(), "items": items })
    }
}

/// What stands around the objects of a list.
struct Layout {
    before_first: &'static [u8],
    before_next: &'static [u8],
    end: &'static [u8],
    end_of_none: &'static [u8],
    pretty: bool,
}

const PLAIN: Layout =
    Layout { before_first: b"", before_next: b",", end: b"]}\n", end_of_none: b"]}\n", pretty: false };

const PRETTY: Layout = Layout {
    before_first: ITEM_LINE.as_bytes(),
    before_next: b",\n    ",
    end: b"\n  ]\n}\n",
    end_of_none: b"]\n}\n",
    pretty: true,
};

/// How a line of an object begins, within a list for people.
const ITEM_LINE: &str = "\n    ";

/// The text of the list, in pieces of at most about [`CHUNK`] bytes; shorter where they take long to make.
struct Pieces {
    renderer: Renderer,
    objects: Found,
    /// What comes before the objects.
    before: Bytes,
    layout: &'static Layout,
    /// Whether there was no object yet.
    empty: bool,
    ended: bool,
}

impl Pieces {
    fn item(&self, object: &Object, piece: &mut BytesMut) {
        if !self.layout.pretty {
            return self.renderer.item(object, piece);
        }
        let mut text = BytesMut::new();
        self.renderer.item(object, &mut text);
        match serde_json::from_slice::<Value>(&text) {
            // No text within JSON has a line break in it that is not escaped.
            Ok(value) => piece.extend_from_slice(format!("{value:#}").replace('\n', ITEM_LINE).as_bytes()),
            Err(_) => piece.extend_from_slice(&text),
        }
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut piece = BytesMut::with_capacity(CHUNK + CHUNK / 8);
        piece.extend_from_slice(&std::mem::take(&mut self.before));
        while piece.len() < CHUNK {
            let Some(object) = self.objects.next() else {
                let end = if self.empty { self.layout.end_of_none } else { self.layout.end };
                piece.extend_from_slice(end);
                self.ended = true;
                break;
            };
            let first = std::mem::take(&mut self.empty);
            let before = if first { self.layout.before_first } else { self.layout.before_next };
            piece.extend_from_slice(before);
            self.item(&object, &mut piece);
            if turns::is_long() {
                break;
            }
        }
        Some(piece.freeze())
    }
}
