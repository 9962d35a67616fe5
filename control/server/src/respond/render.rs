//! One object in the form that a client wants.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use skep_api::convert;
use skep_api::registry::Resource;
use skep_api::status::Status;
use skep_api::{protobuf, table};

use super::{JSON, Manner};
use crate::body::Body;
use crate::cache::{Object, event_line};
use crate::failure;
use crate::negotiate::{Form, Wire};

/// Turns stored objects into the version and form of a request.
#[derive(Clone)]
pub(crate) struct Renderer {
    resource: Arc<Resource>,
    manner: Manner,
    /// When ages are reckoned.
    now: jiff::Timestamp,
    /// Whether the columns of a table were told before: the events of a watch tell them once.
    titled: bool,
}

/// An object in the version of `resource`, whatever version it is stored in.
pub(crate) fn view(resource: &Resource, object: &Object) -> Arc<Value> {
    if let Some(schema) = &resource.custom {
        let shown = object.by_schema(resource, schema);
        return shown.as_deref().unwrap_or(object).value().clone();
    }
    if !resource.is_served_as_stored() {
        let mut value = Value::clone(&object.value());
        convert::from_storage(resource, &mut value);
        Arc::new(value)
    } else {
        object.value().clone()
    }
}

/// The object without its kind and version.
pub(super) fn untyped(value: &Value) -> Value {
    let mut value = value.clone();
    if let Some(members) = value.as_object_mut() {
        members.remove("kind");
        members.remove("apiVersion");
    }
    value
}

impl Renderer {
    pub(crate) fn new(resource: Arc<Resource>, manner: &Manner, now: jiff::Timestamp) -> Self {
        Self { resource, manner: *manner, now, titled: false }
    }

    /// Reckons ages up to this time from now on.
    pub(crate) fn set_time(&mut self, now: jiff::Timestamp) {
        self.now = now;
    }

    /// What the objects are of.
    pub(crate) fn resource(&self) -> &Resource {
        &self.resource
    }

    /// The object in the version of the request.
    pub(crate) fn value(&self, object: &Object) -> Arc<Value> {
        view(&self.resource, object)
    }

    /// Whether the bytes of the cache are the answer.
    pub(crate) fn is_plain(&self, object: &Object) -> bool {
        let as_stored = || match &self.resource.custom {
            Some(schema) => schema.conversion.is_none() && object.by_schema(&self.resource, schema).is_none(),
            None => self.resource.is_served_as_stored(),
        };
        self.manner.form == Form::Object && self.manner.wire == Wire::Json && as_stored()
    }

    /// The media type of a watch in this form.
    pub(crate) fn stream_type(&self) -> &'static str {
        match self.manner.wire {
            Wire::Json => JSON,
            Wire::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        }
    }

    /// The event that tells a watcher of an object.
    pub(crate) fn event(&mut self, kind: &str, object: &Object) -> Bytes {
        let event = match self.manner.wire {
            Wire::Json => event_line(kind, &self.json(object)).into(),
            Wire::Protobuf => self.frame(kind, &self.shown(object)),
        };
        self.titled = true;
        event
    }

    /// The table of these objects; without its columns, where they were told before.
    fn table(&self, objects: &[&Value], meta: &Value) -> Value {
        let mut table = table::render(&self.resource, objects, Some(meta), self.manner.include, self.now);
        if self.titled {
            table["columnDefinitions"] = Value::Null;
        }
        table
    }

    /// The event that tells a watcher of something that is no stored object.
    pub(crate) fn notice(&self, kind: &str, value: &Value) -> Bytes {
        match self.manner.wire {
            Wire::Json => event_line(kind, value.to_string().as_bytes()).into(),
            Wire::Protobuf => self.frame(kind, value),
        }
    }

    fn frame(&self, kind: &str, value: &Value) -> Bytes {
        match protobuf::object(value) {
            Ok(bytes) => protobuf::watch_frame(kind, &bytes).into(),
            Err(why) => {
                // The client is told that it missed something, and lists again.
                tracing::error!(kind = self.resource.kind, why, "an object cannot be written as protobuf");
                let status = Status::internal(why).to_value();
                protobuf::object(&status)
                    .map(|bytes| protobuf::watch_frame("ERROR", &bytes))
                    .unwrap_or_default()
                    .into()
            }
        }
    }

    /// The object in the form of the answer, other than a table.
    fn shown(&self, object: &Object) -> Arc<Value> {
        let value = self.value(object);
        match self.manner.form {
            Form::Metadata(_) => Arc::new(json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": value["metadata"],
            })),
            _ => value,
        }
    }

    /// The object as an answer, or as that of an event.
    pub(crate) fn json(&self, object: &Object) -> Bytes {
        let schema = self.resource.custom.as_ref();
        match (self.manner.form, schema) {
            (Form::Object, Some(schema)) => {
                let shown = object.by_schema(&self.resource, schema);
                shown.as_deref().unwrap_or(object).json().clone()
            }
            (Form::Object, None) if !self.resource.is_served_as_stored() => {
                self.value(object).to_string().into()
            }
            (Form::Object, None) => object.json().clone(),
            (Form::Metadata(_), _) => {
                let head =
                    b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":";
                [head, object.metadata_json(), b"}"].concat().into()
            }
            (Form::Table, _) => {
                let value = self.value(object);
                let meta = json!({ "resourceVersion": object.revision().to_string() });
                self.table(&[&value], &meta).to_string().into()
            }
        }
    }

    /// Adds the object as an item of a list, which says itself of what kind the built-in ones are, or as a row of a table.
    pub(crate) fn item(&self, object: &Object, list: &mut BytesMut) {
        if self.manner.form == Form::Table {
            let row = table::row(&self.resource, &self.value(object), self.manner.include, self.now);
            return list.extend_from_slice(row.to_string().as_bytes());
        }
        if self.manner.form != Form::Object || self.resource.custom.is_some() {
            return list.extend_from_slice(&self.json(object));
        }
        if !self.resource.is_served_as_stored() {
            return list.extend_from_slice(untyped(&self.value(object)).to_string().as_bytes());
        }
        if let Some(rest) = object.behind_type() {
            list.extend_from_slice(b"{\"metadata\":");
            return list.extend_from_slice(rest);
        }
        let mut before = &b"{"[..];
        for member in object.untyped_members().unwrap_or_default() {
            list.extend_from_slice(std::mem::replace(&mut before, b","));
            list.extend_from_slice(member);
        }
        list.extend_from_slice(b"}");
    }

    /// The object that tells a watcher of a revision, with annotations or none.
    pub(crate) fn bookmark(&mut self, revision: u64, annotations: Option<Value>) -> Value {
        let mut meta = json!({ "resourceVersion": revision.to_string() });
        if let Some(annotations) = annotations {
            meta["annotations"] = annotations;
        }
        let object = json!({ "metadata": meta });
        let (kind, api_version) = match self.manner.form {
            Form::Object => (self.resource.kind.as_str(), self.resource.group_version()),
            Form::Metadata(_) => ("PartialObjectMetadata", "meta.k8s.io/v1".into()),
            Form::Table => {
                let list = json!({ "resourceVersion": revision.to_string() });
                let mut table = self.table(&[], &list);
                self.titled = true;
                let partial = json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta });
                table["rows"] = json!([{ "cells": [], "object": partial }]);
                return table;
            }
        };
        let mut object = object;
        object["kind"] = json!(kind);
        object["apiVersion"] = json!(api_version);
        object
    }

    /// An answer that is this object.
    pub(crate) fn respond(&self, code: StatusCode, object: &Object) -> Response<Body> {
        match self.manner.wire {
            Wire::Json => self.manner.json(code, self.json(object)),
            Wire::Protobuf => match protobuf::object(&self.shown(object)) {
                Ok(bytes) => self.manner.encoded(code, bytes.into()),
                Err(why) => failure::response(&Status::internal(why)),
            },
        }
    }
}
