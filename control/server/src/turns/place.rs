//! Where one task stands, and the way in which it is woken.
//!
//! ```text
//! away -> waits -> called -> runs -> away        (it was woken, its turn came, it waits for something else)
//!                            runs -> waits       (it was woken in the meantime)
//! anywhere -> gone                               (it is over, or was given up)
//! ```
//!
//! Whoever is woken goes to its line at once, and only who is called is given to the runtime, which runs tasks in the order
//! in which it was given them. Otherwise whoever comes would stand behind all that were woken before, of whichever flow.

use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use parking_lot::Mutex;

use super::Lane;

#[derive(Debug)]
pub(super) struct Place {
    lane: Lane,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stand: Stand,
    /// How its task is woken, once it was polled.
    task: Option<Waker>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stand {
    #[default]
    Away,
    Waits,
    /// With a turn, or as one who needs none.
    Called(Turn),
    /// And whether it was woken since.
    Runs(Turn, bool),
    Gone,
}

/// Whether a turn has to be ended afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Taken,
    Free,
}

impl Place {
    pub(super) fn new(lane: Lane) -> Arc<Self> {
        Arc::new(Self { lane, state: Mutex::default() })
    }

    /// In whose line it waits.
    pub(super) fn flow(&self) -> Option<u64> {
        self.lane.flow()
    }

    /// Whether its task may run now. If so, [`Self::stop`] or [`Self::leave`] has to follow.
    pub(super) fn begin(self: &Arc<Self>, context: &Context<'_>) -> bool {
        let mut state = self.state.lock();
        if !state.task.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
            state.task = Some(context.waker().clone());
        }
        if state.stand == Stand::Away {
            self.want(&mut state);
        }
        let Stand::Called(turn) = state.stand else { return false };
        state.stand = Stand::Runs(turn, false);
        true
    }

    /// Its task waits for something after a turn that took so long, unless it was woken since it began.
    pub(super) fn stop(self: &Arc<Self>, took: Duration) {
        let again = {
            let mut state = self.state.lock();
            let Stand::Runs(turn, woken) = state.stand else { return };
            state.stand = Stand::Away;
            match (turn, self.lane.flow().filter(|_| woken)) {
                // One of those that wait is called, but for this one, if it is the only one.
                (Turn::Taken, Some(flow)) => {
                    state.stand = Stand::Waits;
                    drop(state);
                    if self.lane.lines.pass_on(flow, took, self) {
                        return;
                    }
                    self.call();
                    return;
                }
                (Turn::Free, _) if woken => self.want(&mut state),
                (Turn::Taken, None) if woken => state.stand = Stand::Called(Turn::Free),
                _ => {}
            }
            if turn == Turn::Taken {
                drop(state);
                self.lane.lines.end(self.lane.flow(), took);
                state = self.state.lock();
            }
            state.task.clone().filter(|_| woken && matches!(state.stand, Stand::Called(_)))
        };
        if let Some(task) = again {
            task.wake();
        }
    }

    /// Its task is over, or was given up. A turn that it has is over, too, and took so long.
    pub(super) fn leave(&self, took: Duration) {
        let former = {
            let mut state = self.state.lock();
            state.task = None;
            std::mem::replace(&mut state.stand, Stand::Gone)
        };
        if matches!(former, Stand::Called(Turn::Taken) | Stand::Runs(Turn::Taken, _)) {
            self.lane.lines.end(self.lane.flow(), took);
        }
    }

    /// Gives it a turn for which it waits; whether it still does.
    pub(super) fn call(&self) -> bool {
        let task = {
            let mut state = self.state.lock();
            if state.stand != Stand::Waits {
                return false;
            }
            state.stand = Stand::Called(Turn::Taken);
            state.task.clone()
        };
        if let Some(task) = task {
            task.wake();
        }
        true
    }

    /// It wants to run: it is called at once, or waits.
    fn want(self: &Arc<Self>, state: &mut State) {
        state.stand = match self.lane.flow() {
            None => Stand::Called(Turn::Free),
            Some(flow) if self.lane.lines.take_or_wait(flow, self) => Stand::Called(Turn::Taken),
            Some(_) => Stand::Waits,
        };
    }
}

impl Wake for Place {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let task = {
            let mut state = self.state.lock();
            match state.stand {
                Stand::Away => self.want(&mut state),
                Stand::Runs(turn, _) => state.stand = Stand::Runs(turn, true),
                Stand::Waits | Stand::Called(_) | Stand::Gone => return,
            }
            state.task.clone().filter(|_| matches!(state.stand, Stand::Called(_)))
        };
        if let Some(task) = task {
            task.wake();
        }
    }
}
