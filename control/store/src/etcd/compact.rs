//! Forgetting etcd's history, together with the other API servers of the cluster: ours and upstream's.
//!
//! The rule is upstream's (apiserver, `storage/etcd3/compact.go`), so that both take turns: whoever raises the version of
//! one key from what it last saw forgets what was there at its own last turn; who fails to has seen that another one
//! does the work. So history is forgotten once per interval, however many servers there are, and a change stays known
//! for at least one interval.
//!
//! Where etcd asks for a user, that of 3.6 and later lets only one with the role `root` forget; without it this logs a
//! warning each time, and etcd's own compaction (`--auto-compaction-retention`) has to do it.

use std::time::Duration;

use etcd_client::{Client, Compare, CompareOp, Txn, TxnOp, TxnOpResponse};

use super::convert::number;
use super::{answer, header_revision};
use crate::{Revision, StoreError};

/// The key whose version is the number of turns taken so far.
const KEY: &str = "compact_rev_key";

/// How often history is forgotten. Five minutes is upstream's default.
pub(super) const EVERY: Duration = Duration::from_secs(300);

/// One of the servers that take turns.
pub(super) struct Compactor {
    client: Client,
    /// The turns as last seen.
    turns: i64,
    /// The newest revision at that time.
    then: Revision,
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Another server has taken it.
    Other,
    /// It was ours, but what was there an interval ago is not known yet.
    First,
    /// History up to here was forgotten.
    Forgot(Revision),
}

impl Compactor {
    pub(super) fn new(client: Client) -> Self {
        Self { client, turns: 0, then: Revision(0) }
    }

    /// Takes a turn per interval until it is aborted.
    pub(super) async fn run(mut self, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            match self.turn().await {
                Ok(Turn::Forgot(upto)) => tracing::debug!(revision = upto.0, "forgot etcd's history"),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "cannot forget etcd's history");
                }
            }
        }
    }

    /// Tries to take the next turn.
    pub(super) async fn turn(&mut self) -> Result<Turn, StoreError> {
        let transaction = Txn::new()
            .when([Compare::version(KEY, CompareOp::Equal, self.turns)])
            .and_then([TxnOp::put(KEY, self.then.0.to_string(), None)])
            .or_else([TxnOp::get(KEY, None)]);
        let mut kv = self.client.kv_client();
        let response = answer("take a turn at forgetting etcd's history", kv.txn(transaction)).await?;
        let upto = std::mem::replace(&mut self.then, header_revision(response.header())?);
        if !response.succeeded() {
            self.turns = match response.op_responses().first() {
                Some(TxnOpResponse::Get(found)) => {
                    found.kvs().first().map_or(0, etcd_client::KeyValue::version)
                }
                _ => 0,
            };
            return Ok(Turn::Other);
        }
        self.turns += 1;
        if upto == Revision(0) {
            return Ok(Turn::First);
        }
        match answer("compact etcd", kv.compact(number(upto), None)).await {
            // Somebody has forgotten more than that.
            Ok(_) | Err(StoreError::Compacted { .. }) => Ok(Turn::Forgot(upto)),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Etcd, create, tier};
    use super::*;
    use crate::{ListRequest, Store};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn servers_take_turns_at_forgetting_and_one_takes_over_from_another() {
        if !tier() {
            return;
        }
        let etcd = Etcd::start();
        let store = etcd.store().await;
        let server = || async { Compactor::new(etcd.client().await) };
        let (mut one, mut other) = (server().await, server().await);
        let at = |revision| ListRequest {
            prefix: "/registry/".into(),
            revision: Some(revision),
            ..ListRequest::default()
        };

        let early = create(&store, "/registry/a").await;
        assert_eq!(one.turn().await.unwrap(), Turn::First);
        assert_eq!(other.turn().await.unwrap(), Turn::Other);
        let seen = store.current_revision().await.unwrap();
        create(&store, "/registry/b").await;
        assert!(store.list(at(early)).await.is_ok(), "nothing was forgotten yet");

        assert_eq!(one.turn().await.unwrap(), Turn::Forgot(seen));
        assert!(matches!(store.list(at(early)).await, Err(StoreError::Compacted { .. })));
        assert_eq!(store.list(at(seen)).await.unwrap().items.len(), 1);
        assert_eq!(other.turn().await.unwrap(), Turn::Other);

        // The first one is gone, the other one has seen no turn for an interval.
        let later = store.current_revision().await.unwrap();
        assert!(matches!(other.turn().await.unwrap(), Turn::Forgot(upto) if upto >= seen && upto <= later));
        assert_eq!(store.list(at(later)).await.unwrap().items.len(), 2);
    }
}
