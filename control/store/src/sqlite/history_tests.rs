//! Recorded histories of the embedded store: of one process, and of one that is killed again and again.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::tests::{folder, open};
use super::{SqliteOptions, SqliteStore};
use crate::feed::FeedBounds;
use crate::histories::record::Line;
use crate::histories::{self, Load, Outcome, Recorder, Watched};
use crate::{Revision, Store};

const LOAD: Load = Load { clients: 8, keys: 3, each: 150, pause: Duration::ZERO, seed: 2 };

/// Set in the process that will be killed: its data file, and the first number that is free.
const VICTIM: &str = "SKEP_STORE_HISTORY_TEST_FILE";
const FIRST: &str = "SKEP_STORE_HISTORY_TEST_FIRST";
const ROUNDS: u64 = 8;
/// Answers to wait for before each kill.
const ANSWERS: usize = 150;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn recorded_history_is_linearizable() {
    let (_folder, path) = folder();
    histories::run_and_check(Arc::new(open(&path)), LOAD).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn recorded_history_with_a_short_feed_is_linearizable() {
    let (_folder, path) = folder();
    let bounds = FeedBounds { events: 3, bytes: 1 << 20 };
    let options = SqliteOptions { batch: 3, readers: 2, ..SqliteOptions::default() };
    let store = SqliteStore::open_with(&path, options, bounds).unwrap();
    histories::run_and_check(Arc::new(store), Load { seed: 3, ..LOAD }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_history_of_a_killed_process_is_linearizable() {
    if let Ok(path) = std::env::var(VICTIM) {
        contend_until_killed(Path::new(&path)).await;
    }
    let (_folder, path) = folder();
    let mut lines = Vec::new();
    for round in 0..ROUNDS {
        let more = run_victim(&path, 1 + round * 1_000_000);
        assert!(more.iter().any(|line| matches!(line, Line::Answer { outcome: Outcome::Done(_), .. })));
        lines.extend(more);
        lines.push(Line::Dead);
    }
    let store = open(&path);
    let operations = histories::operations(&lines);
    assert!(operations.iter().any(|one| one.outcome == Outcome::Unknown), "the kills came in the middle");
    let watched = Watched::start(&store, Revision(0)).await;
    histories::judge(&store, &operations, watched, Revision(0)).await;
    drop(store);
}

async fn contend_until_killed(path: &Path) -> ! {
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let store: Arc<dyn Store> = Arc::new(open(path));
    let load = Load { each: usize::MAX, seed: first, ..LOAD };
    histories::run(store, Arc::new(Recorder::printed(first)), load).await;
    unreachable!("the clients do not end");
}

/// Starts the victim, kills it in the middle of its work, and returns what it wrote down.
fn run_victim(path: &Path, first: u64) -> Vec<Line> {
    let test = "sqlite::history_tests::recorded_history_of_a_killed_process_is_linearizable";
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(VICTIM, path)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let (mut written, mut answers) = (Vec::new(), 0);
    // What was written before the kill but is read after it counts as well.
    for text in BufReader::new(victim.stdout.take().unwrap()).lines() {
        let Some(line) = histories::parse(&text.unwrap()) else { continue };
        answers += usize::from(matches!(line, Line::Answer { .. }));
        written.push(line);
        if answers == ANSWERS {
            victim.kill().unwrap();
        }
    }
    victim.wait().unwrap();
    written
}
