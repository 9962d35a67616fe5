//! What the queues of a level hold in one moment, for those who look. Nothing is decided by it.

use std::sync::Arc;

use super::request::{Arriving, Asking};
use super::{Counts, Queues, Response, Running, Seconds, Work};
use crate::fairness::config::Schema;

/// How far the level is, in R.
pub(in crate::fairness) struct Meters {
    pub(in crate::fairness) progress: f64,
    /// When a request was started from a queue last, and where that one was to begin.
    pub(in crate::fairness) dispatched: (f64, f64),
    /// Where the first and the last of the queues with requests would begin with the next, without and with what is under
    /// way in them taken off.
    pub(in crate::fairness) next: Option<[(f64, f64); 2]>,
    /// How often there were no seats for the request that was next, since this was asked last.
    pub(in crate::fairness) unseated: Vec<(Arc<str>, u64)>,
}

/// The queues of a level.
pub(in crate::fairness) struct Snapshot {
    /// Queues with their numbers.
    pub(in crate::fairness) queues: Vec<(usize, Held)>,
    /// Requests being handled that came through no queue.
    pub(in crate::fairness) queueless: Vec<Request>,
    pub(in crate::fairness) waiting: usize,
    pub(in crate::fairness) executing: usize,
    pub(in crate::fairness) counts: Counts,
    pub(in crate::fairness) is_idle: bool,
}

/// One queue.
pub(in crate::fairness) struct Held {
    pub(in crate::fairness) waiting: Vec<Request>,
    pub(in crate::fairness) executing: Vec<Request>,
    pub(in crate::fairness) seats: u32,
    /// R at which its next request would begin.
    pub(in crate::fairness) next: f64,
}

/// One request.
pub(in crate::fairness) struct Request {
    pub(in crate::fairness) asking: Asking,
    pub(in crate::fairness) schema: Arc<Schema>,
    pub(in crate::fairness) work: Work,
    pub(in crate::fairness) arrived: Seconds,
    /// Nothing while it waits.
    pub(in crate::fairness) started: Option<Seconds>,
}

impl Request {
    fn waiting(one: &Arriving, arrived: Seconds) -> Self {
        let (asking, schema) = (one.asking.clone(), one.schema.clone());
        Self { asking, schema, work: one.work, arrived, started: None }
    }

    fn executing(one: &Running) -> Self {
        let (asking, schema) = (one.asking.clone(), one.schema.clone());
        let arrived = one.started - one.waited;
        Self { asking, schema, work: one.work, arrived, started: Some(one.started) }
    }
}

impl<T> Queues<T> {
    /// How far the level is.
    pub(in crate::fairness) fn meters(&mut self) -> Meters {
        let waiting = self.queues.iter().filter(|queue| !queue.waiting.is_empty());
        let next = waiting.map(|queue| [queue.next(), queue.next() - queue.guessed()]);
        let next = next.map(|both| both.map(|at| (at, at)));
        let both = |one: (f64, f64), other: (f64, f64)| (one.0.min(other.0), one.1.max(other.1));
        let next = next.reduce(|one, other| [both(one[0], other[0]), both(one[1], other[1])]);
        let unseated = self.unseated.drain().collect();
        Meters { progress: self.progress, dispatched: self.dispatched, next, unseated }
    }

    /// What there is, in the order in which it came.
    pub(in crate::fairness) fn snapshot(&self) -> Snapshot {
        let configured = match self.response {
            Response::Queue { queues, .. } => queues,
            _ => 0,
        };
        let mut executing: Vec<&Running> = self.executing.values().map(|one| &**one).collect();
        executing.sort_by_key(|one| one.ticket);
        let of = |queue: Option<usize>| -> Vec<Request> {
            let those = executing.iter().filter(|one| one.queue == queue);
            those.map(|one| Request::executing(one)).collect()
        };
        // Queues beyond those that there are to be are there until they are empty.
        let queues = self.queues.iter().enumerate();
        let shown = queues.filter(|(at, queue)| *at < configured || queue.is_busy() || queue.seats > 0);
        let queues = shown.map(|(at, queue)| {
            let waiting = queue.waiting.iter().map(|one| Request::waiting(&one.one, one.arrived)).collect();
            (at, Held { waiting, executing: of(Some(at)), seats: queue.seats, next: queue.next() })
        });
        Snapshot {
            queues: queues.collect(),
            queueless: of(None),
            waiting: self.waiting,
            executing: self.executing.len(),
            counts: self.counts,
            is_idle: self.is_idle(),
        }
    }
}
