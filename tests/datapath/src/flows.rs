//! The tables of flows as maps from keys to entries: what tests and benchmarks read of them and write into them while no
//! program runs. Owns the rules of [`skep_abi::sets`] on this side, without its steps for several writers.

use anyhow::{Context as _, Result, bail};
use libbpf_rs::{MapCore as _, MapFlags};
use skep_abi::config::{CONFIG, Config};
use skep_abi::flow::{Flow, FlowAddress, FlowKey};
use skep_abi::sets::{self, CLASS_IN_USE, FREE, FlowSet, WAYS};
use skep_abi::{Plain, V4, V6, from_bytes};

use crate::object::Loaded;

impl Loaded {
    fn config(&self) -> Result<Config> {
        self.get(CONFIG, &0_u32)?.context("there are settings")
    }

    /// How many entries an array has.
    ///
    /// # Errors
    ///
    /// There is no such map.
    pub fn capacity(&self, map: &str) -> Result<u32> {
        Ok(self.map(map)?.max_entries())
    }

    fn tag(&self, key: &FlowKey) -> Result<u64> {
        let [pair, rest] = sets::numbers(key);
        Ok(sets::tag(self.config()?.seed, pair, rest))
    }

    /// The number of a key's entry, and the set with its word.
    fn find<A: FlowAddress>(&self, key: &FlowKey) -> Result<Option<(u32, FlowSet)>> {
        let tag = self.tag(key)?;
        for set in sets::sets(tag, self.capacity(A::SETS)?) {
            let words: FlowSet = self.get(A::SETS, &set)?.context("the set is one of the array's")?;
            if let Some(way) = words.find(tag) {
                return Ok(Some((sets::entry(set, way), words)));
            }
        }
        Ok(None)
    }

    /// A flow.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn flow<A: FlowAddress>(&self, key: &FlowKey) -> Result<Option<Flow<A>>>
    where
        Flow<A>: Plain,
    {
        match self.find::<A>(key)? {
            Some((entry, _)) => self.get(A::ENTRIES, &entry),
            None => Ok(None),
        }
    }

    /// Every flow of a family.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn flows<A: FlowAddress>(&self) -> Result<Vec<(FlowKey, Flow<A>)>>
    where
        Flow<A>: Plain,
    {
        let (seed, sets) = (self.config()?.seed, self.map(A::SETS)?);
        let mut found = Vec::new();
        for row in sets.lookup_batch(1 << 12, MapFlags::ANY, MapFlags::ANY)? {
            let (index, words) = row;
            let index: u32 = from_bytes(&index).context("an index")?;
            let words: FlowSet = from_bytes(&words).context("a set")?;
            for (way, _) in (0..WAYS).zip(words.words).filter(|(_, word)| *word != FREE) {
                let flow: Flow<A> = self.get(A::ENTRIES, &sets::entry(index, way))?.context("an entry")?;
                found.push((flow.key(seed), flow));
            }
        }
        Ok(found)
    }

    /// Writes a flow over that of its key, or into a free place.
    ///
    /// # Errors
    ///
    /// The kernel's, or there is no free place.
    pub fn set_flow<A: FlowAddress>(&self, flow: &Flow<A>) -> Result<()>
    where
        Flow<A>: Plain,
    {
        let key = flow.key(self.config()?.seed);
        if let Some((entry, _)) = self.find::<A>(&key)? {
            return self.set(A::ENTRIES, &entry, flow);
        }
        let tag = self.tag(&key)?;
        for (set, way) in sets::places(tag, self.capacity(A::SETS)?) {
            let mut words: FlowSet = self.get(A::SETS, &set)?.context("the set is one of the array's")?;
            if words.words[way as usize] == FREE {
                words.words[way as usize] = sets::word(tag, CLASS_IN_USE, 0);
                self.set(A::ENTRIES, &sets::entry(set, way), flow)?;
                return self.set(A::SETS, &set, &words);
            }
        }
        bail!("no free place for {key:?}")
    }

    /// Removes a flow. Says whether there was one.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn remove_flow<A: FlowAddress>(&self, key: &FlowKey) -> Result<bool> {
        let Some((entry, mut words)) = self.find::<A>(key)? else { return Ok(false) };
        words.words[(entry % WAYS) as usize] = FREE;
        self.set(A::SETS, &(entry / WAYS), &words)?;
        Ok(true)
    }

    /// Removes all flows of both families.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn clear_flows(&self) -> Result<()> {
        for name in [V4::SETS, V6::SETS] {
            let count = self.capacity(name)?;
            let keys: Vec<u8> = (0..count).flat_map(u32::to_ne_bytes).collect();
            let values = vec![0; keys.len() / 4 * size_of::<FlowSet>()];
            self.map(name)?.update_batch(&keys, &values, count, MapFlags::ANY, MapFlags::ANY)?;
        }
        Ok(())
    }
}
