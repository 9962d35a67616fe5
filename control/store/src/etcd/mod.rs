//! The store on etcd, for more than one control-plane machine.
//!
//! Keys and values go to etcd as they are, so that upstream's API server can take turns on the same data. One watch of
//! the whole key space (`follow`) fills the feed that serves all watches here: since every revision has an event in it,
//! watchers learn of progress as soon as etcd tells of anything, without asking. Times to live become leases that keys
//! of the same kind of age share (`leases`).
//!
//! History is forgotten in turns with the other servers (`compact`). Does not start, join, defragment or repair etcd.

mod compact;
mod convert;
mod follow;
mod leases;
mod newest;

#[cfg(test)]
mod auth_tests;
#[cfg(test)]
mod cluster_tests;
#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod partition_tests;
#[cfg(test)]
mod stall_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
pub use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};
use etcd_client::{
    Client, Compare, CompareOp, GetOptions, PutOptions, ResponseHeader, Txn, TxnOp, TxnOpResponse,
    TxnResponse,
};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::compact::Compactor;
use self::convert::{explain, key_value, number, revision};
use self::follow::Follower;
use self::leases::Leases;
use self::newest::Newest;
use crate::feed::{Feed, FeedBounds};
use crate::{
    Expected, KeyValue, ListRequest, Listing, Revision, Size, Store, StoreError, WatchStream, keys, watch,
};

/// Longest wait for one answer of etcd.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest wait for a connection to one member.
const CONNECT: Duration = Duration::from_secs(3);

/// How often a member is asked whether it is there, and how long it has to answer. etcd takes offence below 5 s.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(6), Duration::from_secs(3));

/// Wait for an answer before a read is asked once more beside it, perhaps of another member.
const BESIDE: Duration = Duration::from_millis(1500);

/// Wait before what failed is tried again, perhaps on another member.
const AGAIN: Duration = Duration::from_millis(100);

/// Keys per request of a list.
const PAGE: usize = 500;

/// Largest answer that is taken, in bytes: a page of the largest values etcd takes by default.
const LARGEST_ANSWER: usize = 1 << 30;

/// A [`Store`] in an etcd cluster (3.4 or newer).
pub struct EtcdStore {
    client: Client,
    feed: Arc<Feed>,
    follower: Arc<Follower>,
    leases: Leases,
    newest: Newest,
    following: JoinHandle<()>,
    compacting: JoinHandle<()>,
}

impl EtcdStore {
    /// Connects to the members at `endpoints` (`https://host:2379`); requests go to any that answers.
    ///
    /// # Errors
    /// `Backend` when none answers or the options are refused.
    pub async fn connect(endpoints: &[String], options: Option<ConnectOptions>) -> Result<Self, StoreError> {
        let options = options
            .unwrap_or_default()
            .with_require_leader(true)
            .with_connect_timeout(CONNECT)
            .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
            .with_keep_alive_while_idle(true);
        let client = answer("connect to etcd", Client::connect(endpoints, Some(options))).await?;
        let at = newest(&client).await?;
        let feed = Arc::new(Feed::new(at, FeedBounds::default()));
        let follower = Arc::new(Follower::new(client.clone(), feed.clone()));
        let following = tokio::spawn(follower.clone().follow());
        let compacting = tokio::spawn(Compactor::new(client.clone()).run(compact::EVERY));
        let leases = Leases::new(client.clone());
        let asking = client.clone();
        let newest = Newest::new(move || {
            let client = asking.clone();
            async move { newest(&client).await }.boxed()
        });
        Ok(Self { client, feed, follower, leases, newest, following, compacting })
    }

    async fn transact(&self, key: &str, expected: Expected, write: TxnOp) -> Result<Revision, StoreError> {
        let wanted = match expected {
            Expected::Absent => 0,
            Expected::Revision(revision) => number(revision),
        };
        let transaction = Txn::new()
            .when([Compare::mod_revision(key, CompareOp::Equal, wanted)])
            .and_then([write])
            .or_else([TxnOp::get(key, None)]);
        let response = self.propose(transaction).await?;
        if response.succeeded() {
            return header_revision(response.header());
        }
        let current = match response.op_responses().first() {
            Some(TxnOpResponse::Get(found)) => found.kvs().first().map(key_value).transpose()?,
            _ => None,
        };
        Err(StoreError::Conflict { key: key.to_owned(), current })
    }

    /// Runs a transaction. It is tried again, perhaps on another member, only while it is sure not to have begun.
    async fn propose(&self, transaction: Txn) -> Result<TxnResponse, StoreError> {
        let (operation, started) = ("write to etcd", Instant::now());
        loop {
            let mut kv = self.client.kv_client();
            let error = match tokio::time::timeout(PATIENCE, kv.txn(transaction.clone())).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) => error,
                Err(elapsed) => return Err(StoreError::backend(operation, elapsed)),
            };
            if !convert::not_begun(&error) || started.elapsed() + AGAIN >= PATIENCE {
                return Err(explain(operation, error));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Refuses a revision that is compacted or has not happened.
    async fn check(&self, requested: Revision) -> Result<(), StoreError> {
        let options = GetOptions::new().with_revision(number(requested).max(1)).with_count_only();
        let check = || {
            let (mut kv, options) = (self.client.kv_client(), options.clone());
            async move { kv.get("\0", Some(options)).await }
        };
        match read("check a revision", check).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.refusal(error, requested).await),
        }
    }

    /// Puts the revision that was asked for into a refusal.
    async fn refusal(&self, error: StoreError, requested: Revision) -> StoreError {
        match error {
            StoreError::Compacted { .. } => {
                StoreError::Compacted { requested, compacted: Revision(requested.0 + 1) }
            }
            StoreError::Future { .. } => match newest(&self.client).await {
                Ok(current) => StoreError::Future { requested, current },
                Err(error) => error,
            },
            other => other,
        }
    }

    async fn page(
        &self,
        start: &str,
        end: &[u8],
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Page, StoreError> {
        // etcd knows no empty key, and `\0` as an end means "all that follows".
        let start = if start.is_empty() { "\0" } else { start };
        let mut options = GetOptions::new().with_range(end).with_limit(limit as i64);
        if let Some(at) = at {
            options = options.with_revision(number(at).max(1));
        }
        let found = read("list from etcd", || {
            let mut kv = self.client.kv_client().max_decoding_message_size(LARGEST_ANSWER);
            let options = options.clone();
            async move { kv.get(start, Some(options)).await }
        })
        .await?;
        Ok(Page {
            items: found.kvs().iter().map(key_value).collect::<Result<_, _>>()?,
            total: found.count().unsigned_abs(),
            newest: header_revision(found.header())?,
        })
    }
}

struct Page {
    items: Vec<KeyValue>,
    /// Keys of the range, with those of the page.
    total: u64,
    newest: Revision,
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        self.following.abort();
        self.compacting.abort();
        self.feed.close();
    }
}

/// Waits for an answer, but not for ever.
async fn answer<T>(
    operation: &'static str,
    request: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(PATIENCE, request).await {
        Ok(answered) => answered.map_err(|error| explain(operation, error)),
        Err(elapsed) => Err(StoreError::backend(operation, elapsed)),
    }
}

/// Waits for the answer to a read, but not for ever. It is asked again while members fail or elect a leader, and also
/// beside a question that is not answered soon: the member may be cut off, which nobody has noticed yet.
async fn read<T, F>(operation: &'static str, mut request: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, etcd_client::Error>>,
{
    let give_up = Instant::now() + PATIENCE;
    let mut asked = FuturesUnordered::new();
    asked.push(request());
    let mut again = Instant::now() + BESIDE;
    loop {
        let error = tokio::select! {
            Some(answered) = asked.next() => match answered {
                Ok(answered) => return Ok(answered),
                Err(error) if !convert::passing(&error) => return Err(explain(operation, error)),
                Err(error) => explain(operation, error),
            },
            () = tokio::time::sleep_until(again) => {
                asked.push(request());
                again = Instant::now() + BESIDE;
                continue;
            }
            () = tokio::time::sleep_until(give_up) => {
                return Err(StoreError::backend(operation, "no member has answered in time"));
            }
        };
        if Instant::now() + AGAIN >= give_up {
            return Err(error);
        }
        if asked.is_empty() {
            again = Instant::now() + AGAIN;
        }
    }
}

/// The newest revision, agreed on by a majority of the members.
async fn newest(client: &Client) -> Result<Revision, StoreError> {
    let found = read("read etcd's revision", || {
        let mut kv = client.kv_client();
        async move { kv.get("\0", Some(GetOptions::new().with_count_only())).await }
    })
    .await?;
    header_revision(found.header())
}

fn header_revision(header: Option<&ResponseHeader>) -> Result<Revision, StoreError> {
    header
        .map(|header| revision(header.revision()))
        .ok_or_else(|| StoreError::backend("read etcd's answer", "no header"))
}

#[async_trait]
impl Store for EtcdStore {
    async fn current_revision(&self) -> Result<Revision, StoreError> {
        self.newest.get().await
    }

    async fn get(&self, key: &str) -> Result<(Option<KeyValue>, Revision), StoreError> {
        let found = read("get from etcd", || {
            let mut kv = self.client.kv_client().max_decoding_message_size(LARGEST_ANSWER);
            async move { kv.get(key, None).await }
        })
        .await?;
        Ok((found.kvs().first().map(key_value).transpose()?, header_revision(found.header())?))
    }

    async fn list(&self, request: ListRequest) -> Result<Listing, StoreError> {
        let mut start = keys::range_start(&request.prefix, request.start_after.as_deref());
        let end = keys::prefix_end(request.prefix.as_bytes()).unwrap_or_else(|| b"\0".to_vec());
        let limit = if request.limit == 0 { usize::MAX } else { request.limit };
        let mut listing =
            Listing { items: Vec::new(), revision: request.revision.unwrap_or_default(), remaining: 0 };
        let mut at = request.revision;
        loop {
            let room = PAGE.min(limit - listing.items.len());
            let page = match self.page(&start, &end, room, at).await {
                Ok(page) => page,
                Err(error) => return Err(self.refusal(error, at.unwrap_or_default()).await),
            };
            // The first page fixes the snapshot.
            listing.revision = *at.get_or_insert(page.newest);
            listing.remaining = page.total.saturating_sub(page.items.len() as u64);
            listing.items.extend(page.items);
            if listing.remaining == 0 || listing.items.len() >= limit {
                return Ok(listing);
            }
            start = keys::range_start(&request.prefix, listing.items.last().map(|kv| kv.key.as_str()));
        }
    }

    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expected: Expected,
        ttl: Option<Duration>,
    ) -> Result<Revision, StoreError> {
        let options = match ttl {
            Some(ttl) => Some(PutOptions::new().with_lease(self.leases.lease(ttl).await?)),
            None => None,
        };
        self.transact(key, expected, TxnOp::put(key, value, options)).await
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision, StoreError> {
        self.transact(key, Expected::Revision(expected), TxnOp::delete(key, None)).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError> {
        self.check(after).await?;
        Ok(watch::stream(self.feed.clone(), self.follower.clone(), prefix.to_owned(), after))
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        let mut kv = self.client.kv_client();
        match answer("compact etcd", kv.compact(number(revision), None)).await {
            // Somebody else has done as much or more.
            Ok(_) | Err(StoreError::Compacted { .. }) => Ok(()),
            Err(error) => Err(self.refusal(error, revision).await),
        }
    }

    async fn expiries(&self) -> Result<BTreeMap<String, Duration>, StoreError> {
        self.leases.expiries().await
    }

    async fn size(&self) -> Result<Option<Size>, StoreError> {
        let found = read("ask etcd for its size", || {
            let mut maintenance = self.client.maintenance_client();
            async move { maintenance.status().await }
        })
        .await?;
        let bytes = u64::try_from(found.db_size()).unwrap_or_default();
        Ok(Some(Size { cluster: "etcd-0", bytes }))
    }
}
