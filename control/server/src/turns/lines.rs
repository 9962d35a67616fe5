//! Who has a turn and who waits for one. Knows flows as numbers, and those who wait by their places.
//!
//! Start-time fair queuing: a flow's next turn is due at the virtual time at which its last one ended, or now, if that is
//! past; a turn takes as much virtual time as it took, and whose is due first is next. So flows that want more than their
//! share get the same time, and one that wants less waits for nothing but the turn that is on.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::place::Place;

/// As long as there are no more flows than this, those with nothing to make up for are remembered, too.
const FEW: usize = 1024;

/// The lines of a server.
#[derive(Debug)]
pub(super) struct Lines {
    processors: u32,
    state: Mutex<State>,
}

/// When something is due: virtual nanoseconds, and among equals by when it was found out.
type Due = (u64, u64);

/// As long as a turn is free, nobody waits.
#[derive(Debug, Default)]
struct State {
    running: u32,
    /// Virtual time: when the turn that began last was due.
    now: u64,
    lines: HashMap<u64, Line, ahash::RandomState>,
    /// The flows in whose lines somebody waits, by when they are due.
    due: BTreeMap<Due, u64>,
    found_out: u64,
    /// With so many lines it is time to forget some.
    many: usize,
}

/// Of one flow.
#[derive(Debug, Default)]
struct Line {
    places: VecDeque<Arc<Place>>,
    /// When its next turn is due, if that is not past.
    next: u64,
    /// Where it is among those that are due, if somebody waits.
    due: Option<Due>,
}

impl Lines {
    /// Lines before so many processors.
    pub(super) fn new(processors: u32) -> Self {
        Self { processors, state: Mutex::default() }
    }

    /// Takes a turn, if one is free; otherwise the place waits in the line of the flow until it is called. A turn that was
    /// taken, or to which a place is called, has to be [ended](Self::end).
    pub(super) fn take_or_wait(&self, flow: u64, place: &Arc<Place>) -> bool {
        let mut state = self.state.lock();
        if state.running < self.processors {
            state.running += 1;
            state.begin(flow);
            return true;
        }
        state.wait(flow, place.clone());
        false
    }

    /// Passes a turn on that took so long to whoever is next, and has the place wait for another one; nobody is next if
    /// nobody waits. Whether it was passed on.
    pub(super) fn pass_on(&self, flow: u64, took: Duration, place: &Arc<Place>) -> bool {
        let next = {
            let mut state = self.state.lock();
            state.charge(flow, took);
            if state.due.is_empty() {
                state.begin(flow);
                return false;
            }
            state.wait(flow, place.clone());
            state.next()
        };
        self.call(next);
        true
    }

    /// Ends a turn of a flow that took so long: whoever is next is called.
    pub(super) fn end(&self, flow: Option<u64>, took: Duration) {
        let next = {
            let mut state = self.state.lock();
            if let Some(flow) = flow {
                state.charge(flow, took);
            }
            state.end()
        };
        self.call(next);
    }

    /// Calls somebody, or else, if they have left, who comes after them. Places are not looked at behind the lock: who
    /// wakes one holds it, and asks for a turn.
    fn call(&self, mut next: Option<Arc<Place>>) {
        while let Some(place) = next {
            if place.call() {
                return;
            }
            next = self.state.lock().end();
        }
    }
}

impl State {
    /// A turn of the flow begins.
    fn begin(&mut self, flow: u64) {
        if let Some(line) = self.lines.get(&flow) {
            self.now = self.now.max(line.next);
        }
    }

    /// A turn of the flow took so long.
    fn charge(&mut self, flow: u64, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if self.lines.len() > self.many.max(FEW) {
            let now = self.now;
            self.lines.retain(|_, line| line.due.is_some() || line.next > now);
            self.many = 2 * self.lines.len();
        }
        let line = self.lines.entry(flow).or_default();
        line.next = line.next.max(self.now).saturating_add(took);
        if let Some(due) = line.due {
            self.due.remove(&due);
            self.queue(flow);
        }
    }

    fn wait(&mut self, flow: u64, place: Arc<Place>) {
        let line = self.lines.entry(flow).or_default();
        line.places.push_back(place);
        if line.due.is_none() {
            self.queue(flow);
        }
    }

    /// Puts a flow in whose line somebody waits among those that are due.
    fn queue(&mut self, flow: u64) {
        let Some(line) = self.lines.get_mut(&flow) else { return };
        line.next = line.next.max(self.now);
        self.found_out += 1;
        let due = (line.next, self.found_out);
        line.due = Some(due);
        self.due.insert(due, flow);
    }

    /// The first in the line of the flow that is due first.
    fn next(&mut self) -> Option<Arc<Place>> {
        let ((at, _), flow) = self.due.pop_first()?;
        self.now = self.now.max(at);
        let line = self.lines.get_mut(&flow)?;
        line.due = None;
        let place = line.places.pop_front();
        if !line.places.is_empty() {
            self.queue(flow);
        }
        place
    }

    /// A turn is over: who has it next, or else it is free.
    fn end(&mut self) -> Option<Arc<Place>> {
        let next = self.next();
        if next.is_none() {
            self.running -= 1;
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turns::{Lane, Turns};

    const MS: Duration = Duration::from_millis(1);

    fn place(flow: u64) -> Arc<Place> {
        let lane = Lane::exempt(&Turns::default());
        lane.follow(flow);
        Place::new(lane)
    }

    /// Turns of flows that all want one again at once, each as long as its flow's always is; how many each flow had.
    fn turns(state: &mut State, lengths: &[(u64, Duration)], rounds: usize) -> HashMap<u64, u32> {
        let mut had = HashMap::new();
        for _ in 0..rounds {
            let flow = state.next().and_then(|place| place.flow()).unwrap();
            let length = lengths.iter().find(|(one, _)| *one == flow).unwrap().1;
            state.charge(flow, length);
            state.wait(flow, place(flow));
            *had.entry(flow).or_default() += 1;
        }
        had
    }

    #[test]
    fn flows_that_want_more_than_their_share_get_the_same_time() {
        let mut state = State::default();
        let lengths = [(1, 4 * MS), (2, MS), (3, 2 * MS)];
        for (flow, _) in lengths {
            // How many of a flow wait makes no difference.
            (0..flow * 10).for_each(|_| state.wait(flow, place(flow)));
        }
        let had = turns(&mut state, &lengths, 700);
        for (flow, times) in [(1, 100), (2, 400), (3, 200)] {
            assert!(had[&flow].abs_diff(times) <= 4, "{had:?}");
        }
    }

    #[test]
    fn flow_that_was_quiet_is_next_and_saves_nothing_up() {
        let mut state = State::default();
        (0..64).for_each(|_| state.wait(7, place(7)));
        turns(&mut state, &[(7, MS)], 100);
        state.wait(8, place(8));
        assert_eq!(state.next().unwrap().flow(), Some(8), "whoever waits in other lines");
        state.charge(8, MS);
        state.wait(8, place(8));
        let had = turns(&mut state, &[(7, MS), (8, MS)], 100);
        assert!(had[&7].abs_diff(had[&8]) <= 2, "{had:?}");
    }

    #[test]
    fn flows_that_are_gone_are_forgotten() {
        let mut state = State::default();
        for flow in 1..100_000 {
            state.begin(flow);
            state.charge(flow, MS);
            // Somebody goes on, so that time does.
            state.begin(flow);
        }
        assert!(state.lines.len() <= 2 * FEW + 2, "{}", state.lines.len());
    }
}
