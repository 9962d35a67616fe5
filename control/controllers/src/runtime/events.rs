//! Events: what a controller tells people about an object, as core/v1 Events.
//!
//! Recording never blocks and never fails a reconciliation: events go through a bounded channel to one
//! task that writes them; when it cannot keep up they are dropped and counted. The same event again raises
//! the count of the one that is there, and an object gets at most [`BURST`] different events in a row,
//! then one per [`REFILL`].

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use kube::{Api, Client, Resource};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::clock::Clock;
use super::ownership::controller_reference;

/// Events about one object that pass before the limit sets in.
pub const BURST: u32 = 25;
/// How often an object may get another event after that.
pub const REFILL: Duration = Duration::from_secs(300);
/// Events that wait to be written.
const WAITING: usize = 1000;
/// Events that are remembered in order to count repetitions.
const REMEMBERED: usize = 4096;

/// Whether an event tells of something normal or of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// `Normal`
    Normal,
    /// `Warning`
    Warning,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Note {
    about: About,
    severity: Severity,
    reason: &'static str,
    message: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct About {
    api_version: String,
    kind: String,
    namespace: String,
    name: String,
    uid: String,
}

/// Records events of one controller. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    sender: mpsc::Sender<Note>,
}

impl Recorder {
    /// A recorder, and the task that writes its events until every clone is gone.
    pub fn new(client: Client, component: &'static str, clock: Clock) -> (Self, impl Future<Output = ()>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self { sender }, write(client, component, clock, receiver))
    }

    /// Tells of something that happened to the object.
    pub fn record<K>(&self, object: &K, severity: Severity, reason: &'static str, message: String)
    where
        K: Resource<DynamicType = ()>,
    {
        let reference = controller_reference(object);
        let about = About {
            api_version: reference.api_version,
            kind: reference.kind,
            namespace: object.meta().namespace.clone().unwrap_or_default(),
            name: reference.name,
            uid: reference.uid,
        };
        if self.sender.try_send(Note { about, severity, reason, message }).is_err() {
            tracing::debug!(reason, "event dropped: too many are waiting");
        }
    }
}

struct Written {
    name: String,
    count: i32,
    at: Instant,
}

/// What has been written, and how much more an object may get.
#[derive(Default)]
struct Memory {
    written: HashMap<Note, Written>,
    budgets: HashMap<About, (u32, Instant)>,
}

impl Memory {
    /// Whether another event about the object may pass (a token bucket).
    fn admit(&mut self, about: &About, now: Instant) -> bool {
        if self.budgets.len() > REMEMBERED {
            self.budgets.retain(|_, (left, at)| *left < BURST && now.duration_since(*at) < REFILL * BURST);
        }
        let (left, at) = self.budgets.entry(about.clone()).or_insert((BURST, now));
        let earned = (now.duration_since(*at).as_secs() / REFILL.as_secs()) as u32;
        if earned > 0 {
            *left = left.saturating_add(earned).min(BURST);
            *at = now;
        }
        if *left == 0 {
            return false;
        }
        *left -= 1;
        true
    }

    fn remember(&mut self, note: Note, written: Written) {
        if self.written.len() >= REMEMBERED {
            let mut ages: Vec<Instant> = self.written.values().map(|w| w.at).collect();
            ages.sort_unstable();
            let median = ages[ages.len() / 2];
            self.written.retain(|_, w| w.at > median);
        }
        self.written.insert(note, written);
    }
}

async fn write(client: Client, component: &'static str, clock: Clock, mut notes: mpsc::Receiver<Note>) {
    let mut memory = Memory::default();
    while let Some(note) = notes.recv().await {
        if !memory.admit(&note.about, Instant::now()) {
            continue;
        }
        if let Err(error) = write_one(&client, component, &clock, &mut memory, note).await {
            tracing::debug!(component, %error, "event not written");
        }
    }
}

async fn write_one(
    client: &Client,
    component: &'static str,
    clock: &Clock,
    memory: &mut Memory,
    note: Note,
) -> Result<(), kube::Error> {
    let namespace = if note.about.namespace.is_empty() { "default" } else { note.about.namespace.as_str() };
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    if let Some(written) = memory.written.get_mut(&note) {
        let count = written.count.saturating_add(1);
        let patch = json!({ "count": count, "lastTimestamp": clock.time() });
        match events.patch(&written.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => {
                written.count = count;
                written.at = Instant::now();
                return Ok(());
            }
            // It has expired: write it anew.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    let event = event(component, clock, namespace, &note);
    let created = events.create(&PostParams::default(), &event).await?;
    let name = created.metadata.name.unwrap_or_default();
    memory.remember(note, Written { name, count: 1, at: Instant::now() });
    Ok(())
}

fn event(component: &'static str, clock: &Clock, namespace: &str, note: &Note) -> Event {
    let About { api_version, kind, namespace: of, name, uid } = note.about.clone();
    let time = clock.time();
    let stamp = clock.now().as_nanosecond();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{stamp:x}")),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(api_version),
            kind: Some(kind),
            namespace: (!of.is_empty()).then_some(of),
            name: Some(name),
            uid: Some(uid),
            ..ObjectReference::default()
        },
        type_: Some(match note.severity {
            Severity::Normal => "Normal".to_owned(),
            Severity::Warning => "Warning".to_owned(),
        }),
        reason: Some(note.reason.to_owned()),
        message: Some(note.message.clone()),
        count: Some(1),
        first_timestamp: Some(time.clone()),
        last_timestamp: Some(time),
        source: Some(EventSource { component: Some(component.to_owned()), host: None }),
        reporting_component: Some(component.to_owned()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn memory_admits_a_burst_then_one_per_refill() {
        let (mut memory, about) = (Memory::default(), About::default());
        let admitted = (0..100).filter(|_| memory.admit(&about, Instant::now())).count();
        assert_eq!(admitted, BURST as usize);
        tokio::time::advance(REFILL).await;
        let admitted = (0..100).filter(|_| memory.admit(&about, Instant::now())).count();
        assert_eq!(admitted, 1);
        let other = About { name: "other".into(), ..About::default() };
        assert!(memory.admit(&other, Instant::now()), "the limit is per object");
    }
}
