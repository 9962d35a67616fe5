//! The shipped object, loaded by libbpf or by aya, and its maps by name. Owns how packets are put through a program.
//!
//! libbpf loads it unless `SKEP_TEST_LOADER` says `aya`: the tables are for both, so the tests run once with each.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use libbpf_rs::{
    Link, MapCore as _, MapFlags, MapHandle, Object, ObjectBuilder, OpenObject, ProgramInput, ProgramMut,
};
use skep_abi::counters::{COUNTERS, Counter, REASONS};
use skep_abi::{Plain, bytes_of, from_bytes};

use crate::with_aya::WithAya;

/// Where the object is: `SKEP_EBPF_OBJECT`, or where `cargo xtask build-ebpf` puts it.
pub fn path() -> PathBuf {
    std::env::var_os("SKEP_EBPF_OBJECT").map_or_else(
        || {
            PathBuf::from(env!("CARGO_MANIFEST_DIR"))
                .join("../../ebpf/programs/target/bpfel-unknown-none/release/skep-programs")
        },
        PathBuf::from,
    )
}

/// What came of one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The program's return value.
    pub action: u32,
    /// The packet as the program left it.
    pub frame: Vec<u8>,
}

/// The loaded object.
pub struct Loaded {
    programs: Programs,
    maps: BTreeMap<String, MapHandle>,
}

/// Who loaded it, and so has its programs.
enum Programs {
    Libbpf(Object),
    Aya(Box<WithAya>),
}

/// Whether aya is to load the object.
fn by_aya() -> bool {
    std::env::var("SKEP_TEST_LOADER").is_ok_and(|loader| loader == "aya")
}

impl Loaded {
    /// Loads the object at [`path`] with only the named programs (all when empty) and the capacities in `sizes` instead of
    /// the object's.
    ///
    /// # Errors
    ///
    /// libbpf's, or the kernel's refusal of a program.
    pub fn load(programs: &[&str], sizes: &[(&str, u32)]) -> Result<Self> {
        if by_aya() {
            let (loaded, maps) = WithAya::load(&path(), programs, sizes)?;
            return Ok(Self { programs: Programs::Aya(Box::new(loaded)), maps });
        }
        Self::load_from(&path(), programs, sizes)
    }

    /// As [`Loaded::load`], from another place and by libbpf.
    ///
    /// # Errors
    ///
    /// libbpf's, or the kernel's refusal of a program.
    pub fn load_from(path: &Path, programs: &[&str], sizes: &[(&str, u32)]) -> Result<Self> {
        let mut open = ObjectBuilder::default()
            .open_file(path)
            .with_context(|| format!("{}: run `cargo xtask build-ebpf` first", path.display()))?;
        for mut program in open.progs_mut() {
            let wanted = programs.is_empty() || programs.iter().any(|name| program.name() == *name);
            program.set_autoload(wanted);
        }
        for mut map in open.maps_mut() {
            if let Some((_, size)) = sizes.iter().find(|(name, _)| map.name() == *name) {
                map.set_max_entries(*size)?;
            }
        }
        Self::finish(open)
    }

    fn finish(open: OpenObject) -> Result<Self> {
        let object = open.load()?;
        let maps = object
            .maps()
            .map(|map| Ok((map.name().to_string_lossy().into_owned(), MapHandle::try_from(&map)?)))
            .collect::<Result<_>>()?;
        Ok(Self { programs: Programs::Libbpf(object), maps })
    }

    /// The same maps with another copy of one program, for another thread.
    ///
    /// # Errors
    ///
    /// As for [`Loaded::load_from`].
    pub fn beside(&self, path: &Path, program: &str) -> Result<Self> {
        let mut open = ObjectBuilder::default().open_file(path)?;
        for mut other in open.progs_mut() {
            let wanted = other.name() == program;
            other.set_autoload(wanted);
        }
        for mut map in open.maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            map.reuse_fd(self.map(&name)?.as_fd())?;
        }
        Self::finish(open)
    }

    /// Names of all programs in the object.
    pub fn program_names(&self) -> Vec<String> {
        match &self.programs {
            Programs::Libbpf(object) => {
                object.progs().map(|program| program.name().to_string_lossy().into_owned()).collect()
            }
            Programs::Aya(loaded) => loaded.program_names(),
        }
    }

    pub(crate) fn map(&self, name: &str) -> Result<&MapHandle> {
        self.maps.get(name).ok_or_else(|| anyhow!("no map {name}"))
    }

    /// For what only libbpf is used for.
    fn program(&self, name: &str) -> Result<ProgramMut<'_>> {
        let Programs::Libbpf(object) = &self.programs else { bail!("aya has program {name}") };
        object.progs_mut().find(|program| program.name() == name).ok_or_else(|| anyhow!("no program {name}"))
    }

    /// Writes an entry.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn set<K: Plain, V: Plain>(&self, map: &str, key: &K, value: &V) -> Result<()> {
        let result = self.map(map)?.update(bytes_of(key), bytes_of(value), MapFlags::ANY);
        result.with_context(|| format!("writing {map}"))
    }

    /// Reads an entry.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn get<K: Plain, V: Plain>(&self, map: &str, key: &K) -> Result<Option<V>> {
        let found = self.map(map)?.lookup(bytes_of(key), MapFlags::ANY)?;
        Ok(found.and_then(|bytes| from_bytes(&bytes)))
    }

    /// Every entry of a hash map.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn entries<K: Plain, V: Plain>(&self, map: &str) -> Result<Vec<(K, V)>> {
        let map = self.map(map)?;
        let mut entries = Vec::new();
        for key in map.keys() {
            if let Some(value) = map.lookup(&key, MapFlags::ANY)? {
                let key = from_bytes(&key).context("a key of another size")?;
                entries.push((key, from_bytes(&value).context("a value of another size")?));
            }
        }
        Ok(entries)
    }

    /// Removes an entry.
    ///
    /// # Errors
    ///
    /// The kernel's, that there is none above all.
    pub fn remove<K: Plain>(&self, map: &str, key: &K) -> Result<()> {
        self.map(map)?.delete(bytes_of(key)).with_context(|| format!("removing from {map}"))
    }

    /// Removes every entry of a hash map.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn clear(&self, name: &str) -> Result<()> {
        let map = self.map(name)?;
        for key in map.keys().collect::<Vec<_>>() {
            map.delete(&key)?;
        }
        Ok(())
    }

    /// Packets counted by reason, those at zero left out.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn counters(&self) -> Result<BTreeMap<&'static str, u64>> {
        let map = self.map(COUNTERS)?;
        let mut counters = BTreeMap::new();
        for (reason, name, _) in REASONS {
            let copies = map.lookup_percpu(&reason.index().to_ne_bytes(), MapFlags::ANY)?.unwrap_or_default();
            let packets: u64 = copies
                .iter()
                .filter_map(|copy| from_bytes::<Counter>(copy))
                .map(|counter| counter.packets)
                .sum();
            if packets > 0 {
                counters.insert(*name, packets);
            }
        }
        Ok(counters)
    }

    /// Sums up one entry of a per-CPU array, field by field of 64 bits.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn totals(&self, name: &str, index: u32) -> Result<Vec<u64>> {
        let copies = self.map(name)?.lookup_percpu(&index.to_ne_bytes(), MapFlags::ANY)?.unwrap_or_default();
        let mut totals = Vec::new();
        for copy in copies {
            for (at, word) in copy.chunks_exact(8).enumerate() {
                let word = u64::from_ne_bytes(word.try_into().expect("chunks are 8 bytes"));
                match totals.get_mut(at) {
                    Some(total) => *total += word,
                    None => totals.push(word),
                }
            }
        }
        Ok(totals)
    }

    /// Puts a packet that arrived on `ifindex` through an XDP program.
    ///
    /// # Errors
    ///
    /// The kernel's: the packet is shorter than an Ethernet header, or there is no such interface.
    pub fn run_xdp(&self, program: &str, ifindex: u32, frame: &[u8]) -> Result<Run> {
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let mut context = [0_u8; 24];
        context[4..8].copy_from_slice(&(frame.len() as u32).to_ne_bytes());
        context[12..16].copy_from_slice(&ifindex.to_ne_bytes());
        self.run(program, &mut context, frame)
    }

    /// Attaches an XDP program to an interface for as long as the link lives. Timing a program that is attached nowhere
    /// makes the kernel rewrite and wait, before and after each call, for its table of direct calls to XDP programs.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn attach_xdp(&self, program: &str, ifindex: u32) -> Result<Link> {
        let link = self.program(program)?.attach_xdp(i32::try_from(ifindex)?);
        link.with_context(|| format!("attaching {program}"))
    }

    /// Puts one packet through an XDP program `repeat` times, each time as the run before left it. Returns how long a run
    /// took on average, to the kernel's full nanosecond.
    ///
    /// # Errors
    ///
    /// As for [`Loaded::run_xdp`].
    pub fn time_xdp(&self, program: &str, ifindex: u32, frame: &[u8], repeat: u32) -> Result<Duration> {
        let mut context = [0_u8; 24];
        context[4..8].copy_from_slice(&(frame.len() as u32).to_ne_bytes());
        context[12..16].copy_from_slice(&ifindex.to_ne_bytes());
        let input = ProgramInput {
            context_in: Some(&mut context),
            data_in: Some(frame),
            repeat,
            ..Default::default()
        };
        Ok(self.program(program)?.test_run(input).with_context(|| format!("timing {program}"))?.duration)
    }

    /// Puts a packet on interface `ifindex` through a TC program.
    ///
    /// # Errors
    ///
    /// As for [`Loaded::run_xdp`].
    pub fn run_tc(&self, program: &str, ifindex: u32, frame: &[u8]) -> Result<Run> {
        // struct __sk_buff, of which only the interface (at 40) is given.
        let mut context = [0_u8; 192];
        context[40..44].copy_from_slice(&ifindex.to_ne_bytes());
        self.run(program, &mut context, frame)
    }

    fn run(&self, program: &str, context: &mut [u8], frame: &[u8]) -> Result<Run> {
        let mut out = vec![0; frame.len() + 256];
        let length = out.len();
        let mut context_out = vec![0; context.len()];
        if let Programs::Aya(loaded) = &self.programs {
            let (action, written) = loaded.run(program, context, &mut context_out, frame, &mut out)?;
            out.truncate(written);
            return Ok(Run { action, frame: out });
        }
        let input = ProgramInput {
            context_in: Some(context),
            context_out: Some(&mut context_out),
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..Default::default()
        };
        let output = self.program(program)?.test_run(input).with_context(|| format!("running {program}"))?;
        let written = output.data.map_or(0, |data| data.len());
        if written > length {
            bail!("{program} left {written} bytes");
        }
        let action = output.return_value;
        out.truncate(written);
        Ok(Run { action, frame: out })
    }
}
