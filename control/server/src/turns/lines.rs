//! Who has a turn and who waits for one. Knows flows as numbers, and those who wait by how they are woken.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

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

/// Where one task stands: away -> waits -> called -> away, or waits -> away when it leaves.
#[derive(Debug, Default)]
pub(super) struct Place(Mutex<Stand>);

#[derive(Debug, Default)]
enum Stand {
    #[default]
    Away,
    Waits(Waker),
    Called,
}

impl Place {
    /// Whether it was called; otherwise it is woken in this way when it is.
    pub(super) fn is_called(&self, waker: &Waker) -> bool {
        let mut stand = self.0.lock();
        match &mut *stand {
            Stand::Called => {
                *stand = Stand::Away;
                true
            }
            Stand::Waits(known) => {
                known.clone_from(waker);
                false
            }
            Stand::Away => unreachable!("only who waits asks"),
        }
    }

    /// Goes away. Whether it was called before.
    pub(super) fn leave(&self) -> bool {
        matches!(std::mem::take(&mut *self.0.lock()), Stand::Called)
    }

    /// Calls it, if it waits; how it is woken.
    fn call(&self) -> Option<Waker> {
        let mut stand = self.0.lock();
        if !matches!(*stand, Stand::Waits(_)) {
            return None;
        }
        match std::mem::replace(&mut *stand, Stand::Called) {
            Stand::Waits(waker) => Some(waker),
            Stand::Away | Stand::Called => None,
        }
    }
}

impl Lines {
    /// Lines before so many processors.
    pub(super) fn new(processors: u32) -> Self {
        Self { processors, state: Mutex::default() }
    }

    /// Takes a turn, if one is free; otherwise waits at this place in the line of the flow. A turn that was taken, or to
    /// which a place is called, has to be [ended](Self::end).
    pub(super) fn take_or_wait(&self, flow: u64, place: &Arc<Place>, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        if state.running < self.processors {
            state.running += 1;
            return true;
        }
        *place.0.lock() = Stand::Waits(waker.clone());
        state.wait(flow, place.clone());
        false
    }

    /// Ends a turn: whoever is next is called.
    pub(super) fn end(&self) {
        let next = {
            let mut state = self.state.lock();
            let next = state.next();
            if next.is_none() {
                state.running -= 1;
            }
            next
        };
        if let Some(waker) = next {
            waker.wake();
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

    /// Calls the next one, of the next flow; who has left is passed over.
    fn next(&mut self) -> Option<Waker> {
        loop {
            let flow = self.order.pop_front()?;
            let line = self.lines.get_mut(&flow)?;
            let place = line.pop_front();
            if line.is_empty() {
                self.lines.remove(&flow);
            } else {
                self.order.push_back(flow);
            }
            if let Some(waker) = place.and_then(|place| place.call()) {
                return Some(waker);
            }
        }
    }
}
