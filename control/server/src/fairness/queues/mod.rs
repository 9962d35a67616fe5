//! The queues of one priority level: fair queuing in virtual time (KEP-1040), without a clock of its own.
//!
//! Each queue that has requests gets the same share of the level's seats. The progress meter R counts seat-seconds given to
//! each busy queue; every queue knows at which R its next request would begin. The request that would end first is next.
//! A request goes through: waiting -> executing -> lingering (its seats stay taken for what it causes afterwards) -> gone.
//!
//! Shares alone do not make a seat free at the moment in which somebody comes who was quiet. So a part of the seats is kept
//! for flows that have none: whoever has some can only take more while that [part](KEPT_FREE) stays free. Upstream keeps
//! none; there, who comes beside a flood of long requests waits until one of them ends.
//!
//! Pure: callers pass the time in and act on what comes out.

mod request;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::config::{Response, Schema};
use super::demand::Demand;
use super::queue::{Queue, Waiting};
use super::shuffle;

pub(crate) use request::Work;
pub(super) use request::{Arrived, Called, Place, Refused, Running, Seconds};

/// One in so many seats is kept free for flows that have none: together as many as the widest request may take.
const KEPT_FREE: u32 = 6;

/// The queues of a level.
pub(super) struct Queues<T> {
    response: Response,
    limit: u32,
    queues: Vec<Queue<T>>,
    /// Seats by flow, of those that have some.
    flows: HashMap<u64, u32, ahash::RandomState>,
    progress: f64,
    now: Seconds,
    robin: usize,
    tickets: u64,
    waiting: usize,
    seats_waiting: u32,
    executing: usize,
    seats: u32,
    demand: Demand,
}

impl<T> Queues<T> {
    pub(super) fn new(response: Response, limit: u32, now: Seconds) -> Self {
        let mut queues = Self {
            response,
            limit,
            queues: Vec::new(),
            flows: HashMap::default(),
            progress: 0.0,
            now,
            robin: 0,
            tickets: 0,
            waiting: 0,
            seats_waiting: 0,
            executing: 0,
            seats: 0,
            demand: Demand::new(now),
        };
        queues.shape(response);
        queues
    }

    fn shape(&mut self, response: Response) {
        self.response = response;
        if let Response::Queue { queues, .. } = response
            && queues > self.queues.len()
        {
            self.queues.resize_with(queues, Queue::new);
        }
    }

    /// Seats taken, and by how many requests.
    #[cfg(test)]
    pub(super) fn in_use(&self) -> (u32, usize) {
        (self.seats, self.executing)
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn progress(&self) -> f64 {
        self.progress
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.waiting == 0 && self.executing == 0 && self.seats == 0
    }

    /// The seats that were wanted since this was asked last.
    pub(super) fn take_demand(&mut self, now: Seconds) -> super::demand::Observed {
        self.demand.take(now)
    }

    /// Another limit, or other queues. Queues that are too many are emptied as it goes.
    pub(super) fn configure(&mut self, now: Seconds, response: Response, limit: u32) -> Vec<Called<T>> {
        self.sync(now);
        self.limit = limit;
        self.shape(response);
        self.dispatch()
    }

    /// Moves the meter on, by what went on since it was moved last.
    fn sync(&mut self, now: Seconds) {
        let passed = (now - self.now).max(0.0);
        self.now = self.now.max(now);
        let busy = self.queues.iter().filter(|queue| queue.is_busy()).count();
        if busy > 0 {
            let wanted = (self.seats + self.seats_waiting).min(self.limit);
            self.progress += passed * f64::from(wanted) / busy as f64;
        }
    }

    /// A request comes; requests whose turn it is by that come out, too, and the new one may be among those that wait.
    pub(super) fn arrive(
        &mut self,
        now: Seconds,
        work: Work,
        flow: u64,
        schema: &Arc<Schema>,
        call: T,
    ) -> (Arrived, Vec<Called<T>>) {
        self.sync(now);
        let Response::Queue { queues, hand, length } = self.response else {
            if !self.fits(work.width()) {
                return (Arrived::Refused(Refused::ConcurrencyLimit), Vec::new());
            }
            let running = self.start(work, schema.clone(), now, flow, None);
            return (Arrived::Runs(running), Vec::new());
        };
        let at = self.choose(queues, hand, flow);
        if self.seats >= self.limit && self.queues[at].waiting.len() >= length {
            return (Arrived::Refused(Refused::QueueFull), Vec::new());
        }
        let ticket = self.tickets;
        self.tickets += 1;
        let arrival = self.progress;
        let queue = &mut self.queues[at];
        queue.push(Waiting { ticket, work, flow, schema: schema.clone(), arrived: now, arrival, call });
        let place = Place { queue: at, ticket, length: queue.waiting.len() };
        self.waiting += 1;
        self.seats_waiting += work.width();
        self.note();
        let called = self.dispatch();
        (Arrived::Waits(place), called)
    }

    /// The queue with the least work, of the flow's hand; of equals, that with the least under way.
    fn choose(&self, queues: usize, hand: usize, flow: u64) -> usize {
        let hand = shuffle::deal(queues, hand, flow);
        let offset = self.tickets as usize % hand.len();
        let turned = (0..hand.len()).map(|at| hand[(offset + at) % hand.len()]);
        let loads = turned.map(|at| (at, self.queues[at].load()));
        let least = loads.min_by(|(_, one), (_, other)| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
        least.expect("a hand has a queue").0
    }

    fn fits(&self, seats: u32) -> bool {
        match self.response {
            Response::Exempt => true,
            // What is wider than the level has it for itself.
            _ if seats > self.limit => self.executing == 0,
            _ => self.seats + seats <= self.limit,
        }
    }

    /// Whether the flow may have so many seats now.
    fn may_have(&self, flow: u64, seats: u32) -> bool {
        let leaves = || self.seats + seats + self.limit / KEPT_FREE <= self.limit;
        self.fits(seats) && (!self.flows.contains_key(&flow) || leaves())
    }

    fn start(
        &mut self,
        work: Work,
        schema: Arc<Schema>,
        arrived: Seconds,
        flow: u64,
        queue: Option<usize>,
    ) -> Running {
        self.executing += 1;
        self.seats += work.width();
        *self.flows.entry(flow).or_default() += work.width();
        self.note();
        Running { work, schema, waited: self.now - arrived, queue, flow, started: self.now }
    }

    fn note(&mut self) {
        self.demand.set(self.now, f64::from(self.seats + self.seats_waiting));
    }

    /// Starts whatever can start.
    fn dispatch(&mut self) -> Vec<Called<T>> {
        let mut called = Vec::new();
        while self.waiting > 0 && self.seats < self.limit {
            let Some(at) = self.next_queue() else { break };
            self.robin = at;
            let one = self.queues[at].begin(self.now);
            self.waiting -= 1;
            self.seats_waiting -= one.work.width();
            let running = self.start(one.work, one.schema, one.arrived, one.flow, Some(at));
            called.push(Called { running, call: one.call });
        }
        called
    }

    /// The queue whose oldest request is next, if there are seats for it. Where there are none for it, those of flows that
    /// have none may go before it, so far as seats are kept for them; others have to wait behind it, or a wide request
    /// would wait for ever.
    fn next_queue(&self) -> Option<usize> {
        let oldest = |at: usize| self.queues[at].waiting.front();
        let may = |at: &usize| oldest(*at).is_some_and(|one| self.may_have(one.flow, one.work.width()));
        let has_seats = |at: usize| oldest(at).is_some_and(|one| self.flows.contains_key(&one.flow));
        let first = self.ends_first(|_| true)?;
        match has_seats(first) && !may(&first) {
            true => self.ends_first(|at| !has_seats(at)).filter(may),
            false => Some(first).filter(may),
        }
    }

    /// The queue whose oldest request would end first; of equals, the first after the one that had its turn last.
    fn ends_first(&self, counts: impl Fn(usize) -> bool) -> Option<usize> {
        let count = self.queues.len();
        let turned = (1..=count).map(|step| (self.robin + step) % count);
        let ends = turned.filter_map(|at| Some((at, self.queues[at].end_of_next(self.now)?)));
        let counted = ends.filter(|(at, _)| counts(*at));
        counted.min_by(|one, other| one.1.total_cmp(&other.1)).map(|(at, _)| at)
    }

    /// A request does not want to wait any longer; whether it was still waiting.
    pub(super) fn cancel(&mut self, now: Seconds, place: Place) -> bool {
        self.sync(now);
        let Some(one) = self.queues[place.queue].leave(place.ticket) else { return false };
        self.waiting -= 1;
        self.seats_waiting -= one.work.width();
        self.note();
        true
    }

    /// A request was handled. Its seats stay taken until [`Queues::release`] where it lingers.
    pub(super) fn finish(&mut self, now: Seconds, running: &Running) -> Vec<Called<T>> {
        self.sync(now);
        self.executing -= 1;
        if let Some(at) = running.queue {
            self.queues[at].end(running.work.seats, running.started, self.now);
        }
        match running.work.lingering.is_zero() {
            true => self.release(now, running),
            false => Vec::new(),
        }
    }

    /// Nothing of the request is left.
    pub(super) fn release(&mut self, now: Seconds, running: &Running) -> Vec<Called<T>> {
        self.sync(now);
        self.seats -= running.work.width();
        if let Entry::Occupied(mut of_flow) = self.flows.entry(running.flow) {
            *of_flow.get_mut() -= running.work.width();
            if *of_flow.get() == 0 {
                of_flow.remove();
            }
        }
        self.note();
        self.dispatch()
    }
}
