//! Turns at the processors. Seats bound how many requests are under way; most of the time these wait for something.
//! What keeps another's request waiting is the computing of those before it: of what is ready to run, only as much as
//! there are processors is let into the run queue of the runtime, and who is next is decided flow by flow.
//!
//! A turn lasts until the request waits for something for the first time, or is done. What comes after a wait is short.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::sync::oneshot;

type Caller = oneshot::Sender<Turn>;

/// The turns of a server.
pub(super) struct Turns {
    processors: u32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: u32,
    /// Those that wait, by flow. No line is empty.
    lines: HashMap<u64, VecDeque<Caller>>,
    /// Which flow is next.
    order: VecDeque<u64>,
}

/// A turn; over when it is dropped.
pub(super) struct Turn {
    turns: Arc<Turns>,
}

impl Turns {
    /// Turns at so many processors.
    pub(super) fn new(processors: u32) -> Arc<Self> {
        Arc::new(Self { processors, state: Mutex::default() })
    }

    /// Waits for a turn of this flow.
    pub(super) async fn take(self: &Arc<Self>, flow: u64) -> Turn {
        let called = {
            let mut state = self.state.lock();
            if state.running < self.processors && state.order.is_empty() {
                state.running += 1;
                return Turn { turns: self.clone() };
            }
            let (caller, called) = oneshot::channel();
            state.wait(flow, caller);
            called
        };
        called.await.expect("who waits is called, and the caller is kept until then")
    }
}

impl State {
    fn wait(&mut self, flow: u64, caller: Caller) {
        let line = self.lines.entry(flow).or_default();
        if line.is_empty() {
            self.order.push_back(flow);
        }
        line.push_back(caller);
    }

    /// The next one, of the next flow; who has left is passed over.
    fn next(&mut self) -> Option<Caller> {
        loop {
            let flow = self.order.pop_front()?;
            let line = self.lines.get_mut(&flow)?;
            let caller = line.pop_front();
            if line.is_empty() {
                self.lines.remove(&flow);
            } else {
                self.order.push_back(flow);
            }
            if let Some(caller) = caller.filter(|caller| !caller.is_closed()) {
                return Some(caller);
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = {
            let mut state = self.turns.state.lock();
            let next = state.next();
            if next.is_none() {
                state.running -= 1;
            }
            next
        };
        if let Some(caller) = next {
            // Who left in this very moment gives the turn on: it is dropped with the message.
            drop(caller.send(Turn { turns: self.turns.clone() }));
        }
    }
}

/// A future that has a turn until it waits for something.
pub(crate) struct InTurn<F> {
    future: Pin<Box<F>>,
    turn: Option<Turn>,
}

impl<F: Future> InTurn<F> {
    pub(super) fn new(future: F, turn: Option<Turn>) -> Self {
        Self { future: Box::pin(future), turn }
    }
}

impl<F: Future> Future for InTurn<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let polled = self.future.as_mut().poll(context);
        self.turn = None;
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn turns_go_flow_by_flow() {
        let turns = Turns::new(1);
        let first = turns.take(0).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let wait = |flow: u64| {
            let (turns, order) = (turns.clone(), order.clone());
            tokio::spawn(async move {
                let turn = turns.take(flow).await;
                order.lock().push(flow);
                drop(turn);
            })
        };
        let mut all: Vec<_> = (0..10).map(|_| wait(1)).collect();
        settle().await;
        all.push(wait(77));
        settle().await;
        drop(first);
        for one in all {
            one.await.unwrap();
        }
        let at = order.lock().iter().position(|flow| *flow == 77).unwrap();
        assert_eq!(at, 1, "{at} of the other flow were before it");
    }

    #[tokio::test]
    async fn turn_ends_when_the_future_waits() {
        let turns = Turns::new(1);
        let turn = turns.take(0).await;
        let (done, wait) = oneshot::channel::<()>();
        let waits = tokio::spawn(InTurn::new(wait, Some(turn)));
        settle().await;
        drop(turns.take(1).await);
        done.send(()).unwrap();
        waits.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_leaves_is_passed_over() {
        let turns = Turns::new(1);
        let turn = turns.take(0).await;
        let leaves = tokio::spawn({
            let turns = turns.clone();
            async move { drop(turns.take(1).await) }
        });
        settle().await;
        leaves.abort();
        settle().await;
        drop(turn);
        drop(turns.take(2).await);
    }
}
