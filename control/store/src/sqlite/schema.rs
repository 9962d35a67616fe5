//! The data file: its tables, their versions, and how it is opened and checked.
//!
//! `entry` is the log, one row per revision, appended; a row without a value is a deletion. `head` points from each
//! key that exists to its newest row. `state` has the counters. Rows of `entry` that no head points to are history.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::check::{self, Depth};
use super::failure::{self, Failure};
use crate::{Revision, StoreError};

/// Marks the file as a store of this project (SQLite's `application_id`): "skep".
const APPLICATION: i64 = 0x736b_6570;

/// One step per version: what turns version n into n + 1.
const UPGRADES: &[&str] = &[
    "
    CREATE TABLE entry (
        rev INTEGER PRIMARY KEY,
        key BLOB NOT NULL,
        create_rev INTEGER NOT NULL,
        prev_rev INTEGER,
        value BLOB
    );
    CREATE TABLE head (
        key BLOB PRIMARY KEY,
        rev INTEGER NOT NULL,
        create_rev INTEGER NOT NULL,
        expires_at INTEGER
    ) WITHOUT ROWID;
    CREATE INDEX head_expiry ON head (expires_at) WHERE expires_at IS NOT NULL;
    CREATE TABLE state (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        revision INTEGER NOT NULL,
        compacted INTEGER NOT NULL,
        swept INTEGER NOT NULL,
        live_bytes INTEGER NOT NULL,
        total_bytes INTEGER NOT NULL
    );
    INSERT INTO state VALUES (1, 0, 0, 0, 0, 0);
    ",
    // Where the store's clock stood at the last commit.
    "ALTER TABLE state ADD COLUMN clock INTEGER NOT NULL DEFAULT 0;",
];

/// The counters of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// The newest revision.
    pub(super) revision: Revision,
    /// History up to here is no longer offered.
    pub(super) compacted: Revision,
    /// History up to here was removed; at most `compacted`.
    pub(super) swept: Revision,
    /// Bytes of keys and values that heads point to.
    pub(super) live_bytes: i64,
    /// Bytes of keys and values in `entry`.
    pub(super) total_bytes: i64,
    /// The store's time at the last commit, in milliseconds since the Unix epoch.
    pub(super) clock: i64,
}

impl State {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let sql = "SELECT revision, compacted, swept, live_bytes, total_bytes, clock FROM state";
        connection.prepare_cached(sql)?.query_row([], |row| {
            Ok(Self {
                revision: revision(row.get(0)?),
                compacted: revision(row.get(1)?),
                swept: revision(row.get(2)?),
                live_bytes: row.get(3)?,
                total_bytes: row.get(4)?,
                clock: row.get(5)?,
            })
        })
    }

    pub(super) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        let sql =
            "UPDATE state SET revision = ?1, compacted = ?2, swept = ?3, live_bytes = ?4, total_bytes = ?5,
            clock = ?6";
        connection.prepare_cached(sql)?.execute((
            number(self.revision),
            number(self.compacted),
            number(self.swept),
            self.live_bytes,
            self.total_bytes,
            self.clock,
        ))?;
        Ok(())
    }
}

/// A revision as SQLite stores it.
pub(super) fn number(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

/// A revision from what SQLite stores.
pub(super) fn revision(number: i64) -> Revision {
    Revision(u64::try_from(number).unwrap_or_default())
}

/// Keeps a second process away from the file: revisions are given out in memory.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let opened = OpenOptions::new().create(true).truncate(false).write(true).open(PathBuf::from(name));
    let file = opened.map_err(|error| failure::of_file("open the lock file", error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(StoreError::backend("lock the data file", error)),
    }
}

/// Opens the connection that writes: creates, checks and upgrades the file.
pub(super) fn open_writer(path: &Path, max_bytes: Option<u64>) -> Result<Connection, StoreError> {
    let failed = |operation| move |error| Failure { operation, path }.explain(error);
    let connection = Connection::open(path).map_err(failed("open the data file"))?;
    prepare(&connection).map_err(failed("set up the data file"))?;
    check::structure(&connection, path, Depth::Pages)?;
    upgrade_to_newest(&connection, path)?;
    check::contents(&connection, path, Depth::Pages)?;
    if let Some(bytes) = max_bytes {
        limit(&connection, bytes).map_err(failed("limit the data file"))?;
    }
    Ok(connection)
}

/// Opens a connection that only reads.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    keep_plans(&connection)?;
    // A range of ten thousand small objects fits; the connection that was used last is used first.
    connection.pragma_update(None, "cache_size", -20480)?;
    Ok(connection)
}

/// Opens the connection that copies the write-ahead log into the file.
pub(super) fn open_checkpointer(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

/// Plans do not depend on what is bound. Otherwise SQLite prepares a statement anew whenever other values are bound to it,
/// which took four fifths of the time of a look-up by key; every statement here has one sensible plan.
fn keep_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    keep_plans(connection)?;
    connection.set_prepared_statement_cache_capacity(64);
    // Only has an effect on a new file, and must come before the journal mode.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // Enough for the inner pages of the trees; what is written is seldom read here again.
    connection.pragma_update(None, "cache_size", -8192)?;
    connection.pragma_update_and_check(None, "journal_size_limit", 64 << 20, |row| row.get::<_, i64>(0))?;
    // The checkpointer does this beside the writer.
    connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, |row| row.get::<_, i64>(0))?;
    Ok(())
}

/// Brings the file to the newest schema.
pub(super) fn upgrade_to_newest(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    upgrade(connection, path, UPGRADES)
}

/// Brings the file to the schema that `steps` lead to, each step in a transaction of its own.
fn upgrade(connection: &Connection, path: &Path, steps: &[&str]) -> Result<(), StoreError> {
    let failed = |error| Failure { operation: "upgrade the data file", path }.explain(error);
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(failed);
    let (found, application) = (pragma("user_version")?, pragma("application_id")?);
    let newest = steps.len() as i64;
    let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
    let foreign = application != APPLICATION && tables.map_err(failed)? > 0;
    if foreign || !(0..=newest).contains(&found) {
        return Err(StoreError::UnknownSchema { path: path.to_owned(), found, newest });
    }
    for (version, sql) in (found + 1..).zip(&steps[found as usize..]) {
        let step = format!(
            "BEGIN IMMEDIATE; {sql} PRAGMA user_version = {version}; PRAGMA application_id = {APPLICATION}; COMMIT;"
        );
        connection.execute_batch(&step).map_err(failed)?;
    }
    Ok(())
}

fn limit(connection: &Connection, bytes: u64) -> rusqlite::Result<()> {
    let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page;
    connection.pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, i64>(0))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(connection: &Connection) -> i64 {
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }

    #[test]
    fn file_of_the_first_schema_is_upgraded_with_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let old = Connection::open(&path).unwrap();
        prepare(&old).unwrap();
        upgrade(&old, &path, &UPGRADES[..1]).unwrap();
        let rows = "INSERT INTO entry VALUES (7, x'2f61', 7, NULL, x'31');
            INSERT INTO head VALUES (x'2f61', 7, 7, NULL);
            UPDATE state SET revision = 9, live_bytes = 3, total_bytes = 3;";
        old.execute_batch(rows).unwrap();
        drop(old);

        let new = open_writer(&path, None).unwrap();
        assert_eq!(version(&new), UPGRADES.len() as i64);
        let state = State::read(&new).unwrap();
        assert_eq!((state.revision, state.live_bytes, state.clock), (Revision(9), 3, 0));
        let value: Vec<u8> =
            new.query_row("SELECT value FROM entry WHERE rev = 7", [], |row| row.get(0)).unwrap();
        assert_eq!(value, b"1");
    }

    #[test]
    fn upgrade_that_fails_leaves_the_file_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        drop(open_writer(&path, None).unwrap());
        let connection = Connection::open(&path).unwrap();
        let mut steps = UPGRADES.to_vec();
        steps.push("CREATE TABLE further (a); INSERT INTO nowhere VALUES (1);");
        assert!(upgrade(&connection, &path, &steps).is_err());
        drop(connection);
        let connection = open_writer(&path, None).unwrap();
        assert_eq!(version(&connection), UPGRADES.len() as i64);
        let further = "SELECT count(*) FROM sqlite_schema WHERE name = 'further'";
        assert_eq!(connection.query_row(further, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    }

    #[test]
    fn connections_that_write_wait_for_stable_storage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let writer = open_writer(&path, None).unwrap();
        let checkpointer = open_checkpointer(&path).unwrap();
        for connection in [&writer, &checkpointer] {
            let pragma =
                |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
            assert_eq!(pragma("synchronous"), 2, "FULL");
            assert_eq!(pragma("auto_vacuum"), 2, "INCREMENTAL");
            let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
            assert_eq!(mode, "wal");
        }
    }
}
