//! The object as aya loads it. Owns nothing but the loading and the run: the maps are given away by name.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use aya::maps::Map;
use aya::programs::{Program, TestRun as _, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use libbpf_rs::MapHandle;

/// The loaded object.
pub struct WithAya {
    object: Ebpf,
}

impl WithAya {
    /// Loads the object with only the named programs (all when empty) and the capacities in `sizes` instead of the
    /// object's. Returns the maps beside it.
    ///
    /// # Errors
    ///
    /// aya's, or the kernel's refusal of a program.
    pub fn load(
        path: &Path,
        programs: &[&str],
        sizes: &[(&str, u32)],
    ) -> Result<(Self, BTreeMap<String, MapHandle>)> {
        let bytes = std::fs::read(path)
            .with_context(|| format!("{}: run `cargo xtask build-ebpf` first", path.display()))?;
        let mut loader = EbpfLoader::new();
        for (name, size) in sizes {
            loader.map_max_entries(name, *size);
        }
        let mut object = loader.load(&bytes)?;
        for (name, program) in object.programs_mut() {
            if programs.is_empty() || programs.contains(&name) {
                load(program).with_context(|| format!("loading {name}"))?;
            }
        }
        let maps = object
            .maps()
            .map(|(name, map)| Ok((name.to_owned(), MapHandle::from_map_id(id(map)?)?)))
            .collect::<Result<_>>()?;
        Ok((Self { object }, maps))
    }

    /// Names of all programs in the object.
    pub fn program_names(&self) -> Vec<String> {
        self.object.programs().map(|(name, _)| name.to_owned()).collect()
    }

    /// Puts a packet through a program. Returns what that said, and the length of what it left in `out`.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn run(
        &self,
        program: &str,
        context: &[u8],
        context_out: &mut [u8],
        frame: &[u8],
        out: &mut [u8],
    ) -> Result<(u32, usize)> {
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(out),
            ctx_in: Some(context),
            ctx_out: Some(context_out),
            ..TestRunOptions::default()
        };
        let result = match self.object.program(program).with_context(|| format!("no program {program}"))? {
            Program::Xdp(program) => program.test_run(options),
            Program::SchedClassifier(program) => program.test_run(options),
            _ => bail!("{program} takes no packets"),
        };
        let result = result.with_context(|| format!("running {program}"))?;
        Ok((result.return_value, result.data_size_out as usize))
    }
}

fn load(program: &mut Program) -> Result<()> {
    match program {
        Program::Xdp(program) => program.load()?,
        Program::SchedClassifier(program) => program.load()?,
        Program::CgroupSockAddr(program) => program.load()?,
        _ => bail!("of a kind that is not used"),
    }
    Ok(())
}

fn id(map: &Map) -> Result<u32> {
    let data = match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LpmTrie(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::RingBuf(data) => data,
        _ => bail!("of a kind that is not used"),
    };
    Ok(data.info()?.id())
}
