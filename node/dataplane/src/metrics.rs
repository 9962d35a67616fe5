//! What the datapath tells Prometheus, read from the kernel when it is asked for.

use std::sync::Arc;
use std::time::Instant;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{CounterVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use skep_abi::flow::{FLOW_ENTRIES_V4, FLOW_ENTRIES_V6};
use skep_maps::{Dataplane, rows};

use crate::attach::{XdpState, with_sources};
use crate::fill::{self, Sampled};
use crate::kernel::KernelDataplane;

/// Registers the datapath's metrics.
///
/// # Errors
/// A metric of one of the names is registered already.
pub fn register(registry: &Registry, dataplane: Arc<KernelDataplane>) -> prometheus::Result<()> {
    registry.register(Box::new(Datapath {
        dataplane,
        families: Families::new()?,
        sampled: Sampled::default(),
    }))
}

struct Datapath {
    dataplane: Arc<KernelDataplane>,
    families: Families,
    sampled: Sampled,
}

struct Families {
    packets: IntCounterVec,
    bytes: IntCounterVec,
    verdicts: IntCounterVec,
    runs: IntCounterVec,
    run_seconds: CounterVec,
    instructions: IntGaugeVec,
    flows: IntGaugeVec,
    map_entries: IntGaugeVec,
    map_capacity: IntGaugeVec,
    xdp: IntGaugeVec,
}

impl Families {
    fn new() -> prometheus::Result<Self> {
        let counter =
            |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let gauge = |name: &str, help: &str, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels);
        let seconds = Opts::new(
            "skep_datapath_program_run_seconds_total",
            "Time in each program, counted while run statistics are on.",
        );
        Ok(Self {
            packets: counter("skep_datapath_packets_total", "Packets by reason.", &["reason", "class"])?,
            bytes: counter("skep_datapath_bytes_total", "Bytes by reason.", &["reason", "class"])?,
            verdicts: counter(
                "skep_datapath_program_verdicts_total",
                "How the runs of each program ended.",
                &["program", "verdict"],
            )?,
            runs: counter(
                "skep_datapath_program_runs_total",
                "Runs of each program, counted while run statistics are on.",
                &["program"],
            )?,
            run_seconds: CounterVec::new(seconds, &["program"])?,
            instructions: gauge(
                "skep_datapath_program_verified_instructions",
                "Instructions that the verifier walked.",
                &["program"],
            )?,
            flows: gauge(
                "skep_datapath_flows",
                "Entries in the flow tables, two per connection.",
                &["family"],
            )?,
            map_entries: gauge(
                "skep_datapath_map_entries",
                "Entries of each map, counted at most once a minute; what it does when it is full.",
                &["map", "when_full"],
            )?,
            map_capacity: gauge(
                "skep_datapath_map_capacity",
                "Entries that each map has room for.",
                &["map", "when_full"],
            )?,
            xdp: gauge(
                "skep_datapath_uplink_xdp",
                "1 for the way in which XDP runs on an uplink.",
                &["interface", "mode"],
            )?,
        })
    }

    fn each(&self) -> [&dyn Collector; 10] {
        [
            &self.packets,
            &self.bytes,
            &self.verdicts,
            &self.runs,
            &self.run_seconds,
            &self.instructions,
            &self.flows,
            &self.map_entries,
            &self.map_capacity,
            &self.xdp,
        ]
    }
}

impl Datapath {
    fn fill(&self, families: &Families) -> Result<(), skep_maps::MapsError> {
        let totals = self.dataplane.totals()?;
        for row in rows::reasons(&totals.reasons) {
            families.packets.with_label_values(&[row.reason, row.class]).inc_by(row.packets);
            families.bytes.with_label_values(&[row.reason, row.class]).inc_by(row.bytes);
        }
        for row in rows::verdicts(&totals.programs) {
            families.verdicts.with_label_values(&[row.program, row.verdict]).inc_by(row.count);
        }
        for (name, info) in self.dataplane.program_infos() {
            families.runs.with_label_values(&[&name]).inc_by(info.run_count());
            families.run_seconds.with_label_values(&[&name]).inc_by(info.run_time().as_secs_f64());
            if let Some(count) = info.verified_instruction_count() {
                families.instructions.with_label_values(&[&name]).set(i64::from(count));
            }
        }
        for (interface, state) in self.dataplane.uplinks() {
            for (mode, known) in
                [("native", XdpState::Native), ("generic", XdpState::Generic), ("off", XdpState::Off)]
            {
                families.xdp.with_label_values(&[interface.as_str(), mode]).set(i64::from(*state == known));
            }
        }
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for fill in self.sampled.get(Instant::now(), || fill::count(&self.dataplane.maps))? {
            let when_full = if fill.evicts { "evicts" } else { "refuses" };
            families.map_entries.with_label_values(&[fill.map, when_full]).set(number(fill.entries));
            families.map_capacity.with_label_values(&[fill.map, when_full]).set(number(fill.capacity));
            if let Some(family) = [(FLOW_ENTRIES_V4, "IPv4"), (FLOW_ENTRIES_V6, "IPv6")]
                .iter()
                .find(|(map, _)| *map == fill.map)
            {
                families.flows.with_label_values(&[family.1]).set(number(fill.entries));
            }
        }
        Ok(())
    }
}

impl Collector for Datapath {
    fn desc(&self) -> Vec<&Desc> {
        self.families.each().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // Fresh ones each time: the kernel has the totals.
        let Ok(families) = Families::new() else { return Vec::new() };
        if let Err(error) = self.fill(&families) {
            tracing::warn!(error = with_sources(&error), "cannot read the datapath's counters");
        }
        families
            .each()
            .into_iter()
            .flat_map(Collector::collect)
            .filter(|f| !f.get_metric().is_empty())
            .collect()
    }
}
