//! What the XDP program costs per packet, beside a program that only returns a verdict, in the same loop and run.
//!
//! The kernel's test run measures: it puts one packet through a program many times and divides. It does not restore the
//! packet in between, so a program that rewrites measures something else from the second run on, unless what it leaves
//! is again what is to be measured. So the tables here are made to lead in circles:
//!
//! - *known flows*: each flow's translated tuple is the tuple of another one, all of them in one circle of random order.
//!   Every run finds a known flow, and one that is elsewhere in memory than the last.
//! - *new flow, full table*: each service's backend is the frontend of the next service, and the translated source is
//!   drawn from 64,000 ports. Every run makes a new flow, half-open as after any SYN, and the table of 65,536 entries has
//!   long been full of such.
//!   Beside it, in the same run: one entry of that size into the kernel's own map that evicts, of which such a program would
//!   need two.
//! - *refused flow, full table*: the same table, its entries made those of established connections.
//!
//! Both are sent back out and so lose a hop per run, which bounds a round to 250 runs.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::seq::SliceRandom as _;
use skep_abi::backend::{STATE_ACTIVE, STATE_DRAINING};
use skep_abi::config::{CONFIG, Config};
use skep_abi::flow::{
    EGRESS_REMOTE, FLOW_ENTRIES_V4, FLOW_ENTRIES_V6, FLOW_HALF_OPEN, FLOW_REPLY, Flow, FlowAddress,
    STATE_ESTABLISHED, TICK_SHIFT,
};
use skep_abi::sets::{CLASS_IN_USE, FLOW_SETS_V4, FLOW_SETS_V6, FREE, FlowSet, WAYS};
use skep_abi::{Be16, Plain, TCP, V4, V6};
use skep_datapath_tests::object::Loaded;
use skep_datapath_tests::packet::{ACK, Packet, SYN};
use skep_datapath_tests::world::{Family, NODE_MAC, OTHER_MAC, Service, World, set_state, v4, v6};
use skep_logic::Ipv6;
use skep_logic::checksum::Delta;

use crate::{Context, Figure};
use blocks::Blocks;

mod blocks;
mod flood;

/// Runs per round: less than a packet's 255 hops.
const RUNS: u32 = 250;
/// Rounds per sample; the median of [`SAMPLES`] samples is the figure.
const ROUNDS: usize = 200;
const SAMPLES: usize = 9;
/// Entries of the flow tables.
const TABLE: u32 = 1 << 16;
/// Frontends that lead to each other.
const FRONTENDS: u16 = 64;
/// The backend id that all flows in a circle have.
const BACKEND: u32 = 1;

/// Measures.
pub fn run(context: &Context) -> Result<Vec<Figure>> {
    let object = context.ebpf_object.clone();
    // A thread of its own: it enters a network namespace.
    let measured = std::thread::spawn(move || -> Result<Vec<Figure>> {
        let sets = [FLOW_SETS_V4, FLOW_SETS_V6].map(|map| (map, TABLE / WAYS));
        let sizes = [sets, [FLOW_ENTRIES_V4, FLOW_ENTRIES_V6].map(|map| (map, TABLE))].concat();
        let loaded = Loaded::load_from(&object, &["xdp_uplink", "xdp_pass"], &sizes)?;
        let world = World::enter()?;
        let config = world.configure(&loaded)?;
        set_state(&loaded, BACKEND, STATE_ACTIVE, 1)?;
        let _uplink = loaded.attach_xdp("xdp_uplink", world.uplink)?;
        let _pod = loaded.attach_xdp("xdp_pass", world.pod)?;
        let bench = Bench { loaded, world, config };
        let mut figures = bench.figures(&Blocks::load(&object)?)?;
        for family in Family::ALL {
            figures.extend(bench.under_flood(family, &object)?);
        }
        Ok(figures)
    });
    measured.join().map_err(|_| anyhow::anyhow!("the measuring thread panicked"))?
}

struct Bench {
    loaded: Loaded,
    world: World,
    config: Config,
}

impl Bench {
    fn figures(&self, blocks: &Blocks) -> Result<Vec<Figure>> {
        let mut figures = Vec::new();
        for (family, name) in [(Family::V4, "ipv4"), (Family::V6, "ipv6")] {
            let base = self.baseline(family)?;
            let mut beside = |what: &str, value: f64, baseline: &str, base: f64| {
                let baseline = Some((baseline.to_owned(), base));
                figures.push(Figure { name: format!("datapath/{what}/{name}"), value, unit: "ns", baseline });
            };
            let insert = blocks.insert(self, family)?;
            beside("one-entry-kernels-evicting-map", insert, "bare XDP verdict", base);
            let new = self.new_flows(family)?;
            beside("new-flow-full-table", new, "two entries into the kernel's evicting map", 2.0 * insert);
            beside("refused-flow-full-table", self.refused(family)?, "bare XDP verdict", base);
            let mut add = |what: &str, value: f64| beside(what, value, "bare XDP verdict", base);
            add("not-for-us", self.not_for_us(family)?);
            for (count, what) in [(2, "known-flow"), (1 << 10, "known-flow-1k"), (1 << 15, "known-flow-32k")]
            {
                add(what, self.known(family, count).with_context(|| format!("{what} {name}"))?);
            }
        }
        Ok(figures)
    }

    /// Nanoseconds per run: the median over samples, each a mean over rounds that start from the given frames in turn.
    fn sample(&self, program: &str, frames: &[Vec<u8>], before: impl FnMut() -> Result<()>) -> Result<f64> {
        self.sample_of(&self.loaded, program, frames, before)
    }

    /// As [`Bench::sample`], for a program of another object.
    fn sample_of(
        &self,
        loaded: &Loaded,
        program: &str,
        frames: &[Vec<u8>],
        mut before: impl FnMut() -> Result<()>,
    ) -> Result<f64> {
        let mut samples = Vec::new();
        for _ in 0..SAMPLES {
            before()?;
            let mut total = Duration::ZERO;
            for round in 0..ROUNDS {
                let frame = &frames[round % frames.len()];
                // The kernel reports whole nanoseconds per run; the rounding of many rounds evens out.
                total += loaded.time_xdp(program, self.world.uplink, frame, RUNS)?;
            }
            samples.push(total.as_nanos() as f64 / ROUNDS as f64);
        }
        samples.sort_by(f64::total_cmp);
        Ok(samples[SAMPLES / 2] + 0.5)
    }

    fn baseline(&self, family: Family) -> Result<f64> {
        let frame = packet(family, tuple(family, 0), ACK);
        self.sample("xdp_pass", &[frame], || Ok(()))
    }

    fn not_for_us(&self, family: Family) -> Result<f64> {
        let frame = packet(
            family,
            (SocketAddr::new(family.client(), 40000), SocketAddr::new(family.node(), 22)),
            ACK,
        );
        self.sample("xdp_uplink", &[frame], || Ok(()))
    }

    fn known(&self, family: Family, count: u32) -> Result<f64> {
        let circle = Circle::new(family, count);
        let before = self.loaded.counters()?;
        let value = self.sample("xdp_uplink", &circle.frames, || self.write_circle(&circle))?;
        let mut after = self.loaded.counters()?;
        after.retain(|name, count| {
            before.get(name) != Some(count) && !["hop_resolved", "flow_repaired"].contains(name)
        });
        ensure!(after.is_empty(), "not only known flows were met: {after:?}");
        Ok(value)
    }

    /// Writes the flows of a circle, and no other.
    fn write_circle(&self, circle: &Circle) -> Result<()> {
        self.loaded.clear_flows()?;
        let order = &circle.order;
        for (at, next) in order.iter().zip(order.iter().cycle().skip(1)) {
            self.write_flow(circle.family, tuple(circle.family, *at), tuple(circle.family, *next))?;
        }
        Ok(())
    }

    /// A flow from one tuple to another, as the programs leave it after its first packet.
    fn write_flow(&self, family: Family, from: Tuple, to: Tuple) -> Result<()> {
        match family {
            Family::V4 => {
                let ends = [from.0, from.1, to.0, to.1].map(|end| v4(end.ip()));
                self.loaded.set_flow::<V4>(&self.flow(ends, from, to)?)
            }
            Family::V6 => {
                let ends = [from.0, from.1, to.0, to.1].map(|end| v6(end.ip()));
                let flow = self.flow(ends, from, to)?;
                let change = Delta::addresses::<Ipv6>(&flow).ports(&flow).fold32();
                self.loaded.set_flow::<V6>(&Flow { change, ..flow })
            }
        }
    }

    fn flow<A: Default>(
        &self,
        [source, destination, new_source, new_destination]: [A; 4],
        from: Tuple,
        to: Tuple,
    ) -> Result<Flow<A>> {
        let now = clock()?;
        Ok(Flow {
            source,
            destination,
            new_source,
            new_destination,
            source_port: Be16::new(from.0.port()),
            destination_port: Be16::new(from.1.port()),
            new_source_port: Be16::new(to.0.port()),
            new_destination_port: Be16::new(to.1.port()),
            ifindex: self.world.uplink,
            destination_mac: OTHER_MAC,
            source_mac: NODE_MAC,
            epoch: self.config.epoch,
            backend: BACKEND,
            generation: 1,
            service: 1,
            last_seen: now,
            // The upkeep of about once a second is left out: it is not what is measured, and these flows have no partners.
            checked: now,
            state: STATE_ESTABLISHED,
            flags: FLOW_REPLY,
            egress: EGRESS_REMOTE,
            protocol: TCP,
            ..Flow::default()
        })
    }

    /// A SYN that a table full of connections in use refuses.
    fn refused(&self, family: Family) -> Result<f64> {
        let client = |at: u16| SocketAddr::new(family.client(), 10_000 + at);
        let front = SocketAddr::new(family.remote_pod(), 100);
        let frames: Vec<Vec<u8>> =
            (0..ROUNDS as u16).map(|at| packet(family, (client(at), front), SYN)).collect();
        match family {
            Family::V4 => self.prove::<V4>()?,
            Family::V6 => self.prove::<V6>()?,
        }
        let refused =
            || Ok::<u64, anyhow::Error>(self.loaded.counters()?.get("flow_table_full").copied().unwrap_or(0));
        let before = refused()?;
        let value = self.sample("xdp_uplink", &frames, || Ok(()))?;
        let share = (refused()? - before) as f64 / (SAMPLES * ROUNDS) as f64 / f64::from(RUNS);
        ensure!(share > 0.9, "only {:.1} % of the packets were refused", share * 100.0);
        Ok(value)
    }

    /// Has every flow of a full table be one of an established connection.
    fn prove<A: FlowAddress>(&self) -> Result<()>
    where
        Flow<A>: Plain,
    {
        for set in 0..self.loaded.capacity(A::SETS)? {
            let mut words: FlowSet = self.loaded.get(A::SETS, &set)?.context("a set")?;
            for word in words.words.iter_mut().filter(|word| **word != FREE) {
                *word = *word & !0xff | CLASS_IN_USE << 6;
            }
            self.loaded.set(A::SETS, &set, &words)?;
        }
        for entry in 0..self.loaded.capacity(A::ENTRIES)? {
            let flow: Flow<A> = self.loaded.get(A::ENTRIES, &entry)?.context("an entry")?;
            let flow = Flow { state: STATE_ESTABLISHED, flags: flow.flags & !FLOW_HALF_OPEN, ..flow };
            self.loaded.set(A::ENTRIES, &entry, &flow)?;
        }
        Ok(())
    }

    fn new_flows(&self, family: Family) -> Result<f64> {
        let config = Config { snat_first: Be16::new(1024), ..self.config };
        self.loaded.set(CONFIG, &0_u32, &config)?;
        let frontend = |at: u16| SocketAddr::new(family.remote_pod(), 100 + at % FRONTENDS);
        for at in 0..FRONTENDS {
            let service = Service::external(frontend(at), TCP, &[frontend(at + 1)]);
            let id = 2 + u32::from(at);
            Service { id, slice: id * 1000, ..service }.write(&self.loaded)?;
            // A SYN of a flow whose backend is leaving makes a new flow: one that meets an older circle does not follow it.
            set_state(&self.loaded, id * 1000, STATE_DRAINING, 1)?;
        }
        let client = |at: u16| SocketAddr::new(family.client(), 10_000 + at);
        let frames: Vec<Vec<u8>> =
            (0..ROUNDS as u16).map(|at| packet(family, (client(at), frontend(at)), SYN)).collect();
        // Fills the table.
        self.sample("xdp_uplink", &frames, || Ok(()))?;
        let made =
            || Ok::<u64, anyhow::Error>(self.loaded.counters()?.get("flow_created").copied().unwrap_or(0));
        let before = made()?;
        let value = self.sample("xdp_uplink", &frames, || Ok(()))?;
        let share = (made()? - before) as f64 / (SAMPLES * ROUNDS) as f64 / f64::from(RUNS);
        self.loaded.set(CONFIG, &0_u32, &self.config)?;
        ensure!(share > 0.97, "only {:.1} % of the packets made a flow", share * 100.0);
        Ok(value)
    }
}

/// Known flows that lead to each other, and packets of some of them.
struct Circle {
    family: Family,
    order: Vec<u32>,
    frames: Vec<Vec<u8>>,
}

impl Circle {
    fn new(family: Family, count: u32) -> Self {
        let mut order: Vec<u32> = (0..count).collect();
        order.shuffle(&mut rand::rng());
        // Rounds start far apart in the circle, so that together they go through as much of it as they can.
        let step = (order.len() / ROUNDS).max(1);
        let starts = order.iter().step_by(step).take(ROUNDS);
        let frames = starts.map(|at| packet(family, tuple(family, *at), ACK)).collect();
        Self { family, order, frames }
    }
}

/// Source and destination.
type Tuple = (SocketAddr, SocketAddr);

/// The tuple of a numbered flow. Its destination port is one that replies come to, so that it passes the filter.
fn tuple(family: Family, number: u32) -> Tuple {
    let source = match family.remote_pod() {
        IpAddr::V4(_) => IpAddr::from([10, 200, (number >> 8) as u8, number as u8]),
        IpAddr::V6(_) => IpAddr::from([0xfd44, 0, 0, 2, 0, 0, (number >> 16) as u16, number as u16]),
    };
    (SocketAddr::new(source, 8080), SocketAddr::new(family.node(), 61000 + (number % 4096) as u16))
}

fn packet(_family: Family, tuple: Tuple, flags: u8) -> Vec<u8> {
    Packet { hops: 255, ..Packet::tcp(tuple.0, tuple.1, flags) }.build()
}

/// Now in the programs' ticks.
fn clock() -> Result<u32> {
    let uptime = std::fs::read_to_string("/proc/uptime")?;
    let seconds: f64 = uptime.split_whitespace().next().context("/proc/uptime is empty")?.parse()?;
    Ok(((seconds * 1e9) as u64 >> TICK_SHIFT) as u32)
}
