//! What a session of a watch waits for beside changes: the clock, and ends.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::server::Farewell;

/// A bookmark is sent about so often.
pub(super) const BOOKMARKS: Duration = Duration::from_secs(60);

/// What wakes a session but changes.
pub(super) enum Woken {
    Bookmark,
    Deadline,
    Ending,
    Stopped,
}

/// What a session waits for beside changes. Asked only once it has come: there are as many sessions as clients, each wakes
/// for every change, and a timer or a token that is waited for anew each time costs a lock each time.
pub(super) type Waits = FuturesUnordered<BoxFuture<'static, Woken>>;

pub(super) fn waits(
    farewell: Arc<Farewell>,
    ending: CancellationToken,
    deadline: Instant,
    bookmark: Option<Instant>,
) -> Waits {
    let mut waits = Waits::new();
    waits.push(Box::pin(async move {
        farewell.moment().await;
        Woken::Stopped
    }));
    waits.push(Box::pin(async move {
        ending.cancelled_owned().await;
        Woken::Ending
    }));
    waits.push(until(deadline, Woken::Deadline));
    waits.extend(bookmark.map(|at| until(at, Woken::Bookmark)));
    waits
}

pub(super) fn until(at: Instant, then: Woken) -> BoxFuture<'static, Woken> {
    Box::pin(async move {
        tokio::time::sleep_until(at).await;
        then
    })
}
