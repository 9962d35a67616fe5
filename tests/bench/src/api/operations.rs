//! Processor time per operation at sixteen clients, and what one client alone waits for.

use std::future::Future;
use std::time::Instant;

use bytes::Bytes;
use http::Method;
use serde_json::Value;

use super::session::{JSON, Session};
use super::{Values, objects};

const CLIENTS: usize = 16;
/// Operations of each kind.
const OPERATIONS: usize = 4_000;
/// Objects that are patched, applied and read in turn.
const OBJECTS: usize = 500;
/// Creates of one client alone.
const ALONE: usize = 300;

const MERGE_PATCH: &str = "application/merge-patch+json";
const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// Measures a real API server.
pub(super) async fn measure(session: &Session) -> anyhow::Result<Values> {
    let mut values = Values::new();
    let maps = session.core("configmaps");
    let pods = session.core("pods");
    let deployments = session.apps("deployments");
    costs(&mut values, session, "configmap-create", OPERATIONS, |n| {
        write(session, Method::POST, maps.clone(), JSON, objects::config_map(&format!("map-{n}")))
    })
    .await?;
    costs(&mut values, session, "pod-create", OPERATIONS, |n| {
        write(session, Method::POST, pods.clone(), JSON, objects::pod(&format!("pod-{n}")))
    })
    .await?;
    costs(&mut values, session, "pod-get", OPERATIONS * 2, |n| {
        read(session, format!("{pods}/pod-{}", n % OBJECTS))
    })
    .await?;
    costs(&mut values, session, "pod-status-merge-patch", OPERATIONS, |n| {
        let path = format!("{pods}/pod-{}/status", n % OBJECTS);
        write(session, Method::PATCH, path, MERGE_PATCH, objects::pod_status(n / OBJECTS))
    })
    .await?;
    costs(&mut values, session, "deployment-apply", OPERATIONS, |n| {
        let name = format!("app-{}", n % OBJECTS);
        let path = format!("{deployments}/{name}?fieldManager=bench&force=true");
        write(session, Method::PATCH, path, APPLY_PATCH, objects::applied(&name, n / OBJECTS))
    })
    .await?;
    alone(&mut values, session).await?;
    Ok(values)
}

/// The same requests where nothing is checked: what TLS, HTTP and an fsync cost.
pub(super) async fn floor(session: &Session) -> anyhow::Result<Values> {
    let mut values = Values::new();
    let maps = session.core("configmaps");
    costs(&mut values, session, "configmap-create", OPERATIONS, |n| {
        write(session, Method::POST, maps.clone(), JSON, objects::config_map(&format!("map-{n}")))
    })
    .await?;
    costs(&mut values, session, "pod-create", OPERATIONS, |n| {
        write(session, Method::POST, maps.clone(), JSON, objects::pod(&format!("pod-{n}")))
    })
    .await?;
    costs(&mut values, session, "pod-get", OPERATIONS * 2, |_| read(session, format!("{maps}/map-0")))
        .await?;
    alone(&mut values, session).await?;
    Ok(values)
}

/// Runs `operation` for all numbers below `count` on all clients, and notes processor time of each and their rate.
async fn costs<F>(
    values: &mut Values,
    session: &Session,
    name: &str,
    count: usize,
    operation: impl Fn(usize) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let (begun, before) = (Instant::now(), session.usage.processor()?);
    let clients = (0..CLIENTS).map(|client| {
        let operation = &operation;
        async move {
            for number in (client..count).step_by(CLIENTS) {
                operation(number).await?;
            }
            anyhow::Ok(())
        }
    });
    futures::future::try_join_all(clients).await?;
    let (took, used) = (begun.elapsed(), session.usage.processor()? - before);
    values.insert(format!("{name}/processor"), (used.as_secs_f64() * 1e6 / count as f64, "us"));
    values.insert(format!("{name}/rate"), (count as f64 / took.as_secs_f64(), "1/s"));
    Ok(())
}

async fn alone(values: &mut Values, session: &Session) -> anyhow::Result<()> {
    let maps = session.core("configmaps");
    let mut times = Vec::with_capacity(ALONE);
    for number in 0..ALONE {
        let object = objects::config_map(&format!("alone-{number}"));
        times.push(session.post(&maps, &object).await?.took);
    }
    times.sort_unstable();
    values.insert("configmap-create/alone".into(), (times[ALONE / 2].as_secs_f64() * 1e6, "us"));
    Ok(())
}

async fn write(
    session: &Session,
    method: Method,
    path: String,
    kind: &str,
    body: Value,
) -> anyhow::Result<()> {
    session.send(method, &path, kind, body.to_string().into()).await.map(drop)
}

async fn read(session: &Session, path: String) -> anyhow::Result<()> {
    session.send(Method::GET, &path, JSON, Bytes::new()).await.map(drop)
}
