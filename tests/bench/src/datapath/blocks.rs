//! What the kernel's own map costs for work of the kind that the flow tables do: one new entry, with keys and values as
//! large as a flow's, in a map that is full and evicts the least recently used. A connection takes two such.

use std::path::Path;

use anyhow::{Result, ensure};
use nix::net::if_::if_nametoindex;
use skep_abi::flow::{Flow, FlowKey};
use skep_abi::{V4, V6};
use skep_datapath_tests::object::Loaded;
use skep_datapath_tests::packet::ACK;
use skep_datapath_tests::world::Family;

use super::{Bench, RUNS, TABLE, packet, tuple};

/// The programs of `skep-blocks`, loaded.
pub(super) struct Blocks {
    loaded: Loaded,
}

impl Blocks {
    /// Loads them, with maps of as many entries as the flow tables have.
    pub(super) fn load(datapath: &Path) -> Result<Self> {
        let sizes = ["EVICTING_V4", "EVICTING_V6"].map(|map| (map, TABLE));
        let programs = ["insert_v4", "insert_v6"];
        Ok(Self { loaded: Loaded::load_from(&datapath.with_file_name("skep-blocks"), &programs, &sizes)? })
    }

    /// Nanoseconds for one entry.
    pub(super) fn insert(&self, bench: &Bench, family: Family) -> Result<f64> {
        let (program, map) =
            if family == Family::V4 { ("insert_v4", "EVICTING_V4") } else { ("insert_v6", "EVICTING_V6") };
        let frames = [packet(family, tuple(family, 0), ACK)];
        // Such a program has to be attached somewhere too while it is timed.
        let _attached = self.loaded.attach_xdp(program, if_nametoindex("podeth")?)?;
        let fill = 4 * TABLE / RUNS;
        for _ in 0..fill {
            self.loaded.time_xdp(program, bench.world.uplink, &frames[0], RUNS)?;
        }
        let value = bench.sample_of(&self.loaded, program, &frames, || Ok(()))?;
        let there = match family {
            Family::V4 => self.loaded.entries::<FlowKey, Flow<V4>>(map)?.len(),
            Family::V6 => self.loaded.entries::<FlowKey, Flow<V6>>(map)?.len(),
        };
        ensure!(there > TABLE as usize / 2, "{map} has {there} entries, so nothing had to give way");
        Ok(value)
    }
}
