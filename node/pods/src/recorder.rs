//! Events about pods and the node. What repeats is counted on one Event object instead of making more.
//!
//! Recording never waits: a task of its own writes, and drops what the API does not take. Owns the counting.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::spec;

/// Component name in events, which tools filter by.
const COMPONENT: &str = "kubelet";
/// More different events than this are not remembered.
const REMEMBERED: usize = 4096;

/// How serious an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// As it should be.
    Normal,
    /// Somebody should look.
    Warning,
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// What happened, and to what.
#[derive(Clone, Debug)]
pub struct Note {
    /// The object.
    pub object: ObjectReference,
    /// How serious it is.
    pub severity: Severity,
    /// One word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

/// Hands events to whoever writes them.
#[derive(Clone, Debug)]
pub struct Recorder {
    sender: mpsc::Sender<Note>,
}

impl Recorder {
    /// A recorder, and the end at which its notes come out.
    pub fn new() -> (Self, mpsc::Receiver<Note>) {
        let (sender, receiver) = mpsc::channel(1024);
        (Self { sender }, receiver)
    }

    /// Notes something about a pod, or about the part of it at `field_path`.
    pub fn pod(
        &self,
        pod: &Pod,
        field_path: Option<String>,
        severity: Severity,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let object = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            resource_version: pod.metadata.resource_version.clone(),
            field_path,
        };
        let message = message.into();
        tracing::info!(pod = spec::name(pod), namespace = spec::namespace(pod), reason, message, "pod event");
        self.send(Note { object, severity, reason, message });
    }

    /// Notes something about the node.
    pub fn node(&self, name: &str, reason: &'static str, message: impl Into<String>) {
        let object = ObjectReference {
            kind: Some("Node".into()),
            name: Some(name.to_owned()),
            // Nodes are referred to by name in place of the uid, so that events precede the object.
            uid: Some(name.to_owned()),
            ..ObjectReference::default()
        };
        self.send(Note { object, severity: Severity::Normal, reason, message: message.into() });
    }

    fn send(&self, note: Note) {
        if let Err(error) = self.sender.try_send(note) {
            tracing::debug!(%error, "an event was dropped");
        }
    }
}

type Key = (Option<String>, Option<String>, Severity, &'static str, String);

struct Known {
    namespace: String,
    name: String,
    count: i32,
}

/// Writes notes as Event objects until all recorders are gone.
pub async fn write(mut notes: mpsc::Receiver<Note>, client: Client, host: String, clock: Arc<dyn Clock>) {
    let mut known: HashMap<Key, Known> = HashMap::new();
    while let Some(note) = notes.recv().await {
        let object = &note.object;
        let key: Key =
            (object.uid.clone(), object.field_path.clone(), note.severity, note.reason, note.message.clone());
        let now = clock.now();
        if let Some(entry) = known.get_mut(&key) {
            let api: Api<Event> = Api::namespaced(client.clone(), &entry.namespace);
            let patch = serde_json::json!({"count": entry.count + 1, "lastTimestamp": Time(now)});
            let patched = api.patch(&entry.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
            match patched {
                Ok(_) => {
                    entry.count += 1;
                    continue;
                }
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => {
                    tracing::debug!(%error, "an event could not be counted");
                    continue;
                }
            }
        }
        let namespace = object.namespace.clone().unwrap_or_else(|| "default".into());
        let name = format!("{}.{:x}", object.name.as_deref().unwrap_or_default(), now.as_nanosecond());
        let event = event(note, &namespace, &name, &host, now);
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => {
                if known.len() >= REMEMBERED {
                    known.clear();
                }
                known.insert(key, Known { namespace, name, count: 1 });
            }
            Err(error) => tracing::debug!(%error, "an event could not be written"),
        }
    }
}

fn event(note: Note, namespace: &str, name: &str, host: &str, now: jiff::Timestamp) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: note.object,
        type_: Some(note.severity.name().to_owned()),
        reason: Some(note.reason.to_owned()),
        message: Some(note.message),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        source: Some(EventSource { component: Some(COMPONENT.into()), host: Some(host.to_owned()) }),
        reporting_component: Some(COMPONENT.into()),
        reporting_instance: Some(host.to_owned()),
        ..Event::default()
    }
}
