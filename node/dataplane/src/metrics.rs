//! What the datapath tells Prometheus, read from the kernel when it is asked for.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{CounterVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use skep_maps::{Dataplane, rows};

use crate::attach::{XdpState, with_sources};
use crate::kernel::KernelDataplane;

/// Registers the datapath's metrics.
///
/// # Errors
/// A metric of one of the names is registered already.
pub fn register(registry: &Registry, dataplane: Arc<KernelDataplane>) -> prometheus::Result<()> {
    registry.register(Box::new(Datapath { dataplane, families: Families::new()? }))
}

struct Datapath {
    dataplane: Arc<KernelDataplane>,
    families: Families,
}

struct Families {
    packets: IntCounterVec,
    bytes: IntCounterVec,
    verdicts: IntCounterVec,
    runs: IntCounterVec,
    run_seconds: CounterVec,
    instructions: IntGaugeVec,
    flows: IntGaugeVec,
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
            xdp: gauge(
                "skep_datapath_uplink_xdp",
                "1 for the way in which XDP runs on an uplink.",
                &["interface", "mode"],
            )?,
        })
    }

    fn each(&self) -> [&dyn Collector; 8] {
        [
            &self.packets,
            &self.bytes,
            &self.verdicts,
            &self.runs,
            &self.run_seconds,
            &self.instructions,
            &self.flows,
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
        let (v4, v6) = self.dataplane.maps.flow_counts()?;
        families.flows.with_label_values(&["IPv4"]).set(i64::try_from(v4).unwrap_or(i64::MAX));
        families.flows.with_label_values(&["IPv6"]).set(i64::try_from(v6).unwrap_or(i64::MAX));
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
