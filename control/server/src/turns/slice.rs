//! How long a turn is. What computes for long asks from time to time whether it should give way.
//!
//! This is about the time of processors, which tests do not pause.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A turn that took so long gives way: about what a few small requests take, so that whoever waits hardly notices, and
/// long enough that giving way costs next to nothing.
const SLICE: Duration = Duration::from_micros(100);

#[derive(Clone, Copy)]
struct Slice {
    /// Whose turn it is; nothing if it is exempt.
    flow: Option<u64>,
    began: Instant,
    wrote: bool,
}

thread_local! {
    /// That of the turn in which this thread is.
    static SLICE_OF_TURN: Cell<Option<Slice>> = const { Cell::new(None) };
}

/// Begins the slice of a turn; it ends when this is dropped.
pub(super) struct Begun(());

impl Begun {
    /// Of a turn of this flow, now.
    pub(super) fn of(flow: Option<u64>) -> Self {
        SLICE_OF_TURN.set(Some(Slice { flow, began: Instant::now(), wrote: false }));
        Self(())
    }

    /// Ends it; how long it was.
    pub(super) fn end(self) -> Duration {
        SLICE_OF_TURN.get().map_or(Duration::ZERO, |slice| slice.began.elapsed())
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        SLICE_OF_TURN.set(None);
    }
}

/// The flow whose turn this is; nothing outside of turns, and for what is exempt from fairness.
pub(super) fn flow() -> Option<u64> {
    SLICE_OF_TURN.get()?.flow
}

/// Whether this turn took so long that it should end soon.
pub(crate) fn is_long() -> bool {
    SLICE_OF_TURN.get().is_some_and(|slice| slice.began.elapsed() >= SLICE)
}

/// Whether this poll should end here. If so, it is made again: the caller returns `Pending`.
pub(crate) fn gives_way(context: &Context<'_>) -> bool {
    let over = is_long();
    if over {
        context.waker().wake_by_ref();
    }
    over
}

/// The same before something is written. The first writing of a turn always goes: otherwise a turn that fills its slice
/// with what is to be written would never write any of it.
pub(crate) fn gives_way_writing(context: &Context<'_>) -> bool {
    let Some(slice) = SLICE_OF_TURN.get() else { return false };
    SLICE_OF_TURN.set(Some(Slice { wrote: true, ..slice }));
    slice.wrote && gives_way(context)
}

/// Gives way, if this turn took long enough. Cheap enough to be called for every object of a list.
pub(crate) async fn pause() {
    let mut gave_way = false;
    poll_fn(|context| {
        if gave_way || !gives_way(context) {
            return Poll::Ready(());
        }
        gave_way = true;
        Poll::Pending
    })
    .await;
}
