//! Asking etcd where it stands, once for many callers.
//!
//! The answer must be agreed on by a majority, which costs a round among the members: callers that come while one
//! question is under way share the next. Nobody is given an answer to a question that was asked before they came.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;

use crate::{Revision, StoreError};

type Answer = Result<Revision, Arc<StoreError>>;
type Question = Shared<BoxFuture<'static, Answer>>;
type Ask = dyn Fn() -> BoxFuture<'static, Result<Revision, StoreError>> + Send + Sync;

/// The questions of one store.
pub(super) struct Newest {
    ask: Arc<Ask>,
    /// Held while a question is under way.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// The question that was not asked yet.
    next: Arc<Mutex<Option<Question>>>,
}

impl Newest {
    /// Questions that `ask` puts.
    pub(super) fn new(
        ask: impl Fn() -> BoxFuture<'static, Result<Revision, StoreError>> + Send + Sync + 'static,
    ) -> Self {
        Self { ask: Arc::new(ask), turn: Arc::default(), next: Arc::default() }
    }

    /// The newest revision at some moment after this call.
    pub(super) async fn get(&self) -> Result<Revision, StoreError> {
        let question = self.next.lock().get_or_insert_with(|| self.question()).clone();
        question.await.map_err(|error| StoreError::backend("ask etcd where it stands", error))
    }

    fn question(&self) -> Question {
        let (ask, turn, next) = (self.ask.clone(), self.turn.clone(), self.next.clone());
        let asked = async move {
            let _turn = turn.lock().await;
            // Whoever comes from here on waits for another one.
            next.lock().take();
            ask().await.map_err(Arc::new)
        };
        asked.boxed().shared()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn callers_share_questions_that_were_asked_after_they_came() {
        let (asked, stands) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (count, state) = (asked.clone(), stands.clone());
        let newest = Arc::new(Newest::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
            // What is true when it is asked, told a little later.
            let now = Revision(state.load(Ordering::SeqCst));
            async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                Ok(now)
            }
            .boxed()
        }));
        let mut callers = Vec::new();
        for came in 0..100 {
            stands.store(came, Ordering::SeqCst);
            let newest = newest.clone();
            callers.push(tokio::spawn(async move {
                let revision = newest.get().await.unwrap();
                assert!(revision.0 >= came, "caller {came} was told {revision:?}");
            }));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for caller in callers {
            caller.await.unwrap();
        }
        let asked = asked.load(Ordering::SeqCst);
        assert!((9..15).contains(&asked), "{asked} questions for 100 callers in 100 ms of 10 ms each");
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_go_away_hold_nobody_up() {
        let newest = Arc::new(Newest::new(|| {
            async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                Ok(Revision(7))
            }
            .boxed()
        }));
        for _ in 0..5 {
            let (one, other) = (newest.clone(), newest.clone());
            let first = tokio::spawn(async move { one.get().await });
            tokio::task::yield_now().await;
            let second = tokio::spawn(async move { other.get().await });
            tokio::time::sleep(Duration::from_millis(3)).await;
            first.abort();
            second.abort();
        }
        assert_eq!(newest.get().await.unwrap(), Revision(7));
    }

    #[tokio::test(start_paused = true)]
    async fn failure_is_told_to_all_who_shared_it() {
        let newest = Newest::new(|| async { Err(StoreError::Closed) }.boxed());
        let (one, other) = futures::join!(newest.get(), newest.get());
        assert!(one.is_err() && other.is_err());
    }
}
