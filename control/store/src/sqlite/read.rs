//! Reads: each on its own connection and in one read transaction, so that it never waits for a write.
//!
//! Owns the pool of connections and the SQL of reads. A list in the past is the present with the later changes undone,
//! so its cost beyond the range itself is what has changed since.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Row};
use tokio::sync::Semaphore;

use super::failure::Failure;
use super::halves::{self, First};
use super::schema::{self, State, number, revision};
use crate::feed::Feed;
use crate::watch::{Changes, History};
use crate::{Event, KeyValue, ListRequest, Listing, Revision, StoreError, keys};

/// After every key: keys are UTF-8, which has no such byte.
const AFTER_ALL: &[u8] = &[u8::MAX];

/// Connections for reads.
pub(super) struct Readers {
    path: Arc<PathBuf>,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
    feed: Arc<Feed>,
    // Last: closing it takes the locks of the connections away.
    _data: Arc<File>,
}

impl Readers {
    /// A pool of `most` connections. All are opened now, so that reads go on when the disk lets nothing be opened.
    pub(super) fn open(
        path: PathBuf,
        most: usize,
        feed: Arc<Feed>,
        data: Arc<File>,
    ) -> rusqlite::Result<Self> {
        let most = most.max(1);
        let idle = (0..most).map(|_| schema::open_reader(&path)).collect::<rusqlite::Result<Vec<_>>>()?;
        for connection in &idle {
            // SQLite opens the files with the first read.
            State::read(connection)?;
        }
        let permits = Arc::new(Semaphore::new(most));
        Ok(Self { path: Arc::new(path), idle: Arc::new(Mutex::new(idle)), permits, feed, _data: data })
    }

    /// Closes the connections that are idle, so that the writer's is the last, which puts its log into the file.
    pub(super) fn close(&self) {
        self.idle.lock().clear();
    }

    /// Runs `read` in a read transaction. What it saw is published before the result is given out, so that no caller
    /// knows a revision that watches and [`crate::Store::current_revision`] do not.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        read: impl FnOnce(&Connection, &State) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<(T, State), StoreError> {
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let (path, idle) = (self.path.clone(), self.idle.clone());
        let work = move || {
            let _permit = permit;
            let pooled = idle.lock().pop();
            let connection = match pooled {
                Some(connection) => connection,
                None => schema::open_reader(&path)?,
            };
            let result = in_transaction(&connection, read);
            idle.lock().push(connection);
            result
        };
        let path = self.path.clone();
        let done =
            tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::backend(operation, error))?;
        let (result, state) = done.map_err(|error| Failure { operation, path: &path }.explain(error))?;
        self.feed.reached(state.revision).await?;
        Ok((result, state))
    }

    /// The newest revision in the file.
    pub(super) async fn state(&self) -> Result<State, StoreError> {
        Ok(self.run("read the state", |_, _| Ok(())).await?.1)
    }

    /// One key.
    pub(super) async fn get(&self, key: String) -> Result<(Option<KeyValue>, Revision), StoreError> {
        let read = move |connection: &Connection, _: &State| {
            let sql = "SELECT h.key, e.rev, e.create_rev, e.value
                FROM head h CROSS JOIN entry e ON e.rev = h.rev WHERE h.key = ?1";
            connection
                .prepare_cached(sql)?
                .query_row([key.as_bytes()], |row| key_value(row, &mut Values::alone()))
                .optional()
        };
        let (found, state) = self.run("get", read).await?;
        Ok((found, state.revision))
    }

    /// What is left, at the store's time `now`, of the life of each key that has an end.
    pub(super) async fn expiries(&self, now: i64) -> Result<BTreeMap<String, Duration>, StoreError> {
        let read = move |connection: &Connection, _: &State| {
            let left = |row: &Row<'_>| {
                let left = u64::try_from(row.get::<_, i64>(1)?.saturating_sub(now)).unwrap_or_default();
                Ok((text(row, 0)?, Duration::from_millis(left)))
            };
            let sql = "SELECT key, expires_at FROM head WHERE expires_at IS NOT NULL";
            connection.prepare_cached(sql)?.query_map([], left)?.collect()
        };
        Ok(self.run("list expiries", read).await?.0)
    }

    /// A range.
    pub(super) async fn list(&self, request: ListRequest) -> Result<Listing, StoreError> {
        let range = Range::of(&request);
        let Some(at) = request.revision else { return self.list_newest(range).await };
        self.list_at(range, Some(at)).await
    }

    async fn list_newest(&self, range: Range) -> Result<Listing, StoreError> {
        let look = range.clone();
        let looked = self.run("list", move |connection, _| halves::first_look(connection, &look)).await?;
        match looked {
            (First::Whole(items, remaining), state) => {
                Ok(Listing { items, revision: state.revision, remaining })
            }
            (First::Large(middle), _) => match self.list_in_halves(&range, &middle).await? {
                Some(listing) => Ok(listing),
                None => self.list_at(range, None).await,
            },
        }
    }

    async fn list_at(&self, range: Range, at: Option<Revision>) -> Result<Listing, StoreError> {
        let read = move |connection: &Connection, state: &State| {
            let wanted = at.unwrap_or(state.revision);
            if let Err(refused) = offered(state, wanted) {
                return Ok(Err(refused));
            }
            let (items, remaining) = if wanted == state.revision {
                list_now(connection, &range)?
            } else {
                list_then(connection, &range, wanted)?
            };
            Ok(Ok(Listing { items, revision: wanted, remaining }))
        };
        self.run("list", read).await?.0
    }
}

fn in_transaction<T>(
    connection: &Connection,
    read: impl FnOnce(&Connection, &State) -> rusqlite::Result<T>,
) -> rusqlite::Result<(T, State)> {
    let transaction = connection.unchecked_transaction()?;
    let state = State::read(&transaction)?;
    let result = read(&transaction, &state)?;
    transaction.finish()?;
    Ok((result, state))
}

/// Whether the state as of `wanted`, and the changes after it, can be read.
fn offered(state: &State, wanted: Revision) -> Result<(), StoreError> {
    if wanted < state.compacted {
        return Err(StoreError::Compacted { requested: wanted, compacted: state.compacted });
    }
    if wanted > state.revision {
        return Err(StoreError::Future { requested: wanted, current: state.revision });
    }
    Ok(())
}

/// The keys of a [`ListRequest`].
#[derive(Clone, Debug)]
pub(super) struct Range {
    pub(super) start: Vec<u8>,
    /// Exclusive.
    pub(super) end: Vec<u8>,
    /// `usize::MAX` without a limit.
    pub(super) limit: usize,
}

impl Range {
    fn of(request: &ListRequest) -> Self {
        Self {
            start: keys::range_start(&request.prefix, request.start_after.as_deref()).into_bytes(),
            end: keys::prefix_end(request.prefix.as_bytes()).unwrap_or_else(|| AFTER_ALL.to_vec()),
            limit: if request.limit == 0 { usize::MAX } else { request.limit },
        }
    }
}

/// A range as it is, and how many further keys its limit left off.
pub(super) fn list_now(connection: &Connection, range: &Range) -> rusqlite::Result<(Vec<KeyValue>, u64)> {
    let sql = "SELECT h.key, e.rev, e.create_rev, e.value FROM head h CROSS JOIN entry e ON e.rev = h.rev
        WHERE h.key >= ?1 AND h.key < ?2 ORDER BY h.key LIMIT ?3";
    let limit = i64::try_from(range.limit).unwrap_or(-1);
    let mut values = Values::many();
    let items: Vec<KeyValue> = connection
        .prepare_cached(sql)?
        .query_map((&range.start, &range.end, limit), |row| key_value(row, &mut values))?
        .collect::<rusqlite::Result<_>>()?;
    let mut remaining = 0;
    if let Some(last) = items.last().filter(|_| items.len() == range.limit) {
        let sql = "SELECT count(*) FROM head WHERE key > ?1 AND key < ?2";
        let count = |row: &Row<'_>| row.get::<_, i64>(0);
        remaining = connection.prepare_cached(sql)?.query_row((last.key.as_bytes(), &range.end), count)?;
    }
    Ok((items, remaining as u64))
}

fn list_then(connection: &Connection, range: &Range, at: Revision) -> rusqlite::Result<(Vec<KeyValue>, u64)> {
    let pair = |row: &Row<'_>| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Option<i64>>(1)?));
    // Keys that have not changed since: the row that the head points to.
    let sql = "SELECT key, rev FROM head WHERE key >= ?1 AND key < ?2 AND rev <= ?3";
    let unchanged = connection
        .prepare_cached(sql)?
        .query_map((&range.start, &range.end, number(at)), pair)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    // Keys that have: the row before their first change. (SQLite takes bare columns from the row of the minimum.)
    let sql =
        "SELECT key, prev_rev, min(rev) FROM entry WHERE rev > ?3 AND key >= ?1 AND key < ?2 GROUP BY key";
    let changed = connection
        .prepare_cached(sql)?
        .query_map((&range.start, &range.end, number(at)), pair)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let rows: BTreeMap<Vec<u8>, i64> =
        unchanged.into_iter().chain(changed).filter_map(|(key, rev)| Some((key, rev?))).collect();
    let mut fetch =
        connection.prepare_cached("SELECT key, rev, create_rev, value FROM entry WHERE rev = ?1")?;
    let mut values = Values::many();
    let items: Vec<KeyValue> = rows
        .values()
        .take(range.limit)
        .map(|rev| fetch.query_row([rev], |row| key_value(row, &mut values)))
        .collect::<rusqlite::Result<_>>()?;
    let remaining = rows.len() - items.len();
    Ok((items, remaining as u64))
}

/// Small values of one list, side by side in memory: an allocation for each of them would cost more than reading it.
/// Each of them keeps its neighbours in memory.
struct Values {
    room: BytesMut,
    together: usize,
}

/// So much is allocated at a time.
const TOGETHER: usize = 64 << 10;

impl Values {
    /// For many.
    fn many() -> Self {
        Self { room: BytesMut::new(), together: TOGETHER }
    }

    /// For one.
    fn alone() -> Self {
        Self { room: BytesMut::new(), together: 0 }
    }

    fn copy(&mut self, value: &[u8]) -> Bytes {
        if value.len() > self.together / 16 {
            return Bytes::copy_from_slice(value);
        }
        if self.room.capacity() < value.len() {
            self.room = BytesMut::with_capacity(self.together);
        }
        self.room.extend_from_slice(value);
        self.room.split().freeze()
    }
}

/// Columns: key, rev, create_rev, value.
fn key_value(row: &Row<'_>, values: &mut Values) -> rusqlite::Result<KeyValue> {
    let value = row.get_ref(3)?.as_blob().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(3, rusqlite::types::Type::Blob, Box::new(error))
    })?;
    Ok(KeyValue {
        key: text(row, 0)?,
        mod_revision: revision(row.get(1)?),
        create_revision: revision(row.get(2)?),
        value: values.copy(value),
    })
}

fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    String::from_utf8(row.get(column)?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Blob, Box::new(error))
    })
}

/// Columns: rev, key, create_rev, value, and of the row before: rev, create_rev, value.
fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let key = text(row, 1)?;
    let side = |rev: i64, created: i64, value: Vec<u8>| KeyValue {
        key: key.clone(),
        value: Bytes::from(value),
        create_revision: revision(created),
        mod_revision: revision(rev),
    };
    let rev: i64 = row.get(0)?;
    let current = row.get::<_, Option<Vec<u8>>>(3)?.map(|value| (value, row.get(2)));
    let current = match current {
        Some((value, created)) => Some(side(rev, created?, value)),
        None => None,
    };
    let previous = match row.get::<_, Option<i64>>(4)? {
        Some(before) => Some(side(before, row.get(5)?, row.get(6)?)),
        None => None,
    };
    Ok(Event { revision: revision(rev), key, current, previous })
}

#[async_trait]
impl History for Readers {
    async fn changes(&self, prefix: &str, after: Revision, limit: usize) -> Result<Changes, StoreError> {
        let range = Range::of(&ListRequest { prefix: prefix.to_owned(), limit, ..ListRequest::default() });
        let read = move |connection: &Connection, state: &State| {
            if let Err(refused) = offered(state, after) {
                return Ok(Err(refused));
            }
            let sql = "SELECT e.rev, e.key, e.create_rev, e.value, p.rev, p.create_rev, p.value
                FROM entry e LEFT JOIN entry p ON p.rev = e.prev_rev
                WHERE e.rev > ?3 AND e.key >= ?1 AND e.key < ?2 ORDER BY e.rev LIMIT ?4";
            let parameters = (&range.start, &range.end, number(after), limit as i64);
            let events: Vec<Event> = connection
                .prepare_cached(sql)?
                .query_map(parameters, event)?
                .collect::<rusqlite::Result<_>>()?;
            let upto = match events.last() {
                Some(last) if events.len() >= limit => last.revision,
                _ => state.revision,
            };
            Ok(Ok(Changes { events, upto }))
        };
        self.run("read history", read).await?.0
    }
}
