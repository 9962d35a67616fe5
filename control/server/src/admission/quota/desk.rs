//! Where the writes of one namespace wait to be judged, and which of those that were charged have not happened yet.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use skep_api::object::{text, uid};
use skep_api::quota::{Evaluator, Request};
use skep_api::resources::Amounts;
use skep_api::status::Status;
use tokio::sync::oneshot;

use crate::admission::Hold;

/// A write to be judged.
pub(super) struct Job {
    pub(super) evaluator: Evaluator,
    /// Group and plural name of the kind.
    pub(super) kind: (String, String),
    pub(super) name: String,
    pub(super) is_status: bool,
    pub(super) dry_run: bool,
    pub(super) old: Option<Value>,
    pub(super) new: Value,
    pub(super) now: String,
}

impl Job {
    pub(super) fn request(&self) -> Request<'_> {
        Request {
            evaluator: &self.evaluator,
            kind: (&self.kind.0, &self.kind.1),
            is_status: self.is_status,
            old: self.old.as_ref(),
            new: &self.new,
            now: &self.now,
        }
    }
}

/// Why a write may not happen.
#[derive(Clone, Debug)]
pub(super) enum Refusal {
    /// There is no room.
    Forbidden(String),
    /// It could not be decided.
    Failed(Status),
}

impl Refusal {
    /// Whoever had the turn did not come to an end.
    pub(super) fn lost() -> Self {
        Self::Failed(Status::internal("the evaluation of quotas did not finish"))
    }
}

/// A job, and where its verdict goes.
pub(super) struct Waiting {
    pub(super) job: Job,
    pub(super) answer: oneshot::Sender<Result<Charge, Refusal>>,
}

/// What only the holder of the turn looks at: the quotas by uid.
#[derive(Default)]
pub(super) struct Turn(HashMap<String, Known>);

/// What this server knows of a quota.
#[derive(Default)]
struct Known {
    /// The version that it wrote last.
    written: String,
    /// The version that it saw last.
    seen: String,
    /// Grows whenever somebody else has written.
    epoch: u64,
}

impl Turn {
    /// Notes the version that was read. Whether somebody else has written it, and how often that has happened.
    pub(super) fn saw(&mut self, uid: &str, version: &str) -> (bool, u64) {
        let known = self.0.entry(uid.to_owned()).or_default();
        let foreign = known.written != version;
        known.epoch += u64::from(foreign && known.seen != version);
        version.clone_into(&mut known.seen);
        (foreign, known.epoch)
    }

    /// Notes the version that was written.
    pub(super) fn wrote(&mut self, uid: &str, version: String) {
        let known = self.0.entry(uid.to_owned()).or_default();
        known.seen.clone_from(&version);
        known.written = version;
    }
}

/// One namespace.
#[derive(Default)]
pub(super) struct Desk {
    pub(super) waiting: Mutex<Vec<Waiting>>,
    pub(super) turn: tokio::sync::Mutex<Turn>,
    flights: Mutex<Flights>,
    failed: Mutex<Vec<Charges>>,
}

/// What a write was charged for: for each quota by name, in which of its epochs, and how much.
pub(super) type Charges = HashMap<String, (u64, Amounts)>;

#[derive(Default)]
struct Flights {
    next: u64,
    all: HashMap<u64, Flight>,
}

/// A write that has been charged and may not have happened yet.
#[derive(Clone)]
pub(super) struct Flight {
    pub(super) kind: (String, String),
    pub(super) name: String,
    uid: String,
    /// The version that it replaces, empty for a new object.
    version: String,
    pub(super) charged: Charges,
}

impl Flight {
    pub(super) fn of(job: &Job) -> Self {
        let version = job.old.as_ref().map_or("", |old| text(old, &["metadata", "resourceVersion"]));
        Self {
            kind: job.kind.clone(),
            name: job.name.clone(),
            uid: uid(&job.new).to_owned(),
            version: version.to_owned(),
            charged: HashMap::new(),
        }
    }

    /// Whether `found` shows that it has happened.
    pub(super) fn has_landed(&self, found: Option<&Value>) -> bool {
        found.is_some_and(|found| {
            uid(found) == self.uid && text(found, &["metadata", "resourceVersion"]) != self.version
        })
    }
}

/// Marks a write as being under way; dropped when it has happened, or failed.
#[derive(Default)]
pub(super) struct Charge {
    at: Option<(Arc<Desk>, u64)>,
    landed: bool,
}

impl Desk {
    /// The writes under way.
    pub(super) fn flights(&self) -> Vec<Flight> {
        self.flights.lock().all.values().cloned().collect()
    }

    /// Notes a write as being under way.
    pub(super) fn depart(self: &Arc<Self>, flight: Flight) -> Charge {
        let mut flights = self.flights.lock();
        let id = flights.next;
        flights.next += 1;
        flights.all.insert(id, flight);
        Charge { at: Some((self.clone(), id)), landed: false }
    }

    /// The charges of writes that have failed since the last call.
    pub(super) fn failed(&self) -> Vec<Charges> {
        std::mem::take(&mut *self.failed.lock())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let Some((desk, id)) = self.at.take() else { return };
        let flight = desk.flights.lock().all.remove(&id);
        if let Some(flight) = flight.filter(|_| !self.landed) {
            desk.failed.lock().push(flight.charged);
        }
    }
}

impl Hold for Charge {
    fn landed(&mut self) {
        self.landed = true;
    }
}
