//! One object as the cache holds it: its JSON with the resource version in place, serialised once and shared by every
//! reader and watcher, and the parsed form for those who need it.
//!
//! A parsed form takes some ten times the memory of the bytes. It lives as long as somebody holds it, and a little longer
//! ([`super::parsed`]) if it was parsed before: most versions of most objects are parsed once, by the write that replaces
//! them, and memory that is given back at once is used again while it is in the processor's caches.
//!
//! The store keeps objects without `metadata.resourceVersion`, as upstream does: the revision of the write is only known
//! after it. It is spliced into the bytes here, without parsing them.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use skep_api::convert;
use skep_api::custom::Custom;
use skep_api::registry::Resource;
use skep_api::select::LabelSelector;

use super::{older, parsed, scan};

/// What happened to an object, as watchers are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// It is new.
    Added,
    /// It is another.
    Modified,
    /// It is gone.
    Deleted,
}

impl EventType {
    /// The `type` of a watch event.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// One version of one object.
#[derive(Debug)]
pub struct Object {
    key: Arc<str>,
    revision: u64,
    json: Bytes,
    /// Where the metadata lies in `json`, braces included.
    metadata: Range<usize>,
    /// Where its labels lie in `json`: every watcher with a selector asks for them. Empty if there are none.
    labels: Range<u32>,
    /// How many bytes after the metadata's opening brace are the resource version.
    spliced: usize,
    value: Mutex<Weak<Value>>,
    /// Whether it was parsed before.
    parsed: AtomicBool,
    /// The object in other versions, as a webhook converted it: made once, gone with the object.
    converted: Mutex<Vec<Converted>>,
    /// The object as the schemas of custom kinds show it: made once for all readers, gone with the object.
    shown: Mutex<Vec<Shown>>,
}

/// An object as a schema shows it.
#[derive(Debug)]
struct Shown {
    schema: Arc<Custom>,
    /// None if it is shown as it is.
    object: Option<Arc<Object>>,
}

/// Of so many schemas at once the looks are kept: a few versions, and those of a definition that just changed.
const SCHEMAS: usize = 4;

/// An object in another version.
#[derive(Debug)]
struct Converted {
    /// Who converted it.
    edition: String,
    version: String,
    object: Arc<Object>,
}

/// The line of a watch event: `{"type":"ADDED","object":` ... `}` and a line feed.
pub(crate) fn event_line(kind: &str, object: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(object.len() + 40);
    open_line(&mut line, kind);
    line.extend_from_slice(object);
    line.extend_from_slice(b"}\n");
    line
}

fn open_line(line: &mut Vec<u8>, kind: &str) {
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(kind.as_bytes());
    line.extend_from_slice(b"\",\"object\":");
}

impl Object {
    /// The object that `stored` holds, at `revision`; `None` if the bytes are not a JSON object with metadata.
    pub(crate) fn from_stored(key: Arc<str>, stored: &[u8], revision: u64) -> Option<Self> {
        Some(Self::assemble(key, stored, revision, None)?.0)
    }

    /// The same, together with the line that tells watchers of it; both share their bytes.
    pub(crate) fn with_event(
        key: Arc<str>,
        stored: &[u8],
        revision: u64,
        kind: EventType,
    ) -> Option<(Self, Bytes)> {
        Self::assemble(key, stored, revision, Some(kind))
    }

    /// The last state of an object that was deleted at `revision`, with the line that tells watchers of it.
    pub(crate) fn deleted_at(&self, revision: u64) -> (Self, Bytes) {
        let inside = self.metadata.start + 1;
        let mut stored = Vec::with_capacity(self.json.len());
        stored.extend_from_slice(&self.json[..inside]);
        stored.extend_from_slice(&self.json[inside + self.spliced..]);
        Self::assemble(self.key.clone(), &stored, revision, Some(EventType::Deleted))
            .expect("an object that was assembled before has metadata")
    }

    fn assemble(
        key: Arc<str>,
        stored: &[u8],
        revision: u64,
        event: Option<EventType>,
    ) -> Option<(Self, Bytes)> {
        if let Some(newer) = older::newer(&key, stored) {
            return Self::assemble(key, &newer, revision, event);
        }
        let span = scan::member(stored, b"metadata")?;
        if stored.get(span.start) != Some(&b'{') {
            return None;
        }
        if scan::member(&stored[span.clone()], b"resourceVersion").is_some() {
            // Written by somebody who did not take the resource version out: the rare case may cost a parse.
            let mut value: Value = serde_json::from_slice(stored).ok()?;
            value.get_mut("metadata")?.as_object_mut()?.remove("resourceVersion");
            return Self::assemble(key, &serde_json::to_vec(&value).ok()?, revision, event);
        }
        let empty = stored[span.start + 1..span.end - 1].iter().all(u8::is_ascii_whitespace);
        let mut line = Vec::with_capacity(stored.len() + 96);
        if let Some(kind) = event {
            open_line(&mut line, kind.as_str());
        }
        let start = line.len();
        line.extend_from_slice(&stored[..=span.start]);
        let before = line.len();
        // What was never written (a dry run) has no revision to show.
        if revision > 0 {
            line.extend_from_slice(b"\"resourceVersion\":\"");
            line.extend_from_slice(revision.to_string().as_bytes());
            line.extend_from_slice(if empty { b"\"" } else { b"\"," });
        }
        let spliced = line.len() - before;
        line.extend_from_slice(&stored[span.start + 1..]);
        let end = line.len();
        if event.is_some() {
            line.extend_from_slice(b"}\n");
        }
        let line = Bytes::from(line);
        let labels = scan::member(&stored[span.clone()], b"labels").map_or(0..0, |labels| {
            let from = |at: usize| u32::try_from(span.start + at + spliced).unwrap_or_default();
            from(labels.start)..from(labels.end)
        });
        let object = Self {
            key,
            revision,
            json: line.slice(start..end),
            metadata: span.start..span.end + spliced,
            labels,
            spliced,
            value: Mutex::default(),
            parsed: AtomicBool::new(false),
            converted: Mutex::default(),
            shown: Mutex::default(),
        };
        Some((object, line))
    }

    /// This object in another version, if it was converted before by that edition of the webhook.
    pub(crate) fn converted(&self, edition: &str, version: &str) -> Option<Arc<Self>> {
        let converted = self.converted.lock();
        let found = converted.iter().find(|one| one.edition == edition && one.version == version)?;
        Some(found.object.clone())
    }

    /// Keeps what it was converted to, in place of what other editions of the webhook made of it.
    pub(crate) fn keep_converted(&self, edition: &str, version: &str, object: Arc<Self>) {
        let mut converted = self.converted.lock();
        converted.retain(|one| one.edition == edition && one.version != version);
        converted.push(Converted { edition: edition.to_owned(), version: version.to_owned(), object });
    }

    /// The object as a custom kind shows it: what its schema does not know is gone, what came since has its default.
    /// None if that is the object as it is.
    pub(crate) fn by_schema(&self, resource: &Resource, schema: &Arc<Custom>) -> Option<Arc<Self>> {
        let mut shown = self.shown.lock();
        if let Some(one) = shown.iter().find(|one| Arc::ptr_eq(&one.schema, schema)) {
            return one.object.clone();
        }
        let stored = self.value();
        let mut value = Value::clone(&stored);
        convert::from_storage(resource, &mut value);
        let object = if value == *stored { None } else { self.with(value) };
        if shown.len() == SCHEMAS {
            shown.remove(0);
        }
        shown.push(Shown { schema: schema.clone(), object: object.clone() });
        object
    }

    /// The object with other contents.
    fn with(&self, mut value: Value) -> Option<Arc<Self>> {
        value.get_mut("metadata")?.as_object_mut()?.remove("resourceVersion");
        Some(Arc::new(Self::from_stored(self.key.clone(), value.to_string().as_bytes(), self.revision)?))
    }

    /// The key in the store.
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// The revision of the write that made this version.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The whole object.
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// Its metadata alone.
    pub fn metadata_json(&self) -> &[u8] {
        &self.json[self.metadata.clone()]
    }

    /// The object from the value of its metadata on, if nothing but its kind and version comes before.
    pub(crate) fn behind_type(&self) -> Option<&[u8]> {
        let is_type_alone = scan::is_headed_by(&self.json, self.metadata.start, &[b"kind", b"apiVersion"]);
        is_type_alone.then(|| &self.json[self.metadata.start..])
    }

    /// What the object is made of, as members with their names, without kind and version.
    pub(crate) fn untyped_members(&self) -> Option<Vec<&[u8]>> {
        scan::members_without(&self.json, &[b"kind", b"apiVersion"])
    }

    /// Whether the selector selects its labels. They are not parsed for it: lists ask it of every object, and every
    /// watcher of every event.
    pub(crate) fn is_selected(&self, selector: &LabelSelector) -> bool {
        let span = self.labels.start as usize..self.labels.end as usize;
        let labels = if span.is_empty() { b"{}" } else { &self.json[span] };
        if labels.contains(&b'\\') {
            // Nothing that is valid as a label needs an escape.
            let labels: Option<Value> = serde_json::from_slice(labels).ok();
            return selector.matches_labels(labels.as_ref());
        }
        selector.matches_by(|key| scan::text(labels, key.as_bytes()))
    }

    /// The object with nothing in it but what lies at these paths.
    pub(crate) fn only<'a>(&self, paths: impl Iterator<Item = &'a [String]>) -> Value {
        let mut value = json!({});
        for path in paths {
            if let Some(found) = self.at(path) {
                let place = path.iter().fold(&mut value, |place, name| &mut place[name.as_str()]);
                *place = found;
            }
        }
        value
    }

    /// What lies at a path of member names.
    fn at(&self, path: &[String]) -> Option<Value> {
        let mut part = &self.json[..];
        for name in path {
            part = &part[scan::member(part, name.as_bytes())?];
        }
        serde_json::from_slice(part).ok()
    }

    /// The parsed object, the same for all who hold it at once. Null if the bytes in the store are not JSON after all.
    pub fn value(&self) -> Arc<Value> {
        if let Some(value) = self.value.lock().upgrade() {
            return value;
        }
        let value = Arc::new(serde_json::from_slice(&self.json).unwrap_or_else(|error| {
            tracing::error!(key = %self.key, %error, "an object in the store is not JSON");
            Value::Null
        }));
        *self.value.lock() = Arc::downgrade(&value);
        if self.parsed.swap(true, Ordering::Relaxed) {
            parsed::keep(&value, self.json.len());
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(stored: &str, revision: u64) -> Object {
        Object::from_stored("/registry/pods/a/b".into(), stored.as_bytes(), revision).expect("has metadata")
    }

    #[test]
    fn object_from_store_carries_its_revision() {
        let one = object(r#"{"kind":"Pod","metadata":{"name":"b"},"spec":{}}"#, 7);
        assert_eq!(
            *one.value(),
            json!({"kind":"Pod","metadata":{"name":"b","resourceVersion":"7"},"spec":{}})
        );
        assert_eq!(one.metadata_json(), br#"{"resourceVersion":"7","name":"b"}"#);
    }

    #[test]
    fn object_with_empty_metadata_stays_json() {
        assert_eq!(&object(r#"{"metadata":{ }}"#, 3).json()[..], br#"{"metadata":{"resourceVersion":"3" }}"#);
    }

    #[test]
    fn object_with_a_stored_resource_version_shows_the_revision() {
        let one = object(r#"{"metadata":{"name":"b","resourceVersion":"1"}}"#, 9);
        assert_eq!(one.value()["metadata"]["resourceVersion"], "9");
        assert_eq!(one.json().windows(17).filter(|w| w == b"\"resourceVersion\"").count(), 1);
    }

    #[test]
    fn deletion_shows_the_last_state_at_the_new_revision() {
        let (gone, line) = object(r#"{"metadata":{"name":"b"},"data":{"k":"}"}}"#, 7).deleted_at(12);
        assert_eq!(*gone.value(), json!({"metadata":{"name":"b","resourceVersion":"12"},"data":{"k":"}"}}));
        let event: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!((&event["type"], &event["object"]), (&json!("DELETED"), &*gone.value()));
    }

    #[test]
    fn readers_of_one_schema_share_what_it_shows() {
        let kinds = |default: &str| {
            let color = json!({ "type": "string", "default": default });
            let spec = json!({ "type": "object", "properties": { "color": color } });
            let schema = json!({ "type": "object", "properties": { "spec": spec } });
            skep_api::custom::resources(&json!({
                "metadata": { "name": "widgets.example.com" },
                "spec": {
                    "group": "example.com", "scope": "Namespaced",
                    "names": { "plural": "widgets", "kind": "Widget" },
                    "versions": [
                        { "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema } },
                    ],
                },
            }))
        };
        let stored = |spec: &str| {
            object(
                &format!(
                    r#"{{"apiVersion":"example.com/v1","kind":"Widget","metadata":{{"name":"b"}},"spec":{spec}}}"#
                ),
                7,
            )
        };
        let (red, blue) = (kinds("red"), kinds("blue"));
        let shown = |object: &Object, kinds: &[Arc<Resource>]| {
            object.by_schema(&kinds[0], kinds[0].custom.as_ref().expect("is custom"))
        };
        let old = stored("{}");
        let (one, two) = (shown(&old, &red).expect("is another"), shown(&old, &red).expect("is another"));
        assert!(Arc::ptr_eq(&one, &two));
        assert_eq!((&one.value()["spec"]["color"], one.revision()), (&json!("red"), 7));
        assert_eq!(one.value()["metadata"]["resourceVersion"], "7");
        assert_eq!(shown(&old, &blue).expect("is another").value()["spec"]["color"], "blue");
        assert!(shown(&stored(r#"{"color":"green"}"#), &red).is_none());
    }

    #[test]
    fn parts_of_an_object_are_found_without_parsing_it() {
        let one =
            object(r#"{"metadata":{"labels":{"a":"b"},"name":"n"},"spec":{"on":true,"deep":{"x":[1]}}}"#, 7);
        let selects = |object: &Object, text: &str| object.is_selected(&LabelSelector::parse(text).unwrap());
        for (selector, expected) in
            [("a=b", true), ("a", true), ("!a", false), ("a!=b", false), ("c notin (d)", true)]
        {
            assert_eq!(selects(&one, selector), expected, "{selector}");
        }
        let escaped = object(r#"{"metadata":{"labels":{"\u0061":"b","n":1}}}"#, 7);
        assert!(selects(&escaped, "a=b") && selects(&escaped, "!n") && !selects(&escaped, "c"));
        let paths =
            [&["spec", "on"][..], &["spec", "deep", "x"], &["spec", "none"], &["metadata", "name", "n"]];
        let paths = paths.map(|path| path.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let only = one.only(paths.iter().map(Vec::as_slice));
        assert_eq!(only, json!({ "spec": { "on": true, "deep": { "x": [1] } } }));
        for metadata in [r#"{"name":"n"}"#, r#"{"labels":null}"#] {
            let none = object(&format!(r#"{{"metadata":{metadata}}}"#), 7);
            assert!(!selects(&none, "a") && selects(&none, "!a"), "{metadata}");
        }
    }

    #[test]
    fn parsed_object_is_shared_while_it_is_held() {
        let one = object(r#"{"metadata":{"name":"n"}}"#, 7);
        let (first, second) = (one.value(), one.value());
        assert!(Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn bytes_without_metadata_are_no_object() {
        for stored in ["", "[]", "{}", r#"{"metadata":[]}"#, "k8s\0\n", r#"{"metadata":{"#] {
            assert!(Object::from_stored("k".into(), stored.as_bytes(), 1).is_none(), "{stored}");
        }
    }
}
