//! Tasks that compute in turns.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::Lane;
use super::lines::{Lines, Place};
use super::slice::Begun;

/// A future each of whose polls is a turn. It has to be a task of its own, or be polled by its task whenever it is woken:
/// who is called and does not come keeps others waiting.
pub(crate) struct InTurn<F> {
    future: Pin<Box<F>>,
    lane: Lane,
    place: Option<Arc<Place>>,
    waits: bool,
}

impl<F: Future> InTurn<F> {
    pub(crate) fn new(future: F, lane: Lane) -> Self {
        Self { future: Box::pin(future), lane, place: None, waits: false }
    }

    /// Whether it has a turn now.
    fn takes_turn(&mut self, flow: u64, context: &Context<'_>) -> bool {
        let place = self.place.get_or_insert_default();
        let has = match self.waits {
            true => place.is_called(context.waker()),
            false => self.lane.lines.take_or_wait(flow, place, context.waker()),
        };
        self.waits = !has;
        has
    }
}

impl<F: Future> Future for InTurn<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let flow = this.lane.flow();
        let _turn = match flow.is_some() || this.waits {
            true if !this.takes_turn(flow.unwrap_or_default(), context) => return Poll::Pending,
            true => Some(Turn(&this.lane.lines)),
            false => None,
        };
        let _begun = Begun::now();
        this.future.as_mut().poll(context)
    }
}

impl<F> Drop for InTurn<F> {
    fn drop(&mut self) {
        if self.waits && self.place.as_ref().is_some_and(|place| place.leave()) {
            self.lane.lines.end();
        }
    }
}

/// A turn; over when it is dropped.
struct Turn<'a>(&'a Lines);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Spawns what an HTTP/2 connection does beside itself, its streams, with turns in the line of the connection.
#[derive(Clone)]
pub(crate) struct Spawner(pub(crate) Lane);

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        tokio::spawn(InTurn::new(future, self.0.clone()));
    }
}
