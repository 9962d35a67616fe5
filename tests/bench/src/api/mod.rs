//! What an API server costs: processor time per operation, lists, watches and memory, over TLS and with an fsync.
//!
//! The server is whichever a kubeconfig names, so that another implementation can stand beside ours in the same run; by
//! default `skep-control` is started on an empty store of its own. Held against a second server (`--beside-kubeconfig`),
//! or else against a [`bare`] one: TLS, HTTP, and for a write an append with an fsync, nothing more. Processor time is
//! that of the server's processes, store included, never the client's.

pub mod bare;
pub mod fairness;
mod lists;
mod objects;
mod operations;
mod session;
mod target;
mod usage;
mod watches;

use std::collections::BTreeMap;
use std::path::Path;

use self::fairness::processors::Processors;
use self::session::Session;
pub use self::target::Server;
use self::target::Target;
use crate::{Context, Figure};

/// Values by the name of the figure, with their units.
type Values = BTreeMap<String, (f64, &'static str)>;

/// What our own server is held against when nothing else is named.
const BARE: &str = "bare TLS server with an fsync";

/// Runs the benchmark.
///
/// # Errors
/// A server cannot be started or reached, or refuses what it is asked.
pub fn run(context: &Context) -> anyhow::Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let baseline = match &context.api.beside {
            Some(server) => ("the server beside it", measure(Target::named(server).await?).await?),
            None => (BARE, bare_costs().await?),
        };
        let values = match &context.api.server {
            Some(server) => measure(Target::named(server).await?).await?,
            None => measure_own(context.api.control.as_deref()).await?,
        };
        Ok(figures(values, &baseline.1, baseline.0))
    })
}

/// Runs the part of it that is about single operations, for a quick look.
///
/// # Errors
/// A server cannot be started or reached, or refuses what it is asked.
pub fn operations_alone(context: &Context) -> anyhow::Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let baseline = match &context.api.beside {
            Some(server) => ("the server beside it", operated(Target::named(server).await?).await?),
            None => (BARE, bare_operated().await?),
        };
        let values = match &context.api.server {
            Some(server) => operated(Target::named(server).await?).await?,
            None => operated(Target::own(context.api.control.as_deref(), "apiserver").await?).await?,
        };
        Ok(figures(values, &baseline.1, baseline.0))
    })
}

/// Runs the part of it that is about watches, for a quick look.
///
/// # Errors
/// A server cannot be started or reached, or refuses what it is asked.
pub fn watches_alone(context: &Context) -> anyhow::Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let baseline = match &context.api.beside {
            Some(server) => ("the server beside it", watched(Target::named(server).await?).await?),
            None => (BARE, bare_watched().await?),
        };
        let values = match &context.api.server {
            Some(server) => watched(Target::named(server).await?).await?,
            None => watched(Target::own(context.api.control.as_deref(), "apiserver").await?).await?,
        };
        Ok(figures(values, &baseline.1, baseline.0))
    })
}

/// Runs the benchmark of fairness: our own server and another one of it, or the two that are named.
///
/// # Errors
/// A server cannot be started or reached, or refuses what it is asked.
pub fn fair(context: &Context) -> anyhow::Result<Vec<Figure>> {
    // One thread, so that it can say where servers and clients run.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let processors = Processors::halved()?;
    runtime.block_on(async {
        processors.of_servers()?;
        let control = context.api.control.as_deref();
        let server = match &context.api.server {
            Some(server) => Target::named(server).await?,
            None => Target::own(control, "apiserver").await?,
        };
        let other = match &context.api.beside {
            Some(server) => Target::named(server).await?,
            None => Target::own(control, "apiserver").await?,
        };
        for named in [&context.api.server, &context.api.beside].into_iter().flatten() {
            processors.take(&named.processes)?;
        }
        processors.of_clients()?;
        let figures = fairness::measure(&server, &other).await?;
        server.stop().await?;
        other.stop().await?;
        Ok(figures)
    })
}

fn figures(values: Values, baseline: &Values, baseline_name: &str) -> Vec<Figure> {
    values
        .into_iter()
        .map(|(name, (value, unit))| Figure {
            baseline: baseline.get(&name).map(|(value, _)| (baseline_name.to_owned(), *value)),
            name: format!("api/{name}"),
            value,
            unit,
        })
        .collect()
}

/// Our own: the memory of the whole control plane, and the costs of its API server alone, which is what is held against
/// another's. What controllers do about the objects is not the server's doing.
async fn measure_own(control: Option<&Path>) -> anyhow::Result<Values> {
    let whole = Target::own(control, "run").await?;
    let mut values = whole.beginning().await?;
    let session = Session::open(whole.client.clone(), whole.usage()).await?;
    values.extend(lists::memory(&session).await?);
    whole.stop().await?;
    let mut costs = measure(Target::own(control, "apiserver").await?).await?;
    costs.extend(values);
    Ok(costs)
}

/// All that is measured of a real API server.
async fn measure(target: Target) -> anyhow::Result<Values> {
    let mut values = target.beginning().await?;
    let session = Session::open(target.client.clone(), target.usage()).await?;
    values.extend(operations::measure(&session).await?);
    values.extend(watches::measure(&session).await?);
    values.extend(lists::measure(&session).await?);
    session.close().await?;
    target.stop().await?;
    Ok(values)
}

async fn operated(target: Target) -> anyhow::Result<Values> {
    let session = Session::open(target.client.clone(), target.usage()).await?;
    let values = operations::measure(&session).await?;
    session.close().await?;
    target.stop().await?;
    Ok(values)
}

async fn watched(target: Target) -> anyhow::Result<Values> {
    let session = Session::open(target.client.clone(), target.usage()).await?;
    let values = watches::measure(&session).await?;
    session.close().await?;
    target.stop().await?;
    Ok(values)
}

/// What a server cannot do without: the same requests, answered by [`bare`].
async fn bare_costs() -> anyhow::Result<Values> {
    let mut values = bare_operated().await?;
    values.extend(bare_watched().await?);
    Ok(values)
}

async fn bare_operated() -> anyhow::Result<Values> {
    let target = Target::bare().await?;
    let values = operations::floor(&Session::unchecked(target.client.clone(), target.usage())).await?;
    target.stop().await?;
    Ok(values)
}

async fn bare_watched() -> anyhow::Result<Values> {
    let target = Target::bare().await?;
    let values = watches::measure(&Session::unchecked(target.client.clone(), target.usage())).await?;
    target.stop().await?;
    Ok(values)
}
