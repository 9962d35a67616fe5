//! What a client without a pause does to another: the quiet one's slowest answers alone, and beside the other.
//!
//! Both are ordinary users, whose requests share one priority level; only the fairness of the server is between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;

use super::Values;
use super::session::Session;

/// Requests of the noisy client at the same time, each followed at once by the next.
const NOISE: usize = 64;
/// Answers that the quiet client waits for, one after the other.
const ANSWERS: usize = 1_000;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(2);

/// Measures both.
pub(super) async fn measure(session: &Session) -> anyhow::Result<Values> {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": { "name": "skep-bench-fairness" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit" },
        "subjects": [
            { "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bench-quiet" },
            { "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bench-noisy" },
        ],
    });
    session
        .post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding)
        .await
        .context("let two users in")?;
    let maps = session.core("configmaps");
    let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "fair" } });
    session.post(&maps, &object).await?;
    let path = format!("{maps}/fair");
    let alone = slowest(session, &path).await?;
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let noise: Vec<_> = (0..NOISE)
        .map(|_| {
            let (session, path) = (session.clone(), path.clone());
            let (stop, answered) = (stop.clone(), answered.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    session.get_as("bench-noisy", &path).await?;
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                anyhow::Ok(())
            })
        })
        .collect();
    let begun = Instant::now();
    let beside = slowest(session, &path).await?;
    let rate = answered.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for one in noise {
        one.await??;
    }
    let milliseconds = |time: Duration| (time.as_secs_f64() * 1e3, "ms");
    Ok(Values::from([
        ("fairness/quiet-p99-alone".into(), milliseconds(alone)),
        ("fairness/quiet-p99-beside-noise".into(), milliseconds(beside)),
        ("fairness/quiet-p99-ratio".into(), (beside.as_secs_f64() / alone.as_secs_f64(), "x")),
        ("fairness/noise-rate".into(), (rate, "1/s")),
    ]))
}

/// The time within which 99 of a hundred answers come.
async fn slowest(session: &Session, path: &str) -> anyhow::Result<Duration> {
    let mut times = Vec::with_capacity(ANSWERS);
    for _ in 0..ANSWERS {
        times.push(session.get_as("bench-quiet", path).await?.took);
        tokio::time::sleep(PAUSE).await;
    }
    times.sort_unstable();
    Ok(times[ANSWERS * 99 / 100])
}
