//! What the control path of the service datapath costs: from observed objects to the kernel's maps.
//!
//! Measured are the engine and the kernel's maps, without the API server: cold (every service new), the change of one
//! EndpointSlice among them, and the memory that the engine has taken then, maps not counted. Needs root; pins in a
//! directory of its own, and removes it.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::Event;
use serde_json::json;
use skep_dataplane::{DataplaneConfig, KernelDataplane, cleanup};
use skep_services::NodeView;
use skep_services::engine::Engine;

use crate::{Context, Figure};

const CHANGES: usize = 400;

/// How much there is.
#[derive(Clone, Copy)]
struct Size {
    services: u32,
    endpoints: u32,
}

/// Measures at several sizes, so that what should not depend on the size can be seen not to.
pub fn run(context: &Context) -> Result<Vec<Figure>> {
    let object = std::fs::read(&context.ebpf_object)
        .with_context(|| format!("{}: cargo xtask build-ebpf", context.ebpf_object.display()))?;
    let at_start = memory()?;
    let measured = |services, endpoints| measure(&object, Size { services, endpoints });
    let hundred = measured(100, 10)?;
    let small = measured(10_000, 10)?;
    let large = measured(100_000, 10)?;
    let figure = |name: &str, value, unit, baseline| Figure { name: name.to_owned(), value, unit, baseline };
    let same = |what: &str, value| Some((what.to_owned(), value));
    let megabytes = |times: &Times| times.memory.saturating_sub(at_start) as f64 / f64::from(1 << 20);
    Ok(vec![
        figure("services/cold/100x10", millis(hundred.cold), "ms", None),
        figure("services/cold/10000x10", millis(small.cold), "ms", same("goal", 2000.0)),
        figure("services/cold/100000x10", millis(large.cold), "ms", same("goal", 15_000.0)),
        figure(
            "services/one-change/10000x10/median",
            micros(small.median),
            "us",
            same("the same among 100 services", micros(hundred.median)),
        ),
        figure("services/one-change/10000x10/p99", micros(small.p99), "us", same("goal", 5000.0)),
        figure(
            "services/one-change/100000x10/median",
            micros(large.median),
            "us",
            same("the same among 10,000 services", micros(small.median)),
        ),
        figure(
            "services/one-change/100000x10/p99",
            micros(large.p99),
            "us",
            same("the same among 10,000 services", micros(small.p99)),
        ),
        figure("services/memory/10000x10", megabytes(&small), "MiB", same("goal for the whole agent", 60.0)),
        figure(
            "services/memory/100000x10",
            megabytes(&large),
            "MiB",
            same("goal for the whole agent", 400.0),
        ),
    ])
}

/// Bytes of this process's own memory: neither files nor what is shared with the kernel's maps.
fn memory() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("RssAnon")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}

struct Times {
    cold: Duration,
    median: Duration,
    p99: Duration,
    memory: u64,
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn measure(object: &[u8], size: Size) -> Result<Times> {
    let pins = format!("/sys/fs/bpf/skep-bench-{}", std::process::id());
    let pins = Path::new(&pins);
    let result = measure_with(object, pins, size);
    cleanup(pins)?;
    result
}

fn measure_with(object: &[u8], pins: &Path, size: Size) -> Result<Times> {
    let dataplane = Arc::new(KernelDataplane::open(&DataplaneConfig::new(object.to_vec(), pins, 1))?);
    let node = NodeView {
        name: "n1".to_owned(),
        zone: None,
        node_port_addresses: vec!["192.0.2.1".parse()?],
        loopback_addresses: Vec::new(),
        ..NodeView::default()
    };
    let mut engine = Engine::new(dataplane, node);
    let Size { services, endpoints } = size;
    for number in 0..services {
        engine.on_service(Event::Apply(service(number)?));
        engine.on_slice(Event::Apply(slice(number, endpoints, 0)?));
    }
    engine.on_service(Event::InitDone);
    engine.on_slice(Event::InitDone);
    let start = Instant::now();
    let outcome = engine.sync(Duration::ZERO)?;
    let cold = start.elapsed();
    let all = outcome.planned.len() == services as usize && outcome.refused == 0;
    ensure!(all, "not every service was programmed");
    drop(outcome);
    let memory = memory()?;
    let mut times = Vec::with_capacity(CHANGES);
    for change in 0..CHANGES {
        let round = u32::try_from(change)? + 1;
        let slice = slice((round * 7919) % services, endpoints, round)?;
        let start = Instant::now();
        engine.on_slice(Event::Apply(slice));
        let outcome = engine.sync(Duration::from_secs(2 * change as u64 + 2))?;
        times.push(start.elapsed());
        ensure!(outcome.planned.len() == 1, "one change planned {} services", outcome.planned.len());
    }
    times.sort_unstable();
    Ok(Times { cold, median: times[CHANGES / 2], p99: times[CHANGES * 99 / 100], memory })
}

fn service(number: u32) -> Result<Service> {
    Ok(serde_json::from_value(json!({
        "metadata": { "namespace": "default", "name": format!("s{number}") },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": Ipv4Addr::from_bits(Ipv4Addr::new(10, 96, 0, 0).to_bits() + number),
            "ports": [{ "name": "http", "port": 80 }],
        },
    }))?)
}

/// The slice of a service of at most 16 addresses; `round` changes one of its endpoints.
fn slice(number: u32, count: u32, round: u32) -> Result<EndpointSlice> {
    let first = Ipv4Addr::new(10, 128, 0, 0).to_bits() + 32 * number;
    // Never the same in two rounds that follow each other at one service: those are 100 or more apart.
    let first_of = |round: u32| if round == 0 { 16 } else { 17 + round % 13 };
    let address = |at: u32| Ipv4Addr::from_bits(first + if at == 0 { first_of(round) } else { at });
    let endpoints: Vec<_> = (0..count)
        .map(|at| json!({ "addresses": [address(at)], "nodeName": format!("n{}", at % 3) }))
        .collect();
    Ok(serde_json::from_value(json!({
        "metadata": {
            "namespace": "default",
            "name": format!("s{number}-a"),
            "labels": { "kubernetes.io/service-name": format!("s{number}") },
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{ "name": "http", "port": 8080 }],
    }))?)
}
