//! The pinned maps, programs and links of a node as rows, read beside a running agent or without one.
//!
//! Owns the reading; what the rows look like is `skep_maps::rows`. Reads only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use aya::programs::loaded_programs;
use skep_maps::Frontend;
use skep_maps::rows::{
    self, AffinityRow, AttachmentRow, BackendRow, FlowRow, MapRow, ProgramRow, ReasonRow, ServiceRow,
    ServiceTotalsRow, VerdictRow,
};

use crate::fill::{self, Fill};
use crate::maps::Maps;
use crate::pins::Pins;
use crate::sys::LinkTarget;
use crate::{Error, attach};

/// A node's pins, opened for reading.
#[derive(Debug)]
pub struct Inspector {
    pins: Pins,
    maps: Maps,
}

/// Everything that is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// By reason.
    pub reasons: Vec<ReasonRow>,
    /// By program and verdict.
    pub verdicts: Vec<VerdictRow>,
    /// By service port.
    pub services: Vec<ServiceTotalsRow>,
}

fn unreadable(error: skep_maps::MapsError) -> Error {
    match error {
        skep_maps::MapsError::Read { map, source } | skep_maps::MapsError::Write { map, source } => {
            Error::Map { map, source }
        }
        other => Error::Map { map: "?", source: std::io::Error::other(other) },
    }
}

impl Inspector {
    /// Opens the pins of a node.
    ///
    /// # Errors
    /// [`Error::Map`] when there are none, or they are another version's.
    pub fn open(pin_root: &Path) -> Result<Self, Error> {
        let pins = Pins::new(pin_root);
        let maps = Maps::open(&pins)?;
        Ok(Self { pins, maps })
    }

    /// The service table.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn services(&self) -> Result<Vec<ServiceRow>, Error> {
        let ranges = self.maps.source_ranges().map_err(unreadable)?;
        Ok(rows::services(&self.maps.services().map_err(unreadable)?, &ranges))
    }

    /// The backends in the slices that services name.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn backends(&self) -> Result<Vec<BackendRow>, Error> {
        let services = self.maps.services().map_err(unreadable)?;
        let states = self.maps.backend_states();
        Ok(rows::backends(&services, |extent| self.maps.slots(extent), &states))
    }

    /// The flow tables; most recently used first.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn flows(&self) -> Result<Vec<FlowRow>, Error> {
        let now = monotonic_nanos();
        let (v4, v6) = self.maps.flows().map_err(unreadable)?;
        let mut found: Vec<FlowRow> = v4.iter().map(|(key, flow)| rows::flow(key, flow, now)).collect();
        found.extend(v6.iter().map(|(key, flow)| rows::flow(key, flow, now)));
        found.sort_by_key(|row| row.idle_millis);
        Ok(found)
    }

    /// The affinity table.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn affinity(&self) -> Result<Vec<AffinityRow>, Error> {
        let services = self.maps.services().map_err(unreadable)?;
        let entries = self.maps.affinity().map_err(unreadable)?;
        Ok(rows::affinity(&entries, &services, &self.maps.backend_states(), monotonic_nanos()))
    }

    /// How full each map is.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn maps(&self) -> Result<Vec<MapRow>, Error> {
        let fills = fill::count(&self.maps).map_err(unreadable)?;
        let row = |fill: Fill| MapRow {
            map: fill.map,
            entries: fill.entries,
            capacity: fill.capacity,
            when_full: if fill.evicts { "evicts" } else { "refuses" },
        };
        Ok(fills.into_iter().map(row).collect())
    }

    /// Numbers of the service ports that have a frontend which `wanted` takes.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn service_ids(&self, wanted: impl Fn(&Frontend) -> bool) -> Result<BTreeSet<u32>, Error> {
        let services = self.maps.services().map_err(unreadable)?;
        Ok(services.iter().filter(|(frontend, _)| wanted(frontend)).map(|(_, value)| value.id).collect())
    }

    /// Counters by reason, by program and verdict, and by service.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn stats(&self) -> Result<Statistics, Error> {
        let totals = self.maps.totals().map_err(unreadable)?;
        let services = self.maps.services().map_err(unreadable)?;
        let mut first = BTreeMap::new();
        for (frontend, value) in &services {
            let shown = first.entry(value.id).or_insert(*frontend);
            *shown = (*shown).min(*frontend);
        }
        let mut by_service = Vec::new();
        for (id, frontend) in first {
            if let Some(totals) = self.maps.service_totals(id).map_err(unreadable)? {
                by_service.push(rows::service_totals(id, frontend.to_string(), &totals));
            }
        }
        Ok(Statistics {
            reasons: rows::reasons(&totals.reasons),
            verdicts: rows::verdicts(&totals.programs),
            services: by_service,
        })
    }

    /// The places where programs are attached through pinned links.
    ///
    /// # Errors
    /// [`Error::BpfFs`].
    pub fn attachments(&self) -> Result<Vec<AttachmentRow>, Error> {
        let mut found = Vec::new();
        for (link, path) in Pins::list(&self.pins.links())? {
            let details = attach::link_at(&path)?;
            let target = match details.target {
                LinkTarget::Interface(0) => "interface gone".to_owned(),
                LinkTarget::Interface(index) => {
                    let name = attach::interface_name(index).unwrap_or_else(|| "elsewhere".to_owned());
                    format!("{name} ({index})")
                }
                LinkTarget::Cgroup(number) => format!("cgroup {number}"),
                LinkTarget::Other => "unknown".to_owned(),
            };
            found.push(AttachmentRow { link, target, program_id: details.program_id });
        }
        Ok(found)
    }

    /// The programs that the links run.
    ///
    /// # Errors
    /// [`Error::BpfFs`].
    pub fn programs(&self) -> Result<Vec<ProgramRow>, Error> {
        let mut links: BTreeMap<u32, usize> = BTreeMap::new();
        for attachment in self.attachments()? {
            *links.entry(attachment.program_id).or_default() += 1;
        }
        let mut found: Vec<ProgramRow> = loaded_programs()
            .filter_map(Result::ok)
            .filter_map(|info| {
                let count = links.get(&info.id())?;
                Some(ProgramRow {
                    program: info.name_as_str().unwrap_or("?").to_owned(),
                    id: info.id(),
                    links: *count,
                    verified_instructions: info.verified_instruction_count(),
                    jited_bytes: info.size_jitted(),
                    runs: info.run_count(),
                    run_nanos: u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX),
                })
            })
            .collect();
        found.sort_by(|one, other| one.program.cmp(&other.program));
        Ok(found)
    }
}

/// `CLOCK_MONOTONIC`, which the programs stamp flows with.
fn monotonic_nanos() -> u64 {
    let clock = nix::time::ClockId::CLOCK_MONOTONIC;
    let now = nix::time::clock_gettime(clock).expect("every kernel has CLOCK_MONOTONIC");
    let (seconds, nanos) = (now.tv_sec(), now.tv_nsec());
    u64::try_from(seconds).unwrap_or(0) * 1_000_000_000 + u64::try_from(nanos).unwrap_or(0)
}
