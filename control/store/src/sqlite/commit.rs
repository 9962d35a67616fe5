//! One transaction: many changes, one fsync.
//!
//! Owns preconditions, revisions and the events of a batch. Does not decide what goes into a batch, nor when.

use std::time::Duration;

use bytes::Bytes;
use rusqlite::{OptionalExtension, Transaction};

use super::queue::Change;
use super::schema::{State, number, revision};
use crate::{Event, Expected, KeyValue, Revision, StoreError};

/// The newest row of a key.
const HEAD: &str =
    "SELECT e.rev, e.create_rev, e.value FROM head h CROSS JOIN entry e ON e.rev = h.rev WHERE h.key = ?1";

/// What became of one change; final once the transaction is committed.
pub(super) type Outcome = Result<Revision, StoreError>;

/// A transaction being filled.
pub(super) struct Batch<'c> {
    pub(super) transaction: Transaction<'c>,
    pub(super) state: State,
    /// What watchers will see, in order.
    pub(super) events: Vec<Event>,
    /// The earliest expiry that was written.
    pub(super) earliest_expiry: Option<i64>,
    /// The store's time, in milliseconds since the Unix epoch.
    pub(super) now: i64,
}

impl Batch<'_> {
    /// Applies one change.
    ///
    /// # Errors
    /// An error of SQLite spoils the whole transaction; a precondition that does not hold is an [`Outcome`].
    pub(super) fn apply(&mut self, change: &Change) -> rusqlite::Result<Outcome> {
        match change {
            Change::Put { key, value, expected, ttl } => self.put(key, value, *expected, *ttl),
            Change::Delete { key, expected } => self.delete(key, *expected),
            Change::Compact(revision) => Ok(self.compact(*revision)),
        }
    }

    fn put(
        &mut self,
        key: &str,
        value: &Bytes,
        expected: Expected,
        ttl: Option<Duration>,
    ) -> rusqlite::Result<Outcome> {
        let previous = self.head(key)?;
        let holds = match (expected, &previous) {
            (Expected::Absent, None) => true,
            (Expected::Revision(wanted), Some(kv)) => kv.mod_revision == wanted,
            _ => false,
        };
        if !holds {
            return Ok(Err(StoreError::Conflict { key: key.to_owned(), current: previous }));
        }
        let mod_revision = Revision(self.state.revision.0 + 1);
        let create_revision = previous.as_ref().map_or(mod_revision, |kv| kv.create_revision);
        let expires_at = ttl.map(|ttl| expiry(self.now, ttl));
        self.append(key, create_revision, previous.as_ref(), Some(value))?;
        let sql = "INSERT INTO head (key, rev, create_rev, expires_at) VALUES (?1, ?2, ?3, ?4)
            ON CONFLICT (key) DO UPDATE SET rev = ?2, create_rev = ?3, expires_at = ?4";
        let row = (key.as_bytes(), number(mod_revision), number(create_revision), expires_at);
        self.transaction.prepare_cached(sql)?.execute(row)?;
        self.earliest_expiry = [self.earliest_expiry, expires_at].into_iter().flatten().min();
        let current = KeyValue { key: key.to_owned(), value: value.clone(), create_revision, mod_revision };
        self.record(key, Some(current), previous);
        Ok(Ok(mod_revision))
    }

    fn delete(&mut self, key: &str, expected: Revision) -> rusqlite::Result<Outcome> {
        match self.head(key)? {
            Some(previous) if previous.mod_revision == expected => self.remove(previous).map(Ok),
            current => Ok(Err(StoreError::Conflict { key: key.to_owned(), current })),
        }
    }

    fn remove(&mut self, previous: KeyValue) -> rusqlite::Result<Revision> {
        let key = previous.key.clone();
        self.append(&key, previous.create_revision, Some(&previous), None)?;
        self.transaction.prepare_cached("DELETE FROM head WHERE key = ?1")?.execute([key.as_bytes()])?;
        self.record(&key, None, Some(previous));
        Ok(self.state.revision)
    }

    fn compact(&mut self, revision: Revision) -> Outcome {
        if revision > self.state.revision {
            return Err(StoreError::Future { requested: revision, current: self.state.revision });
        }
        self.state.compacted = self.state.compacted.max(revision);
        Ok(self.state.compacted)
    }

    /// Deletes up to `most` keys whose time has come; when the next one's comes.
    pub(super) fn expire(&mut self, most: usize) -> rusqlite::Result<Option<i64>> {
        let due: Vec<Vec<u8>> = self
            .transaction
            .prepare_cached("SELECT key FROM head WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2")?
            .query_map((self.now, most as i64), |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        for key in due {
            let key = String::from_utf8_lossy(&key).into_owned();
            if let Some(previous) = self.head(&key)? {
                self.remove(previous)?;
            }
        }
        next_expiry(&self.transaction)
    }

    fn head(&self, key: &str) -> rusqlite::Result<Option<KeyValue>> {
        let found = self.transaction.prepare_cached(HEAD)?.query_row([key.as_bytes()], |row| {
            Ok(KeyValue {
                key: key.to_owned(),
                mod_revision: revision(row.get(0)?),
                create_revision: revision(row.get(1)?),
                value: Bytes::from(row.get::<_, Vec<u8>>(2)?),
            })
        });
        found.optional()
    }

    fn append(
        &mut self,
        key: &str,
        created: Revision,
        previous: Option<&KeyValue>,
        value: Option<&Bytes>,
    ) -> rusqlite::Result<()> {
        let rev = Revision(self.state.revision.0 + 1);
        let sql = "INSERT INTO entry (rev, key, create_rev, prev_rev, value) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.transaction.prepare_cached(sql)?.execute((
            number(rev),
            key.as_bytes(),
            number(created),
            previous.map(|kv| number(kv.mod_revision)),
            value.map(|value| &value[..]),
        ))?;
        let size = |value: usize| (key.len() + value) as i64;
        self.state.revision = rev;
        self.state.total_bytes += size(value.map_or(0, |value| value.len()));
        self.state.live_bytes += value.map_or(0, |value| size(value.len()));
        self.state.live_bytes -= previous.map_or(0, |kv| size(kv.value.len()));
        Ok(())
    }

    fn record(&mut self, key: &str, current: Option<KeyValue>, previous: Option<KeyValue>) {
        self.events.push(Event { revision: self.state.revision, key: key.to_owned(), current, previous });
    }
}

/// The time of the next expiry, if any key has one.
pub(super) fn next_expiry(connection: &rusqlite::Connection) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT min(expires_at) FROM head WHERE expires_at IS NOT NULL";
    connection.prepare_cached(sql)?.query_row([], |row| row.get(0))
}

/// Long times to live end on a full second, so that many keys that expire together cost one commit.
fn expiry(now: i64, ttl: Duration) -> i64 {
    let at = now.saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX));
    if ttl < Duration::from_secs(10) { at } else { at.saturating_add(999) / 1000 * 1000 }
}

#[cfg(test)]
mod tests {
    use rusqlite::{StatementStatus, TransactionBehavior};

    use super::super::schema;
    use super::*;

    #[test]
    fn statements_are_prepared_once_whatever_is_bound_to_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut connection = schema::open_writer(&folder.path().join("state.db"), None).unwrap();
        let mut state = State::read(&connection).unwrap();
        for round in 0..3 {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
            let (events, earliest_expiry) = (Vec::new(), None);
            let mut batch = Batch { transaction, state, events, earliest_expiry, now: 0 };
            for key in 0..3 {
                let key = format!("/registry/x/{round}-{key}");
                let (value, expected) = (Bytes::from_static(b"{}"), Expected::Absent);
                let put = Change::Put { key, value, expected, ttl: None };
                assert!(batch.apply(&put).unwrap().is_ok());
            }
            state = batch.state;
            batch.transaction.commit().unwrap();
        }
        let head = connection.prepare_cached(HEAD).unwrap();
        assert!(head.get_status(StatementStatus::Run) > 3, "it is the statement that was used");
        assert_eq!(head.get_status(StatementStatus::RePrepare), 0);
    }

    #[test]
    fn expiry_of_a_long_time_to_live_is_a_full_second_and_never_early() {
        assert_eq!(expiry(1_500, Duration::from_millis(1)), 1_501);
        assert_eq!(expiry(1_500, Duration::from_secs(10)), 12_000);
        assert_eq!(expiry(2_000, Duration::from_secs(10)), 12_000);
        assert_eq!(expiry(0, Duration::MAX), i64::MAX / 1000 * 1000);
    }
}
