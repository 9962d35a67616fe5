//! A power cut, simulated on copies of the files: what was not forced to the disk is lost, torn or rubbish.
//!
//! Whatever was acknowledged was forced to the disk, so it must be in every copy; what comes after may be there or not,
//! but only as a whole and in order.

use std::path::Path;

use super::tests::{create, folder, open, update};
use super::{checkpoint, schema};
use crate::{ListRequest, Revision, Store};

const SECTOR: usize = 512;
const KEYS: u64 = 12;
/// So few that nobody copies the log meanwhile.
const WRITES: u64 = 48;

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end.max(1)
    }
}

fn beside(path: &Path, suffix: &str) -> std::path::PathBuf {
    format!("{}{suffix}", path.display()).into()
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

/// The value of write `number`, which says its own revision.
fn value(number: u64) -> Vec<u8> {
    let mut value = format!("{number} ").into_bytes();
    value.resize(300 + (number as usize * 97) % 3000, b'x');
    value
}

/// Writes revisions 1 to [`WRITES`]; what the log was after each was acknowledged.
async fn write(path: &Path) -> (super::SqliteStore, Vec<Vec<u8>>) {
    let store = open(path);
    let mut logs = vec![read(&beside(path, "-wal"))];
    for number in 1..=WRITES {
        let key = format!("/{:02}", number % KEYS);
        let revision = match number <= KEYS {
            true => create(&store, &key, value(number)).await,
            false => update(&store, &key, value(number)).await,
        };
        assert_eq!(revision, Revision(number));
        logs.push(read(&beside(path, "-wal")));
    }
    (store, logs)
}

/// Opens files as they are after the cut: the newest revision, after checking that it holds all up to `acknowledged`.
async fn recovered(data: &[u8], log: &[u8], acknowledged: u64, what: &str) -> u64 {
    let (_folder, path) = folder();
    std::fs::write(&path, data).unwrap();
    std::fs::write(beside(&path, "-wal"), log).unwrap();
    let store = open(&path);
    let listing = store.list(ListRequest { prefix: "/".into(), ..Default::default() }).await.unwrap();
    let newest = listing.revision.0;
    assert!(newest >= acknowledged, "{what}: revision {newest}, {acknowledged} was acknowledged");
    let wanted: Vec<(u64, Vec<u8>)> =
        (newest.saturating_sub(KEYS - 1).max(1)..=newest).map(|n| (n, value(n))).collect();
    let mut found: Vec<(u64, Vec<u8>)> =
        listing.items.into_iter().map(|kv| (kv.mod_revision.0, kv.value.to_vec())).collect();
    found.sort();
    assert!(found == wanted, "{what}: the state at {newest} is not the one that was written");
    assert_eq!(create(&store, "/after", "x").await, Revision(newest + 1), "{what}: writes go on");
    newest
}

#[tokio::test]
async fn power_cut_during_a_commit_loses_at_most_what_was_not_acknowledged() {
    let (_folder, path) = folder();
    let (_store, logs) = write(&path).await;
    let data = read(&path);
    let mut numbers = Numbers(7);
    let mut lost = 0;
    for round in 0..80 {
        let acknowledged = numbers.below(WRITES as usize);
        let (durable, pending) = (&logs[acknowledged], &logs[acknowledged + 1]);
        assert!(pending.starts_with(durable), "the log only grows here");
        let mut log = pending.clone();
        for sector in (durable.len()..log.len()).step_by(SECTOR) {
            let end = (sector + SECTOR).min(log.len());
            match numbers.below(4) {
                0 => log[sector..end].fill(0),
                1 => log[sector..end].fill(0xa5),
                _ => {}
            }
        }
        if round % 3 == 0 {
            log.truncate(durable.len() + numbers.below(pending.len() - durable.len()));
        }
        let newest = recovered(&data, &log, acknowledged as u64, &format!("round {round}")).await;
        assert!(newest <= acknowledged as u64 + 1);
        lost += u64::from(newest == acknowledged as u64);
    }
    assert!(lost > 40, "the cuts do harm: {lost}");
}

#[tokio::test]
async fn power_cut_while_the_log_is_copied_loses_nothing() {
    let (_folder, path) = folder();
    let (_store, logs) = write(&path).await;
    let before = read(&path);
    checkpoint::run(&schema::open_checkpointer(&path).unwrap()).unwrap();
    let after = read(&path);
    assert!(after.len() > before.len(), "the log was copied");
    let log = logs.last().unwrap();
    let mut numbers = Numbers(11);
    for round in 0..40 {
        // Some sectors of the file reached the disk, in any order; others are as they were, or torn.
        let mut data = after[..after.len() - numbers.below(after.len() - before.len())].to_vec();
        for sector in (0..data.len()).step_by(SECTOR) {
            let end = (sector + SECTOR).min(data.len());
            if numbers.below(2) == 0 {
                match before.get(sector..end) {
                    Some(old) => data[sector..end].copy_from_slice(old),
                    None => data[sector..end].fill(0),
                }
            }
        }
        let newest = recovered(&data, log, WRITES, &format!("round {round}")).await;
        assert_eq!(newest, WRITES);
    }
}
