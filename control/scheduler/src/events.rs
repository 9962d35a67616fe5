//! The scheduler's events: `Scheduled` and `FailedScheduling`, as core/v1 Events.
//!
//! A repeated event raises the count of the one that is there. Writing never holds scheduling up: what does
//! not fit into the channel is dropped.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;

const WAITING: usize = 1000;
const REMEMBERED: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Note {
    namespace: String,
    pod: String,
    uid: String,
    reason: &'static str,
    message: String,
}

/// Takes events. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    sender: mpsc::Sender<Note>,
}

impl Recorder {
    /// A recorder, and the task that writes until every clone is gone.
    pub(crate) fn new(client: Client, component: String) -> (Self, impl Future<Output = ()>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self { sender }, write(client, component, receiver))
    }

    /// The pod has a node.
    pub(crate) fn scheduled(&self, pod: &Pod, node: &str) {
        let meta = &pod.metadata;
        let (namespace, name) =
            (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        self.record(pod, "Scheduled", format!("Successfully assigned {namespace}/{name} to {node}"));
    }

    /// The pod has none, for the reason given.
    pub(crate) fn failed(&self, pod: &Pod, message: String) {
        self.record(pod, "FailedScheduling", message);
    }

    fn record(&self, pod: &Pod, reason: &'static str, message: String) {
        let meta = pod.metadata.clone();
        let note = Note {
            namespace: meta.namespace.unwrap_or_default(),
            pod: meta.name.unwrap_or_default(),
            uid: meta.uid.unwrap_or_default(),
            reason,
            message,
        };
        if self.sender.try_send(note).is_err() {
            tracing::debug!(reason, "event dropped: too many are waiting");
        }
    }
}

async fn write(client: Client, component: String, mut notes: mpsc::Receiver<Note>) {
    let mut written: HashMap<Note, (String, i32)> = HashMap::new();
    while let Some(note) = notes.recv().await {
        if written.len() >= REMEMBERED {
            written.clear();
        }
        if let Err(error) = write_one(&client, &component, &mut written, note).await {
            tracing::debug!(%error, "event not written");
        }
    }
}

async fn write_one(
    client: &Client,
    component: &str,
    written: &mut HashMap<Note, (String, i32)>,
    note: Note,
) -> Result<(), kube::Error> {
    let events: Api<Event> = Api::namespaced(client.clone(), &note.namespace);
    let now = Timestamp::now();
    if let Some((name, count)) = written.get_mut(&note) {
        let patch = json!({ "count": count.saturating_add(1), "lastTimestamp": Time(now) });
        match events.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => {
                *count = count.saturating_add(1);
                return Ok(());
            }
            // It has expired: write it anew.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    let created = events.create(&PostParams::default(), &event(component, &note, now)).await?;
    written.insert(note, (created.metadata.name.unwrap_or_default(), 1));
    Ok(())
}

fn event(component: &str, note: &Note, now: Timestamp) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:x}", note.pod, now.as_nanosecond())),
            namespace: Some(note.namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(note.namespace.clone()),
            name: Some(note.pod.clone()),
            uid: Some(note.uid.clone()),
            ..ObjectReference::default()
        },
        type_: Some(if note.reason == "Scheduled" { "Normal" } else { "Warning" }.to_owned()),
        reason: Some(note.reason.to_owned()),
        message: Some(note.message.clone()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        source: Some(EventSource { component: Some(component.to_owned()), host: None }),
        reporting_component: Some(component.to_owned()),
        ..Event::default()
    }
}
