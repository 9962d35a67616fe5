//! The record of node ports: upstream's `RangeAllocation` under `/registry/ranges/servicenodeports`, a bit for each port.
//!
//! All servers of a store write it by compare-and-swap, so that no port is given twice, whichever server is asked. What
//! the record said last is kept, with its revision: one server alone writes once for each change and never reads.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use skep_store::{Expected, KeyValue, Revision, Store, StoreError};

/// Where the record lies, as upstream has it.
pub(crate) const KEY: &str = "/registry/ranges/servicenodeports";

/// So often a change that lost against another server's is made again.
const ATTEMPTS: usize = 64;

/// Some of the ports of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PortSet {
    first: u16,
    last: u16,
    /// Bit `n` of the whole, the least one first, is port `first + n`.
    words: Vec<u64>,
}

impl PortSet {
    /// None of the ports from `first` to `last`.
    pub(super) fn none((first, last): (u16, u16)) -> Self {
        let size = usize::from(last.saturating_sub(first)) + 1;
        Self { first, last, words: vec![0; size.div_ceil(64)] }
    }

    /// Where the bit of a port is, if the port lies in the range.
    fn place(&self, port: u16) -> Option<(usize, u64)> {
        let offset = usize::from(port.checked_sub(self.first)?);
        (port <= self.last).then(|| (offset / 64, 1 << (offset % 64)))
    }

    pub(super) fn covers(&self, port: u16) -> bool {
        self.place(port).is_some()
    }

    pub(super) fn has(&self, port: u16) -> bool {
        self.place(port).is_some_and(|(word, bit)| self.words[word] & bit != 0)
    }

    /// Puts a port in; `false` when it was there, or does not lie in the range.
    pub(super) fn insert(&mut self, port: u16) -> bool {
        let fresh = self.covers(port) && !self.has(port);
        if let Some((word, bit)) = self.place(port) {
            self.words[word] |= bit;
        }
        fresh
    }

    pub(super) fn remove(&mut self, port: u16) {
        if let Some((word, bit)) = self.place(port) {
            self.words[word] &= !bit;
        }
    }

    /// The ports that are in it, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u16> {
        (self.first..=self.last).filter(|port| self.has(*port))
    }

    /// The record as it is stored.
    fn encode(&self) -> Bytes {
        let big_endian: Vec<u8> = self.words.iter().rev().flat_map(|word| word.to_be_bytes()).collect();
        let start = big_endian.iter().position(|byte| *byte != 0).unwrap_or(big_endian.len());
        let record = json!({
            "kind": "RangeAllocation",
            "apiVersion": "v1",
            "metadata": {},
            "range": format!("{}-{}", self.first, self.last),
            "data": STANDARD.encode(&big_endian[start..]),
        });
        record.to_string().into()
    }

    /// Reads a record; the ports of another range than this server's are taken over where they lie in it. What is no
    /// record counts as none: it is made anew from the services.
    fn decode(range: (u16, u16), stored: &[u8]) -> Self {
        let mut set = Self::none(range);
        let Ok(record) = serde_json::from_slice::<Value>(stored) else { return set };
        let first = record["range"].as_str().and_then(|range| range.split_once('-')?.0.parse::<u16>().ok());
        let data = record["data"].as_str().and_then(|data| STANDARD.decode(data).ok());
        let (Some(first), Some(data)) = (first, data) else { return set };
        for (at, byte) in data.iter().rev().enumerate() {
            for bit in (0..8).filter(|bit| byte & (1 << bit) != 0) {
                if let Ok(port) = u16::try_from(usize::from(first) + at * 8 + bit) {
                    set.insert(port);
                }
            }
        }
        set
    }
}

/// What the record said last.
struct Known {
    set: PortSet,
    /// The revision at which it said so; none when there was no record.
    revision: Option<Revision>,
}

/// The record.
pub(crate) struct NodePorts {
    store: Arc<dyn Store>,
    range: (u16, u16),
    known: Mutex<Known>,
    /// Held while the record is being changed, so that the requests of this server do not lose against each other.
    changing: tokio::sync::Mutex<()>,
}

impl NodePorts {
    pub(super) fn new(store: Arc<dyn Store>, range: (u16, u16)) -> Self {
        let known = Mutex::new(Known { set: PortSet::none(range), revision: None });
        Self { store, range, known, changing: tokio::sync::Mutex::default() }
    }

    /// Whether the port was taken when the record was last seen.
    pub(super) fn has(&self, port: u16) -> bool {
        self.known.lock().set.has(port)
    }

    /// Takes ports, all or none; returns one that is not to be had.
    pub(super) async fn take(&self, ports: &[u16]) -> Result<Option<u16>, StoreError> {
        if ports.is_empty() {
            return Ok(None);
        }
        let _changing = self.changing.lock().await;
        // What was last seen may be old: another server may have given the port back since.
        if ports.iter().any(|port| self.has(*port)) {
            self.read().await?;
        }
        let mut refused = None;
        self.change(|set| {
            refused = ports.iter().copied().find(|port| set.has(*port));
            ports.iter().filter(|_| refused.is_none()).for_each(|port| {
                set.insert(*port);
            });
        })
        .await?;
        Ok(refused)
    }

    /// Gives ports back.
    pub(super) async fn give_back(&self, ports: &[u16]) -> Result<(), StoreError> {
        if ports.is_empty() {
            return Ok(());
        }
        let _changing = self.changing.lock().await;
        self.change(|set| ports.iter().for_each(|port| set.remove(*port))).await
    }

    /// Replaces the record by what `rebuild` makes of it. It is called again when another server was faster, and reads
    /// the services only after the record was read.
    pub(super) async fn rebuild<F>(&self, mut rebuild: impl FnMut(PortSet) -> F) -> Result<(), StoreError>
    where
        F: Future<Output = Result<PortSet, StoreError>> + Send,
    {
        let _changing = self.changing.lock().await;
        for _ in 0..ATTEMPTS {
            self.read().await?;
            let found = self.known.lock().set.clone();
            let set = rebuild(found).await?;
            if self.swap(set).await? {
                return Ok(());
            }
        }
        Err(StoreError::Conflict { key: KEY.into(), current: None })
    }

    async fn change(&self, mut edit: impl FnMut(&mut PortSet)) -> Result<(), StoreError> {
        for _ in 0..ATTEMPTS {
            let mut set = self.known.lock().set.clone();
            edit(&mut set);
            if self.swap(set).await? {
                return Ok(());
            }
        }
        Err(StoreError::Conflict { key: KEY.into(), current: None })
    }

    /// Writes the set unless the record has become another; whether it was written, or was there.
    async fn swap(&self, set: PortSet) -> Result<bool, StoreError> {
        let expected = {
            let known = self.known.lock();
            if known.set == set && known.revision.is_some() {
                return Ok(true);
            }
            known.revision.map_or(Expected::Absent, Expected::Revision)
        };
        match self.store.put(KEY, set.encode(), expected, None).await {
            Ok(revision) => {
                *self.known.lock() = Known { set, revision: Some(revision) };
                Ok(true)
            }
            Err(StoreError::Conflict { current, .. }) => {
                self.learn(current);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    async fn read(&self) -> Result<(), StoreError> {
        let (found, _) = self.store.get(KEY).await?;
        self.learn(found);
        Ok(())
    }

    fn learn(&self, found: Option<KeyValue>) {
        let set = found
            .as_ref()
            .map_or_else(|| PortSet::none(self.range), |kv| PortSet::decode(self.range, &kv.value));
        *self.known.lock() = Known { set, revision: found.map(|kv| kv.mod_revision) };
    }
}

#[cfg(test)]
mod tests {
    use skep_store::memory::MemoryStore;

    use super::*;

    const RANGE: (u16, u16) = (30000, 32767);

    #[test]
    fn record_has_upstreams_form() {
        let mut set = PortSet::none(RANGE);
        assert_eq!(serde_json::from_slice::<Value>(&set.encode()).unwrap()["data"], "");
        for port in [30000, 30009] {
            assert!(set.insert(port) && !set.insert(port));
        }
        assert!(!set.insert(29999) && !set.insert(32768));
        // A big-endian number whose bit n is the n-th port.
        let record: Value = serde_json::from_slice(&set.encode()).unwrap();
        assert_eq!((&record["kind"], &record["range"]), (&json!("RangeAllocation"), &json!("30000-32767")));
        assert_eq!(record["data"], STANDARD.encode([2, 1]));
        assert_eq!(PortSet::decode(RANGE, &set.encode()), set);
        // Another range: what lies in both stays.
        let moved = PortSet::decode((30005, 30100), &set.encode());
        assert_eq!(moved.iter().collect::<Vec<_>>(), [30009]);
        assert_eq!(PortSet::decode(RANGE, b"k8s\0...").iter().count(), 0);
    }

    #[tokio::test]
    async fn ports_taken_through_two_servers_are_given_once() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let (one, two) = (NodePorts::new(store.clone(), RANGE), NodePorts::new(store.clone(), RANGE));
        assert_eq!(one.take(&[30001, 30002]).await.unwrap(), None);
        assert_eq!(two.take(&[30003, 30002]).await.unwrap(), Some(30002));
        assert_eq!(two.take(&[30003]).await.unwrap(), None);
        one.give_back(&[30002]).await.unwrap();
        assert!(two.has(30002), "it has not heard of that yet");
        assert_eq!(two.take(&[30002]).await.unwrap(), None);
        let (found, _) = store.get(KEY).await.unwrap();
        let all = PortSet::decode(RANGE, &found.unwrap().value);
        assert_eq!(all.iter().collect::<Vec<_>>(), [30001, 30002, 30003]);
    }

    #[tokio::test]
    async fn one_server_writes_the_record_once_for_each_change() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let ports = NodePorts::new(store.clone(), RANGE);
        for port in 30000..30010 {
            assert_eq!(ports.take(&[port]).await.unwrap(), None);
        }
        ports.give_back(&[30003]).await.unwrap();
        ports.give_back(&[30003]).await.unwrap();
        assert_eq!(store.current_revision().await.unwrap(), Revision(11));
    }
}
