//! Bodies that hold what belongs to their request until they end: its record, its seats, and its deadline.
//!
//! A body is asked for its next piece by the connection, and only while the client takes what it was given. So a client
//! that stops reading stops everything here, deadlines included. Therefore a guard stands beside the body: when its time is
//! over, or when no further piece was asked for in too long a time, it lets go of the content, the seats and the record,
//! and whoever asks again learns that the answer broke off. A body that waits for something to say has no guard awake.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::admission::Notes;
use crate::audit::Record;
use crate::body::{self, Body, BoxError};
use crate::fairness::Permit;
use crate::latencies::Layer;

/// So long a client may take to ask for the next piece of an answer that it has to read steadily.
pub(crate) const STALL: Duration = Duration::from_secs(60);

/// What a body holds.
pub(crate) struct Held {
    pub(crate) record: Record,
    pub(crate) permit: Option<Permit>,
    /// When the body has to be over: a client that reads too slowly does not keep seats for ever.
    pub(crate) deadline: Option<Instant>,
    /// Whether the client has to read steadily. Those who look at a log may pause.
    pub(crate) steady: bool,
}

impl Held {
    /// The body, which holds this until its end.
    pub(crate) fn with(self, body: Body) -> Body {
        let Self { record, permit, deadline, steady } = self;
        let timed = record.timed();
        hold(body, Some(Box::new((record, permit))), deadline, steady, timed)
    }
}

/// Whatever is let go of by being dropped.
type Kept = Option<Box<dyn Send>>;

fn hold(body: Body, kept: Kept, deadline: Option<Instant>, steady: bool, timed: Option<Arc<Notes>>) -> Body {
    let state = State {
        body: Some(body),
        kept,
        deadline,
        steady,
        handed: None,
        timed,
        guard: None,
        cut: false,
        waker: None,
    };
    let shared = Arc::new(Mutex::new(state));
    if deadline.is_some() {
        Guard::wake(&shared, &mut shared.lock());
    }
    body::boxed(Holding(shared))
}

struct State {
    /// Nothing, once it ended.
    body: Option<Body>,
    kept: Kept,
    deadline: Option<Instant>,
    steady: bool,
    /// When a piece was given after which none has been asked for.
    handed: Option<Instant>,
    /// Where it is taken down how long it takes to make pieces, and to send them.
    timed: Option<Arc<Notes>>,
    guard: Option<AbortHandle>,
    /// Whether the answer broke off, and nobody was told yet.
    cut: bool,
    waker: Option<Waker>,
}

impl State {
    /// When the patience with the client ends, as things stand.
    fn due(&self) -> Option<Instant> {
        let stalled = self.handed.filter(|_| self.steady).map(|handed| handed + STALL);
        [self.deadline, stalled].into_iter().flatten().min()
    }

    /// The piece that was given is sent, or never will be.
    fn sent(&mut self) {
        if let (Some(handed), Some(timed)) = (self.handed.take(), &self.timed) {
            timed.latencies.took(Layer::ResponseWrite, handed.elapsed());
        }
    }
}

/// What stands beside a body.
struct Guard;

impl Guard {
    /// Sets a guard beside the body, if there is something to wait for and none is there.
    fn wake(shared: &Arc<Mutex<State>>, state: &mut State) {
        if state.guard.is_none() && state.due().is_some() {
            state.guard = Some(tokio::spawn(Self::stand(Arc::downgrade(shared))).abort_handle());
        }
    }

    async fn stand(shared: Weak<Mutex<State>>) {
        while let Some(until) = shared.upgrade().and_then(|shared| Self::look(&shared)) {
            tokio::time::sleep_until(until).await;
        }
    }

    /// Until when to wait; nothing when there is nothing more to wait for.
    fn look(shared: &Mutex<State>) -> Option<Instant> {
        let mut state = shared.lock();
        let due = state.due().filter(|_| state.body.is_some());
        let Some(until) = due else {
            state.guard = None;
            return None;
        };
        if until > Instant::now() {
            return Some(until);
        }
        state.cut = true;
        state.sent();
        let (gone, waker) = ((state.body.take(), state.kept.take()), state.waker.take());
        drop(state);
        // What is let go of may take its time, or look at this body again.
        drop(gone);
        if let Some(waker) = waker {
            waker.wake();
        }
        None
    }
}

struct Holding(Arc<Mutex<State>>);

impl http_body::Body for Holding {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut state = self.0.lock();
        if std::mem::take(&mut state.cut) {
            return Poll::Ready(Some(Err("the request took longer than it may".into())));
        }
        state.sent();
        let timed = state.timed.clone().filter(|_| state.steady);
        let Some(body) = &mut state.body else { return Poll::Ready(None) };
        let polled = {
            let _making = timed.as_ref().map(|notes| notes.latencies.enter(Layer::Serialize));
            Pin::new(body).poll_frame(context)
        };
        match &polled {
            Poll::Ready(Some(Ok(_))) => {
                state.handed = Some(Instant::now());
                Guard::wake(&self.0, &mut state);
            }
            Poll::Ready(None | Some(Err(_))) => {
                let gone = (state.body.take(), state.kept.take());
                drop(state);
                drop(gone);
            }
            Poll::Pending => state.waker = Some(context.waker().clone()),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let state = self.0.lock();
        !state.cut && state.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().body.as_ref().map(http_body::Body::size_hint).unwrap_or_default()
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.sent();
        if let Some(guard) = state.guard.take() {
            guard.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use http_body_util::{BodyExt, StreamBody};
    use tokio_util::sync::{CancellationToken, DropGuard};

    use super::*;

    /// A body of pieces without end, or one that says nothing after the first; and what tells that it was let go of.
    fn held(endless: bool, deadline: Option<Instant>, steady: bool) -> (Body, CancellationToken) {
        let gone = CancellationToken::new();
        let kept: DropGuard = gone.clone().drop_guard();
        let pieces = futures::stream::iter(0..if endless { u64::MAX } else { 1 });
        let pieces = pieces.map(|_| Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"x"))));
        let body = body::boxed(StreamBody::new(pieces.chain(futures::stream::pending())));
        (hold(body, Some(Box::new(kept)), deadline, steady, None), gone)
    }

    async fn pass(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn client_that_stops_reading_keeps_nothing_after_a_while() {
        let (mut body, gone) = held(true, None, true);
        for _ in 0..3 {
            body.frame().await.unwrap().unwrap();
            pass(STALL.as_secs() - 1).await;
        }
        assert!(!gone.is_cancelled(), "slow, but it goes on");
        pass(2).await;
        assert!(gone.is_cancelled());
        assert!(body.frame().await.unwrap().is_err(), "what is left out is told");
        assert!(body.frame().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn body_with_nothing_to_say_is_waited_for() {
        let (mut body, gone) = held(false, None, true);
        body.frame().await.unwrap().unwrap();
        assert!(tokio::time::timeout(10 * STALL, body.frame()).await.is_err());
        assert!(!gone.is_cancelled());
        drop(body);
        assert!(gone.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn deadline_counts_whether_or_not_anybody_asks() {
        let deadline = Some(Instant::now() + Duration::from_secs(5));
        let (_never_asked, gone) = held(true, deadline, false);
        let (mut waiting, also_gone) = held(false, deadline, false);
        waiting.frame().await.unwrap().unwrap();
        assert!(waiting.frame().await.unwrap().is_err());
        pass(1).await;
        assert!(gone.is_cancelled() && also_gone.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn reader_of_a_log_may_pause() {
        let (mut body, gone) = held(true, None, false);
        body.frame().await.unwrap().unwrap();
        pass(10 * STALL.as_secs()).await;
        body.frame().await.unwrap().unwrap();
        assert!(!gone.is_cancelled());
    }
}
