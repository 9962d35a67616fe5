//! Writes of one flow that are at the store at a time.
//!
//! The store commits what waits at its door in one go, and whoever comes meanwhile waits until that is done: with as many
//! writes of a client as that has connections, for milliseconds. So a flow has only a few there, enough for a commit to be
//! worth its fsync, and the others of it wait here, behind themselves.

use tokio::sync::{Semaphore, SemaphorePermit};

use super::slice;

/// Writes of one flow.
const AT_ONCE: usize = 8;
/// Flows that are told apart; others share.
const FLOWS: usize = 256;

/// How many writes of which flow are at the store.
#[derive(Debug)]
pub(crate) struct Commits([Semaphore; FLOWS]);

impl Default for Commits {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Semaphore::new(AT_ONCE)))
    }
}

impl Commits {
    /// Waits until the flow whose turn this is may have one more write at the store, which is over when the permit is
    /// dropped. What is exempt, or is not done for a client, does not wait.
    pub(crate) async fn enter(&self) -> Option<SemaphorePermit<'_>> {
        let flow = slice::flow()?;
        self.0[(flow % FLOWS as u64) as usize].acquire().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::turns::{InTurn, Lane, Turns};

    /// Enters in turns of a flow, and stays until told.
    async fn enter(commits: &Arc<Commits>, lane: &Lane) -> bool {
        let commits = commits.clone();
        let task = tokio::spawn(InTurn::new(
            async move {
                if let Some(permit) = commits.enter().await {
                    permit.forget();
                }
            },
            lane.clone(),
        ));
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        task.is_finished()
    }

    #[tokio::test]
    async fn flow_with_many_writes_waits_behind_itself_alone() {
        let (commits, turns) = (Arc::new(Commits::default()), Turns::default());
        let lane = |flow| {
            let lane = Lane::exempt(&turns);
            lane.follow(flow);
            lane
        };
        let (loud, quiet, exempt) = (lane(7), lane(8), Lane::exempt(&turns));
        for _ in 0..AT_ONCE {
            assert!(enter(&commits, &loud).await);
        }
        assert!(!enter(&commits, &loud).await, "it has as many as it may");
        assert!(enter(&commits, &quiet).await);
        for _ in 0..2 * AT_ONCE {
            assert!(enter(&commits, &exempt).await);
        }
        commits.0[7].add_permits(1);
        assert!(!enter(&commits, &loud).await, "who waited first is next");
        commits.0[7].add_permits(1);
        tokio::task::yield_now().await;
        assert_eq!(commits.0[7].available_permits(), 0);
    }
}
