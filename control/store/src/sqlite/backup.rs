//! Copies of the data file: taken while a server runs, verified, and put back.
//!
//! A backup is one file that was checked from end to end before it got its name. A restored store forgets its history and
//! goes on at a far higher revision, so that whoever has seen what came after the backup is told to read again (410)
//! instead of being given other changes under revisions that it knows.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::check::{self, Depth};
use super::failure::{self, Failure};
use super::schema::{self, State};
use crate::{Revision, StoreError};

/// How far a restored store skips ahead: more than can have happened since the backup.
const SKIP: u64 = 1_000_000_000;
/// How long a copy waits for the file to be unlocked.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a copy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// How many keys.
    pub keys: u64,
    /// The newest revision.
    pub revision: Revision,
}

/// Copies the store in the file `from`, which another process may be using, to the new file `to`: one consistent state.
///
/// # Errors
/// `Exists` when there is something at `to`; `Corrupt` when the copy does not pass its checks; the disk's errors.
pub fn backup(from: &Path, to: &Path) -> Result<Copied, StoreError> {
    refuse_existing(to)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let failed = |operation| move |error| Failure { operation, path: from }.explain(error);
    let source = Connection::open_with_flags(from, flags).map_err(failed("open the store to copy"))?;
    source.busy_timeout(PATIENCE).map_err(failed("open the store to copy"))?;
    make(to, |partial| {
        let failed = |error| Failure { operation: "copy the store", path: partial }.explain(error);
        let mut target = Connection::open(partial).map_err(failed)?;
        let copy = Backup::new(&source, &mut target).map_err(failed)?;
        match copy.step(-1).map_err(failed)? {
            StepResult::Done => {}
            _ => return Err(StoreError::backend("copy the store", "the store is locked")),
        }
        drop(copy);
        finish(&target, partial, None)
    })
}

/// Puts a backup in place as the store `to`, which does not exist yet.
///
/// # Errors
/// `InUse` and `Exists` when there is a store; `Corrupt` and `UnknownSchema` when `from` is not a sound backup.
pub fn restore(from: &Path, to: &Path) -> Result<Copied, StoreError> {
    let _lock = schema::lock(to)?;
    for suffix in ["", "-wal", "-shm", "-journal"] {
        refuse_existing(&beside(to, suffix))?;
    }
    let log = beside(from, "-wal");
    if log.exists() {
        let detail = format!("not a backup: {} lies beside it", log.display());
        return Err(StoreError::Corrupt { path: from.to_owned(), detail });
    }
    make(to, |partial| {
        std::fs::copy(from, partial)
            .and_then(|_| std::fs::set_permissions(partial, Permissions::from_mode(0o600)))
            .map_err(|error| failure::of_file("copy the backup", error))?;
        let failed = |error| Failure { operation: "open the backup", path: partial }.explain(error);
        let target = Connection::open(partial).map_err(failed)?;
        finish(&target, partial, Some(SKIP))
    })
}

/// Lets a store that nobody uses go on after `revision`, without history; for a store that continues another one.
///
/// # Errors
/// Those of opening it, and of the disk.
pub fn continue_after(path: &Path, revision: Revision) -> Result<(), StoreError> {
    let _lock = schema::lock(path)?;
    let connection = schema::open_writer(path, None)?;
    let now = State::read(&connection)
        .map_err(|error| Failure { operation: "read the state", path }.explain(error))?;
    skip(&connection, path, now, revision.0.saturating_sub(now.revision.0))
}

/// Makes `to` by way of a file that only gets its name when it is whole and on stable storage.
fn make(to: &Path, fill: impl FnOnce(&Path) -> Result<Copied, StoreError>) -> Result<Copied, StoreError> {
    let partial = beside(to, ".partial");
    let failed = |error| failure::of_file("write the copy", error);
    if partial.exists() {
        std::fs::remove_file(&partial).map_err(failed)?;
    }
    // Secrets are in it.
    File::create_new(&partial)
        .and_then(|file| file.set_permissions(Permissions::from_mode(0o600)))
        .map_err(failed)?;
    let filled = fill(&partial).and_then(|copied| {
        File::open(&partial).and_then(|file| file.sync_all()).map_err(failed)?;
        std::fs::rename(&partial, to).map_err(failed)?;
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(copied)
    });
    if filled.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    filled
}

/// Brings a copy into its final form and checks all of it.
fn finish(connection: &Connection, path: &Path, ahead: Option<u64>) -> Result<Copied, StoreError> {
    let failed = |error| Failure { operation: "check the copy", path }.explain(error);
    // One file, no log beside it.
    connection
        .pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get::<_, String>(0))
        .map_err(failed)?;
    check::structure(connection, path, Depth::Everything)?;
    schema::upgrade_to_newest(connection, path)?;
    if let Some(by) = ahead {
        let state = check::contents(connection, path, Depth::Everything)?;
        skip(connection, path, state, by)?;
    }
    let state = check::contents(connection, path, Depth::Everything)?;
    let keys: i64 =
        connection.query_row("SELECT count(*) FROM head", [], |row| row.get(0)).map_err(failed)?;
    Ok(Copied { keys: keys.unsigned_abs(), revision: state.revision })
}

fn skip(connection: &Connection, path: &Path, state: State, by: u64) -> Result<(), StoreError> {
    let failed = |error| Failure { operation: "forget the history", path }.explain(error);
    let revision = Revision(state.revision.0.saturating_add(by));
    let transaction = connection.unchecked_transaction().map_err(failed)?;
    transaction.execute("DELETE FROM entry WHERE rev NOT IN (SELECT rev FROM head)", []).map_err(failed)?;
    let state =
        State { revision, compacted: revision, swept: revision, total_bytes: state.live_bytes, ..state };
    state.write(&transaction).map_err(failed)?;
    transaction.commit().map_err(failed)
}

fn refuse_existing(path: &Path) -> Result<(), StoreError> {
    if path.symlink_metadata().is_ok() { Err(StoreError::Exists { path: path.to_owned() }) } else { Ok(()) }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::super::tests::{create, events, folder, open};
    use super::*;
    use crate::{Expected, ListRequest, Store};

    fn everything() -> ListRequest {
        ListRequest { prefix: "/".into(), ..ListRequest::default() }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn backup_during_writes_is_one_state_and_its_restoration_goes_on_later() {
        let (folder, path) = folder();
        let store = Arc::new(open(&path));
        for number in 0..200 {
            create(&store, &format!("/{number:03}"), vec![b'a'; 500]).await;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (busy, ended) = (store.clone(), stop.clone());
        let writes = tokio::spawn(async move {
            let (mut count, mut expected) = (0, Expected::Absent);
            while !ended.load(Ordering::Relaxed) {
                let put = busy.put("/busy", format!("{count}").into(), expected, None).await.unwrap();
                (count, expected) = (count + 1, Expected::Revision(put));
            }
        });
        let copy = folder.path().join("copy.db");
        let (from, to) = (path.clone(), copy.clone());
        let taken = tokio::task::spawn_blocking(move || backup(&from, &to)).await.unwrap().unwrap();
        stop.store(true, Ordering::Relaxed);
        writes.await.unwrap();
        let request = ListRequest { revision: Some(taken.revision), ..everything() };
        let then = store.list(request).await.unwrap().items;
        let newest = store.current_revision().await.unwrap();
        assert!(matches!(backup(&path, &copy), Err(StoreError::Exists { .. })));
        assert!(matches!(restore(&copy, &path), Err(StoreError::InUse { .. })));

        let mode = copy.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "secrets are in it");

        let restored = folder.path().join("restored.db");
        let put_back = restore(&copy, &restored).unwrap();
        assert_eq!(put_back.keys, taken.keys);
        let other = open(&restored);
        let listing = other.list(everything()).await.unwrap();
        assert_eq!(listing.items, then);
        assert_eq!(listing.revision, put_back.revision);
        assert!(put_back.revision > newest);
        assert!(matches!(other.watch("/", newest).await, Err(StoreError::Compacted { .. })));
        assert_eq!(create(&other, "/new", "x").await, Revision(put_back.revision.0 + 1));
        assert_eq!(events(&other, put_back.revision, 1).await[0].key, "/new");
    }

    #[tokio::test]
    async fn damaged_backups_and_existing_stores_are_refused_and_nothing_is_left() {
        let (folder, path) = folder();
        create(&open(&path), "/a", "1").await;
        let copy = folder.path().join("copy.db");
        backup(&path, &copy).unwrap();
        assert!(matches!(restore(&copy, &path), Err(StoreError::Exists { .. })));

        Connection::open(&copy).unwrap().execute("UPDATE state SET live_bytes = 7", []).unwrap();
        let target = folder.path().join("new.db");
        assert!(matches!(restore(&copy, &target), Err(StoreError::Corrupt { .. })));
        std::fs::write(&copy, "no store").unwrap();
        assert!(matches!(restore(&copy, &target), Err(StoreError::Corrupt { .. })));
        assert!(!target.exists() && !beside(&target, ".partial").exists());
        assert!(backup(&folder.path().join("absent.db"), &folder.path().join("x")).is_err());
        assert!(!folder.path().join("absent.db").exists(), "asking makes no file");
    }

    #[tokio::test]
    async fn store_that_continues_another_one_starts_after_it() {
        let (_folder, path) = folder();
        create(&open(&path), "/a", "1").await;
        continue_after(&path, Revision(5000)).unwrap();
        let store = open(&path);
        assert!(store.get("/a").await.unwrap().0.is_some());
        assert_eq!(create(&store, "/b", "1").await, Revision(5001));
        drop(store);
        continue_after(&path, Revision(3)).unwrap();
        assert_eq!(create(&open(&path), "/c", "1").await, Revision(5002));
    }
}
