//! Turns at the processors. Seats bound how many requests are under way; most of the time these wait for something.
//! What keeps another's request waiting is the computing of those before it: of what is ready to run, only as much as
//! there are processors is let into the run queue of the runtime, and who is next is decided flow by flow.
//!
//! A turn lasts until the request waits for something for the first time, or is done. What comes after a wait is short.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::config::{CATCH_ALL, Response, Schema};
use super::queues::{Arrived, Called, Place, Queues, Running, Work};

type Caller = oneshot::Sender<Running>;

/// Flows are spread over so many queues, each over so many of them. Seats bound how many wait.
const QUEUES: Response = Response::Queue { queues: 64, hand: 4, length: usize::MAX };

/// The turns of a server.
pub(super) struct Turns {
    queues: Mutex<Queues<Caller>>,
    schema: Arc<Schema>,
    began: Instant,
}

/// A turn; over when it is dropped.
pub(super) struct Turn {
    turns: Arc<Turns>,
    running: Running,
}

impl Turns {
    /// Turns at so many processors.
    pub(super) fn new(processors: u32) -> Arc<Self> {
        let queues = Mutex::new(Queues::new(QUEUES, processors, 0.0));
        Arc::new(Self { queues, schema: Arc::new(Schema::mandatory(CATCH_ALL)), began: Instant::now() })
    }

    fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Waits for a turn of this flow.
    pub(super) async fn take(self: &Arc<Self>, flow: u64) -> Turn {
        let (caller, called) = oneshot::channel();
        let (arrived, calls) = self.queues.lock().arrive(self.now(), Work::ONE, flow, &self.schema, caller);
        self.call(calls);
        let place = match arrived {
            Arrived::Waits(place) => place,
            // There are queues, and they are never full.
            Arrived::Runs(running) => return Turn { turns: self.clone(), running },
            Arrived::Refused(_) => unreachable!("queues without a limit refuse nobody"),
        };
        let mut waiting = Waiting { turns: self.clone(), place, called: Some(called) };
        let called = waiting.called.as_mut().expect("it is there until it was called");
        let running = called.await.expect("who waits is called, and the caller is kept until then");
        waiting.called = None;
        Turn { turns: self.clone(), running }
    }

    fn call(&self, mut calls: Vec<Called<Caller>>) {
        while let Some(one) = calls.pop() {
            if let Err(running) = one.call.send(one.running) {
                calls.extend(self.queues.lock().finish(self.now(), &running));
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let calls = self.turns.queues.lock().finish(self.turns.now(), &self.running);
        self.turns.call(calls);
    }
}

struct Waiting {
    turns: Arc<Turns>,
    place: Place,
    called: Option<oneshot::Receiver<Running>>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(mut called) = self.called.take() else { return };
        let left = self.turns.queues.lock().cancel(self.turns.now(), self.place);
        if !left && let Ok(running) = called.try_recv() {
            drop(Turn { turns: self.turns.clone(), running });
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
        assert!(at <= 4, "another flow, with four queues of its own, came before {at} of ten");
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
