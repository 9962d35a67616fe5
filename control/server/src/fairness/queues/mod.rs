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
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::config::Response;
use super::demand::Demand;
use super::queue::{Queue, Waiting};
use super::shuffle;
use super::uses::{Amounts, Uses};

pub(crate) use request::Work;
pub(super) use request::{Arrived, Arriving, Asking, Called, Left, Place, Refused, Running, Seconds};
pub(super) use snapshot::{Meters, Request, Snapshot};

/// One in so many seats is kept free for flows that have none: together as many as the widest request may take.
const KEPT_FREE: u32 = 6;

/// How often it came to what, since the level is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) dispatched: u64,
    /// Those that left their queue before it was their turn are among them.
    pub(super) rejected: u64,
    pub(super) timed_out: u64,
    pub(super) cancelled: u64,
}

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
    /// Requests being handled, by their tickets.
    executing: HashMap<u64, Arc<Running>, ahash::RandomState>,
    seats: u32,
    demand: Demand,
    uses: Uses,
    counts: Counts,
    /// R when a request was started from a queue last, and R at which it was to begin.
    dispatched: (f64, f64),
    /// How often there were no seats for the request that was next, by its schema.
    unseated: HashMap<Arc<str>, u64, ahash::RandomState>,
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
            executing: HashMap::default(),
            seats: 0,
            demand: Demand::new(now),
            uses: Uses::new(now),
            counts: Counts::default(),
            dispatched: (0.0, 0.0),
            unseated: HashMap::default(),
        };
        queues.shape(response);
        queues.bound_uses();
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
        (self.seats, self.executing.len())
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether nothing is left of any request.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting == 0 && self.executing.is_empty() && self.seats == 0
    }

    /// So many seats are the level's own.
    pub(super) fn own(&mut self, now: Seconds, seats: u32) {
        self.uses.own(now, seats);
    }

    fn bound_uses(&mut self) {
        let places = match self.response {
            Response::Queue { queues, length, .. } => queues * length,
            _ => 0,
        };
        self.uses.limit(self.now, self.limit, places);
    }

    /// What was in use until now.
    pub(super) fn uses(&mut self, now: Seconds) -> Uses {
        self.uses.pass(now);
        self.uses.clone()
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
        self.bound_uses();
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
    pub(super) fn arrive(&mut self, now: Seconds, one: Arriving, call: T) -> (Arrived, Vec<Called<T>>) {
        self.sync(now);
        let (ticket, width) = (self.tickets, one.work.width());
        let Response::Queue { queues, hand, length } = self.response else {
            if !self.fits(width) {
                return (self.refuse(Refused::ConcurrencyLimit), Vec::new());
            }
            self.tickets += 1;
            return (Arrived::Runs(self.start(ticket, one, now, None)), Vec::new());
        };
        let at = self.choose(queues, hand, one.flow);
        if self.seats >= self.limit && self.queues[at].waiting.len() >= length {
            return (self.refuse(Refused::QueueFull), Vec::new());
        }
        self.tickets += 1;
        let arrival = self.progress;
        let queue = &mut self.queues[at];
        queue.push(Waiting { ticket, one, arrived: now, arrival, call });
        let place = Place { queue: at, ticket, length: queue.waiting.len() };
        self.waiting += 1;
        self.seats_waiting += width;
        self.note();
        let called = self.dispatch();
        (Arrived::Waits(place), called)
    }

    fn refuse(&mut self, why: Refused) -> Arrived {
        self.counts.rejected += 1;
        Arrived::Refused(why)
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
            _ if seats > self.limit => self.executing.is_empty(),
            _ => self.seats + seats <= self.limit,
        }
    }

    /// Whether the flow may have so many seats now.
    fn may_have(&self, flow: u64, seats: u32) -> bool {
        let leaves = || self.seats + seats + self.limit / KEPT_FREE <= self.limit;
        self.fits(seats) && (!self.flows.contains_key(&flow) || leaves())
    }

    fn start(&mut self, ticket: u64, one: Arriving, arrived: Seconds, queue: Option<usize>) -> Arc<Running> {
        let Arriving { work, flow, schema, asking } = one;
        self.counts.dispatched += 1;
        self.seats += work.width();
        *self.flows.entry(flow).or_default() += work.width();
        let (waited, started) = (self.now - arrived, self.now);
        let running = Arc::new(Running { work, schema, asking, ticket, waited, queue, flow, started });
        self.executing.insert(ticket, running.clone());
        self.note();
        running
    }

    fn note(&mut self) {
        self.demand.set(self.now, f64::from(self.seats + self.seats_waiting));
        let (executing, waiting) = (self.executing.len(), self.waiting);
        let amounts = Amounts { seats: self.seats, seats_waiting: self.seats_waiting, executing, waiting };
        self.uses.set(self.now, amounts);
    }

    /// Starts whatever can start.
    fn dispatch(&mut self) -> Vec<Called<T>> {
        let mut called = Vec::new();
        while self.waiting > 0 && self.seats < self.limit {
            let at = match self.next_queue() {
                Ok(at) => at,
                Err(at) => {
                    self.unseated(at);
                    break;
                }
            };
            self.robin = at;
            self.dispatched = (self.progress, self.queues[at].next());
            let Waiting { ticket, one, arrived, call, .. } = self.queues[at].begin(self.now);
            self.waiting -= 1;
            self.seats_waiting -= one.work.width();
            let running = self.start(ticket, one, arrived, Some(at));
            called.push(Called { running, call });
        }
        called
    }

    /// The queue whose oldest request is next, if there are seats for it. Where there are none for it, those of flows that
    /// have none may go before it, so far as seats are kept for them; others have to wait behind it, or a wide request
    /// would wait for ever.
    ///
    /// # Errors
    ///
    /// With the queue that was next, where nobody is; nothing where nobody waits.
    fn next_queue(&self) -> Result<usize, Option<usize>> {
        let oldest = |at: usize| self.queues[at].waiting.front().map(|waiting| &waiting.one);
        let may = |at: &usize| oldest(*at).is_some_and(|one| self.may_have(one.flow, one.work.width()));
        let has_seats = |at: usize| oldest(at).is_some_and(|one| self.flows.contains_key(&one.flow));
        let first = self.ends_first(|_| true).ok_or(None)?;
        let found = match has_seats(first) && !may(&first) {
            true => self.ends_first(|at| !has_seats(at)).filter(may),
            false => Some(first).filter(may),
        };
        found.ok_or(Some(first))
    }

    fn unseated(&mut self, queue: Option<usize>) {
        if let Some(oldest) = queue.and_then(|at| self.queues[at].waiting.front()) {
            let schema = &oldest.one.schema.name;
            match self.unseated.get_mut(schema) {
                Some(count) => *count += 1,
                None => drop(self.unseated.insert(schema.clone(), 1)),
            }
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
    pub(super) fn cancel(&mut self, now: Seconds, place: Place, why: Left) -> bool {
        self.sync(now);
        let Some(waiting) = self.queues[place.queue].leave(place.ticket) else { return false };
        self.waiting -= 1;
        self.seats_waiting -= waiting.one.work.width();
        self.counts.rejected += 1;
        match why {
            Left::TimedOut => self.counts.timed_out += 1,
            Left::Cancelled => self.counts.cancelled += 1,
        }
        self.note();
        true
    }

    /// A request was handled. Its seats stay taken until [`Queues::release`] where it lingers.
    pub(super) fn finish(&mut self, now: Seconds, running: &Running) -> Vec<Called<T>> {
        self.sync(now);
        self.executing.remove(&running.ticket);
        if let Some(at) = running.queue {
            self.queues[at].end(running.work.seats, running.started, self.now);
        }
        match running.work.lingering.is_zero() {
            true => self.release(now, running),
            false => {
                self.note();
                Vec::new()
            }
        }
    }

    /// Nothing of the request is left.
    pub(super) fn release(&mut self, now: Seconds, running: &Running) -> Vec<Called<T>> {
        self.sync(now);
        self.seats -= running.work.width();
        if let Some(at) = running.queue {
            self.queues[at].seats -= running.work.width();
        }
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
