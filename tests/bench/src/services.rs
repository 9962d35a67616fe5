//! What the control path of the service datapath costs: from observed objects to the kernel's maps.
//!
//! Measured are the engine and the kernel's maps, without the API server: cold (every service new), and the change of one
//! EndpointSlice among them. Needs root; pins in a directory of its own, and removes it.

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

const ENDPOINTS: usize = 10;
const CHANGES: usize = 400;

/// Measures at two sizes, so that what should not depend on the size can be seen not to.
pub fn run(context: &Context) -> Result<Vec<Figure>> {
    let object = std::fs::read(&context.ebpf_object)
        .with_context(|| format!("{}: cargo xtask build-ebpf", context.ebpf_object.display()))?;
    let small = measure(&object, 100)?;
    let large = measure(&object, 10_000)?;
    let figure = |name: &str, value, unit, baseline| Figure { name: name.to_owned(), value, unit, baseline };
    Ok(vec![
        figure("services/cold/10000x10", millis(large.cold), "ms", None),
        figure("services/cold/100x10", millis(small.cold), "ms", None),
        figure(
            "services/one-change/10000x10/median",
            micros(large.median),
            "us",
            Some(("the same among 100 services".to_owned(), micros(small.median))),
        ),
        figure("services/one-change/10000x10/p99", micros(large.p99), "us", None),
    ])
}

struct Times {
    cold: Duration,
    median: Duration,
    p99: Duration,
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn measure(object: &[u8], services: usize) -> Result<Times> {
    let pins = format!("/sys/fs/bpf/skep-bench-{}", std::process::id());
    let pins = Path::new(&pins);
    let result = measure_with(object, pins, services);
    cleanup(pins)?;
    result
}

fn measure_with(object: &[u8], pins: &Path, services: usize) -> Result<Times> {
    let dataplane = Arc::new(KernelDataplane::open(&DataplaneConfig::new(object.to_vec(), pins, 1))?);
    let node = NodeView {
        name: "n1".to_owned(),
        zone: None,
        node_port_addresses: vec!["192.0.2.1".parse()?],
        loopback_addresses: Vec::new(),
    };
    let mut engine = Engine::new(dataplane, node);
    for number in 0..services {
        engine.on_service(Event::Apply(service(number)?));
        engine.on_slice(Event::Apply(slice(number, 0)?));
    }
    engine.on_service(Event::InitDone);
    engine.on_slice(Event::InitDone);
    let start = Instant::now();
    let outcome = engine.sync(Duration::ZERO)?;
    let cold = start.elapsed();
    ensure!(outcome.planned.len() == services && outcome.refused == 0, "not every service was programmed");
    let mut times = Vec::with_capacity(CHANGES);
    for change in 0..CHANGES {
        let slice = slice((change * 7919) % services, change + 1)?;
        let start = Instant::now();
        engine.on_slice(Event::Apply(slice));
        let outcome = engine.sync(Duration::from_secs(2 * change as u64 + 2))?;
        times.push(start.elapsed());
        ensure!(outcome.planned.len() == 1, "one change planned {} services", outcome.planned.len());
    }
    times.sort_unstable();
    Ok(Times { cold, median: times[CHANGES / 2], p99: times[CHANGES * 99 / 100] })
}

fn service(number: usize) -> Result<Service> {
    Ok(serde_json::from_value(json!({
        "metadata": { "namespace": "default", "name": format!("s{number}") },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": format!("10.96.{}.{}", number / 256, number % 256),
            "ports": [{ "name": "http", "port": 80 }],
        },
    }))?)
}

/// The slice of a service; `round` changes one of its endpoints.
fn slice(number: usize, round: usize) -> Result<EndpointSlice> {
    let address = |at: usize| {
        let last = match (at, round) {
            (0, 0) => 99,
            (0, _) => 100 + round % 150,
            _ => at,
        };
        format!("10.{}.{}.{last}", 128 + number / 256, number % 256)
    };
    let endpoints: Vec<_> = (0..ENDPOINTS)
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
