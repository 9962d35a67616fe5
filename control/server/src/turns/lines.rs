//! Who has a turn and who waits for one. Knows flows as numbers, and those who wait by their places.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use super::place::Place;

/// The lines of a server.
#[derive(Debug)]
pub(super) struct Lines {
    processors: u32,
    state: Mutex<State>,
}

/// As long as a turn is free, nobody waits.
#[derive(Debug, Default)]
struct State {
    running: u32,
    /// Those that wait, by flow. No line is empty.
    lines: HashMap<u64, VecDeque<Arc<Place>>, ahash::RandomState>,
    /// Which flow is next.
    order: VecDeque<u64>,
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
            return true;
        }
        state.wait(flow, place.clone());
        false
    }

    /// Passes a turn on to whoever is next, and has the place wait for another one; nobody is next if nobody waits.
    /// Whether it was passed on.
    pub(super) fn pass_on(&self, flow: u64, place: &Arc<Place>) -> bool {
        let next = {
            let mut state = self.state.lock();
            if state.order.is_empty() {
                return false;
            }
            state.wait(flow, place.clone());
            state.next()
        };
        self.call(next);
        true
    }

    /// Ends a turn: whoever is next is called.
    pub(super) fn end(&self) {
        let next = self.state.lock().end();
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
    fn wait(&mut self, flow: u64, place: Arc<Place>) {
        let line = self.lines.entry(flow).or_default();
        if line.is_empty() {
            self.order.push_back(flow);
        }
        line.push_back(place);
    }

    /// The first of the next flow's line.
    fn next(&mut self) -> Option<Arc<Place>> {
        let flow = self.order.pop_front()?;
        let line = self.lines.get_mut(&flow)?;
        let place = line.pop_front();
        if line.is_empty() {
            self.lines.remove(&flow);
        } else {
            self.order.push_back(flow);
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
