//! Tasks that compute in turns.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Lane;
use super::place::Place;
use super::slice::Begun;

/// A future each of whose polls is a turn. It has to be a task of its own, or be polled by its task whenever it is woken:
/// who is called and does not come keeps others waiting.
pub(crate) struct InTurn<F> {
    future: Pin<Box<F>>,
    place: Arc<Place>,
    /// The place as what the future is woken by.
    waker: Waker,
}

impl<F: Future> InTurn<F> {
    pub(crate) fn new(future: F, lane: Lane) -> Self {
        let place = Place::new(lane);
        Self { future: Box::pin(future), waker: place.clone().into(), place }
    }
}

impl<F: Future> Future for InTurn<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        if !this.place.begin(context) {
            return Poll::Pending;
        }
        let begun = Begun::of(this.place.flow());
        let polled = this.future.as_mut().poll(&mut Context::from_waker(&this.waker));
        let took = begun.end();
        match polled {
            Poll::Pending => this.place.stop(took),
            Poll::Ready(_) => this.place.leave(took),
        }
        polled
    }
}

impl<F> Drop for InTurn<F> {
    fn drop(&mut self) {
        self.place.leave(Duration::ZERO);
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
