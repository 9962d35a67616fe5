//! Connect, request, answer, close through NodePorts from outside, beside nftables rules as kube-proxy's nftables mode
//! makes them, in the same run.
//!
//! Two machines of the same make ([`wire`]), one served by the datapath and one by the rules ([`rules`]), take turns of a
//! second each, so that whatever else the processor does meets both. Every request goes to the next of all services.

mod requests;
mod rules;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::runtime::watcher::Event;
use skep_dataplane::{AttachChoices, DataplaneConfig, KernelDataplane};
use skep_maps::{Dataplane, PodLink};
use skep_services::NodeView;
use skep_services::engine::Engine;

use crate::objects::{service, slice};
use crate::{Context, Figure};
use wire::{NODE, POD, Wire};

/// Numbers of services.
const SIZES: [u16; 3] = [10, 1_000, 10_000];
/// Node port of the first service. Beyond what Kubernetes hands out, since there are more.
const FIRST: u16 = 15_000;
/// Turns of each.
const TURNS: usize = 5;
const TURN: Duration = Duration::from_secs(1);

/// Measures at several numbers of services.
pub fn run(context: &Context) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for services in SIZES {
        let [ours, theirs] = measure(context, services).with_context(|| format!("{services} services"))?;
        figures.push(Figure {
            name: format!("node-port/connect-request-close/{services}"),
            value: ours,
            unit: "1/s",
            baseline: Some(("nftables rules like kube-proxy's".to_owned(), theirs)),
        });
    }
    Ok(figures)
}

/// Requests in a second through the datapath and through the rules.
fn measure(context: &Context, services: u16) -> Result<[f64; 2]> {
    let (ours, theirs) = (Wire::new()?, Wire::new()?);
    let _agent = program(context, &ours, services)?;
    theirs.node.run(move || rules::install(services, FIRST))?;
    let targets: Arc<[SocketAddr]> =
        (0..services).map(|number| SocketAddr::new(NODE.into(), FIRST + number)).collect();
    let mut rates = [Vec::new(), Vec::new()];
    // The first turn of each warms up.
    for turn in 0..=TURNS {
        for (wire, rates) in [&ours, &theirs].into_iter().zip(&mut rates) {
            let targets = targets.clone();
            let done = wire.client.run(move || requests::make(&targets, TURN))?;
            if turn > 0 {
                rates.push(done);
            }
        }
    }
    Ok(rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[TURNS / 2]
    }))
}

/// The datapath of the node with that many services. It stays while the result lives.
fn program(context: &Context, wire: &Wire, services: u16) -> Result<Arc<KernelDataplane>> {
    let object = std::fs::read(&context.ebpf_object)
        .with_context(|| format!("{}: cargo xtask build-ebpf", context.ebpf_object.display()))?;
    let link = wire.pod_link()?;
    wire.client_takes_xdp(&context.ebpf_object)?;
    wire.node.run(move || {
        let config = DataplaneConfig {
            uplinks: vec!["up0".into()],
            node_v4: Some(NODE),
            attach: AttachChoices { veth: true, ..AttachChoices::default() },
            ..DataplaneConfig::new(object, "/sys/fs/bpf/skep", 1)
        };
        let dataplane = Arc::new(KernelDataplane::open(&config)?);
        attach(&dataplane, &link)?;
        let node = NodeView {
            name: "n1".to_owned(),
            zone: None,
            node_port_addresses: vec![NODE.into()],
            loopback_addresses: Vec::new(),
            ..NodeView::default()
        };
        let mut engine = Engine::new(dataplane.clone(), node);
        for number in 0..services {
            let port = FIRST + number;
            engine.on_service(Event::Apply(service(number.into(), Some(port))?));
            engine.on_slice(Event::Apply(slice(number.into(), [POD].into_iter())?));
        }
        engine.on_service(Event::InitDone);
        engine.on_slice(Event::InitDone);
        let outcome = engine.sync(Duration::ZERO)?;
        ensure!(outcome.planned.len() == usize::from(services) && outcome.refused == 0, "not all fit");
        Ok(dataplane)
    })
}

fn attach(dataplane: &KernelDataplane, link: &PodLink) -> Result<()> {
    Ok(dataplane.attach_pod(link)?)
}
