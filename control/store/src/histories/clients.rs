//! Clients that contend for a few keys: reads, creations, updates and deletions, also with what they knew long ago.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Action, Found, Id, Outcome, Recorder};
use crate::{Expected, KeyValue, Revision, Store, StoreError};

/// What the clients do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) clients: usize,
    pub(crate) keys: usize,
    /// Operations of each client.
    pub(crate) each: usize,
    /// Between two operations of a client.
    pub(crate) pause: Duration,
    pub(crate) seed: u64,
}

/// Where the keys lie.
pub(crate) const PREFIX: &str = "/history/";

/// Lets the clients work until each has done its part.
pub(crate) async fn run(store: Arc<dyn Store>, recorder: Arc<Recorder>, load: Load) {
    let clients: Vec<_> = (0..load.clients)
        .map(|client| {
            let random = StdRng::seed_from_u64(load.seed * 1000 + client as u64);
            let known = vec![None; load.keys];
            let client = Client { store: store.clone(), recorder: recorder.clone(), random, known };
            tokio::spawn(client.work(load))
        })
        .collect();
    for client in clients {
        client.await.expect("a client does not panic");
    }
}

struct Client {
    store: Arc<dyn Store>,
    recorder: Arc<Recorder>,
    random: StdRng,
    /// The revision that each key had when this client last heard of it.
    known: Vec<Option<Revision>>,
}

impl Client {
    async fn work(mut self, load: Load) {
        for _ in 0..load.each {
            let number = self.random.random_range(0..load.keys);
            let action = self.choose(number);
            let key = format!("{PREFIX}{number}");
            let id = self.recorder.call(&key, action);
            let outcome = self.ask(&key, id, action).await;
            self.recorder.answer(id, outcome);
            self.learn(number, action, outcome);
            match load.pause {
                Duration::ZERO => tokio::task::yield_now().await,
                pause => tokio::time::sleep(pause).await,
            }
        }
    }

    fn choose(&mut self, number: usize) -> Action {
        match (self.random.random_range(0..10), self.known[number]) {
            (0..4, _) => Action::Get,
            (4, _) | (_, None) => Action::Put(Expected::Absent),
            (5..8, Some(revision)) => Action::Put(Expected::Revision(revision)),
            (_, Some(revision)) => Action::Delete(revision),
        }
    }

    async fn ask(&self, key: &str, id: Id, action: Action) -> Outcome {
        let written = match action {
            Action::Get => match self.store.get(key).await {
                Ok((kv, at)) => return Outcome::Read { found: kv.as_ref().map(found), at },
                Err(error) => Err(error),
            },
            Action::Put(expected) => self.store.put(key, Bytes::from(id.to_string()), expected, None).await,
            Action::Delete(revision) => self.store.delete(key, revision).await,
        };
        match written {
            Ok(revision) => Outcome::Done(revision),
            Err(StoreError::Conflict { current, .. }) => Outcome::Refused(current.as_ref().map(found)),
            Err(StoreError::Backend { .. } | StoreError::Closed) => Outcome::Unknown,
            Err(other) => panic!("{action:?} of {key}: {other:?}"),
        }
    }

    fn learn(&mut self, number: usize, action: Action, outcome: Outcome) {
        self.known[number] = match (outcome, action) {
            (Outcome::Read { found, .. } | Outcome::Refused(found), _) => found.map(|found| found.revision),
            (Outcome::Done(revision), Action::Put(_)) => Some(revision),
            (Outcome::Done(_), _) => None,
            (Outcome::Unknown, _) => return,
        };
    }
}

/// The write that a value names.
pub(super) fn found(kv: &KeyValue) -> Found {
    let write = std::str::from_utf8(&kv.value).ok().and_then(|text| text.parse().ok());
    Found { write: write.expect("a value is the number of a write"), revision: kv.mod_revision }
}
