//! SIGKILL in the middle of concurrent writes: what was acknowledged is there, and nothing is half there.
//!
//! The test binary runs itself as the victim: the same test, told by an environment variable to write until it dies.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use tempfile::tempdir;

use super::tests::events;
use super::{SqliteOptions, SqliteStore};
use crate::{Expected, ListRequest, Revision, Store};

const VICTIM: &str = "SKEP_STORE_KILL_TEST_FILE";
const ROUNDS: usize = 50;
const WRITERS: usize = 64;
/// Acknowledgements to wait for before each kill.
const ACKNOWLEDGED: usize = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_writing_keeps_every_acknowledged_write() {
    if let Ok(path) = std::env::var(VICTIM) {
        write_until_killed(Path::new(&path)).await;
    }
    let folder = tempdir().unwrap();
    let path = folder.path().join("state.db");
    let mut acknowledged: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut checked = Revision(0);
    for round in 0..ROUNDS {
        let more = run_victim(&path, round);
        assert!(more.len() >= WRITERS, "all writers got going");
        acknowledged.extend(more);
        checked = check(&path, &acknowledged, checked).await;
    }
}

/// Each writer updates its own key over and over, and says what was acknowledged only after it was.
async fn write_until_killed(path: &Path) -> ! {
    let store = Arc::new(SqliteStore::open(path, SqliteOptions::default()).unwrap());
    for writer in 0..WRITERS {
        tokio::spawn(write(store.clone(), format!("/kill/{writer:02}")));
    }
    std::future::pending().await
}

async fn write(store: Arc<SqliteStore>, key: String) {
    let (mut expected, mut count) = match store.get(&key).await.unwrap().0 {
        None => (Expected::Absent, 0),
        Some(kv) => (Expected::Revision(kv.mod_revision), counted(&kv.value)),
    };
    loop {
        count += 1;
        let value = format!("{count} {}", "x".repeat(1000));
        let revision = store.put(&key, Bytes::from(value), expected, None).await.unwrap();
        expected = Expected::Revision(revision);
        // In one call, so that lines of several threads stay whole.
        std::io::stdout().write_all(format!("ack {key} {count} {}\n", revision.0).as_bytes()).unwrap();
    }
}

fn counted(value: &[u8]) -> u64 {
    std::str::from_utf8(value).unwrap().split(' ').next().unwrap().parse().unwrap()
}

/// Starts the victim, kills it in the middle, and returns the last acknowledged count and revision of each key.
fn run_victim(path: &Path, round: usize) -> BTreeMap<String, (u64, u64)> {
    let test = "sqlite::kill_tests::killed_while_writing_keeps_every_acknowledged_write";
    let mut victim: Child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(VICTIM, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut acknowledged = BTreeMap::new();
    let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let mut seen = 0;
    // The lines that were written before the kill but read after it count as well.
    while let Some(Ok(line)) = lines.next() {
        let mut words = line.split(' ');
        if words.next() != Some("ack") {
            continue;
        }
        let (Some(key), Some(count), Some(revision)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        if let (Ok(count), Ok(revision)) = (count.parse(), revision.parse()) {
            acknowledged.insert(key.to_owned(), (count, revision));
        }
        seen += 1;
        if seen == ACKNOWLEDGED + round % 10 * 137 {
            victim.kill().unwrap();
        }
    }
    victim.wait().unwrap();
    acknowledged
}

/// Checks what is there against what was acknowledged, and that a watch resumes after `from`; the newest revision.
async fn check(path: &Path, acknowledged: &BTreeMap<String, (u64, u64)>, from: Revision) -> Revision {
    let store = SqliteStore::open(path, SqliteOptions::default()).unwrap();
    let listing = store.list(ListRequest { prefix: "/kill/".into(), ..Default::default() }).await.unwrap();
    assert_eq!(listing.items.len(), WRITERS);
    for kv in &listing.items {
        let (count, revision) = acknowledged[&kv.key];
        let stored = counted(&kv.value);
        assert!(kv.value.ends_with(b"x") && kv.value.len() > 1000, "the value is whole");
        // One write per key may have been durable and not yet acknowledged.
        assert!(stored == count || stored == count + 1, "{}: {stored} stored, {count} acknowledged", kv.key);
        assert!(kv.mod_revision >= Revision(revision));
        assert!(stored != count || kv.mod_revision == Revision(revision), "an acknowledged revision stays");
    }
    let newest = listing.revision;
    let seen = events(&store, from, (newest.0 - from.0) as usize).await;
    let expected = from.0 + 1..=newest.0;
    assert!(
        seen.iter().map(|event| event.revision.0).eq(expected),
        "a watch resumes without gap or duplicate"
    );
    newest
}
