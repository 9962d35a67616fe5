//! What packets of made connections cost while another processor takes SYNs from made-up addresses as fast as it can, beside
//! what they cost without, in one run; and that none of them is lost.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use skep_abi::flow::{FLOW_HALF_OPEN, Flow, FlowAddress};
use skep_abi::{Plain, TCP, V4, V6};
use skep_datapath_tests::object::Loaded;
use skep_datapath_tests::packet::{Packet, SYN, set_source};
use skep_datapath_tests::world::{Family, Service};

use super::{Bench, Circle};
use crate::Figure;

/// Flows whose packets are measured.
const FLOWS: u32 = 1 << 10;
/// Slots of the flooded service.
const SLICE: u32 = 500_000;
/// Longest that a flood goes on.
const MOST: Duration = Duration::from_secs(60);

impl Bench {
    /// Two figures: a packet under the flood beside one without, and how long one SYN of the flood took.
    pub(super) fn under_flood(&self, family: Family, object: &Path) -> Result<[Figure; 2]> {
        let front = SocketAddr::new(family.node(), 30080);
        let backends: Vec<SocketAddr> =
            (0..64).map(|at| SocketAddr::new(family.remote_pod(), 9000 + at)).collect();
        let service = Service::external(front, TCP, &backends);
        Service { id: 999, slice: SLICE, ..service }.write(&self.loaded)?;
        let circle = Circle::new(family, FLOWS);
        let measure = || self.sample("xdp_uplink", &circle.frames, || Ok(()));
        self.write_circle(&circle)?;
        let without = measure()?;

        let beside = self.loaded.beside(object, "xdp_uplink")?;
        let before = self.loaded.counters()?;
        let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        let uplink = self.world.uplink;
        let (under, took) = std::thread::scope(|scope| -> Result<(f64, Duration)> {
            let flooding = scope.spawn(|| flood(beside, uplink, family, front, &stop, &sent));
            let under = measure();
            stop.store(true, Ordering::Relaxed);
            let took = flooding.join().map_err(|_| anyhow::anyhow!("the flood panicked"))??;
            Ok((under?, took))
        })?;
        let after = self.loaded.counters()?;
        let rose = |name: &str| after.get(name).unwrap_or(&0) - before.get(name).unwrap_or(&0);
        let sent = sent.load(Ordering::Relaxed);
        ensure!(rose("flow_created") * 2 > sent, "{} flows for {sent} SYNs", rose("flow_created"));
        let lost = rose("no_flow") + rose("backend_gone") + rose("flow_collision") + rose("flow_table_full");
        ensure!(lost == 0, "packets of known flows were lost: {after:?}");
        let left = match family {
            Family::V4 => self.established::<V4>()?,
            Family::V6 => self.established::<V6>()?,
        };
        // Those that upkeep was due for have got partners besides.
        ensure!(left >= FLOWS as usize, "{left} of {FLOWS} flows are left");
        let name = if family == Family::V4 { "ipv4" } else { "ipv6" };
        Ok([
            Figure {
                name: format!("datapath/known-flow-1k-under-flood/{name}"),
                value: under,
                unit: "ns",
                baseline: Some(("without a flood".to_owned(), without)),
            },
            Figure {
                name: format!("datapath/flood-rate/{name}"),
                value: sent as f64 / took.as_secs_f64(),
                unit: "1/s",
                baseline: None,
            },
        ])
    }
}

impl Bench {
    fn established<A: FlowAddress>(&self) -> Result<usize>
    where
        Flow<A>: Plain,
    {
        let flows = self.loaded.flows::<A>()?;
        Ok(flows.iter().filter(|(_, flow)| flow.flags & FLOW_HALF_OPEN == 0).count())
    }
}

/// Sends SYNs, each from another address and port, until it is told to stop.
fn flood(
    loaded: Loaded,
    uplink: u32,
    family: Family,
    front: SocketAddr,
    stop: &AtomicBool,
    sent: &AtomicU64,
) -> Result<Duration> {
    let start = Instant::now();
    let source = |number: u32| {
        let address = match family {
            Family::V4 => IpAddr::from((0x0b00_0000 + (number & 0x00ff_ffff)).to_be_bytes()),
            Family::V6 => IpAddr::from([0x2001, 0xdb8, 9, 0, 0, 0, (number >> 16) as u16, number as u16]),
        };
        SocketAddr::new(address, 1024 + (number % 60_000) as u16)
    };
    let mut frame = Packet::tcp(source(0), front, SYN).build();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) && start.elapsed() < MOST {
        set_source(&mut frame, source(number));
        loaded.run_xdp("xdp_uplink", uplink, &frame)?;
        number = number.wrapping_add(1);
    }
    sent.store(u64::from(number), Ordering::Relaxed);
    Ok(start.elapsed())
}
