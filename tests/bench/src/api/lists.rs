//! A list of ten thousand pods, alone and eight at once, and the memory of a cluster of that size.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::ensure;

use super::session::Session;
use super::{Values, objects};

const PODS: usize = 10_000;
const NODES: usize = 1_000;
const WRITERS: usize = 16;
/// Each list is asked for so often, and the median told.
const ROUNDS: usize = 7;
const AT_ONCE: usize = 8;
const MIB: f64 = (1 << 20) as f64;

/// Fills the cluster, and says what it takes in memory.
pub(super) async fn memory(session: &Session) -> anyhow::Result<Values> {
    fill(session).await?;
    Ok(Values::from([("memory/10000-pods-1000-nodes".into(), (session.usage.resident()? / MIB, "MiB"))]))
}

/// Fills the cluster and lists it.
pub(super) async fn measure(session: &Session) -> anyhow::Result<Values> {
    let mut values = memory(session).await?;
    let path = session.core("pods?labelSelector=large%3Dtrue");
    let (mut whole, mut first, mut length) = (Vec::new(), Vec::new(), 0);
    let before = session.usage.processor()?;
    for _ in 0..ROUNDS {
        let answer = session.get(&path).await?;
        whole.push(answer.took);
        first.push(answer.first_byte);
        length = answer.length;
    }
    let used = (session.usage.processor()? - before) / ROUNDS as u32;
    values.insert("list-10000-pods/size".into(), (length as f64 / MIB, "MiB"));
    values.insert("list-10000-pods/processor".into(), (ms(used), "ms"));
    values.insert("list-10000-pods/whole".into(), (ms(median(whole)), "ms"));
    values.insert("list-10000-pods/first-byte".into(), (ms(median(first)), "ms"));
    values
        .insert("list-10000-pods/eight-at-once/added".into(), (at_once(session, &path).await? / MIB, "MiB"));
    Ok(values)
}

async fn fill(session: &Session) -> anyhow::Result<()> {
    let (pods, session) = (session.core("pods"), &session);
    let writers = (0..WRITERS).map(|writer| {
        let pods = &pods;
        async move {
            for number in (writer..NODES).step_by(WRITERS) {
                session.post("/api/v1/nodes", &objects::node(&format!("bench-{number}"))).await?;
            }
            for number in (writer..PODS).step_by(WRITERS) {
                let mut pod = objects::large_pod(&format!("large-{number}"));
                pod["metadata"]["labels"]["large"] = "true".into();
                session.post(pods, &pod).await?;
            }
            anyhow::Ok(())
        }
    });
    futures::future::try_join_all(writers).await.map(drop)
}

/// How many bytes eight lists at once add to the memory of the server at their worst.
async fn at_once(session: &Session, path: &str) -> anyhow::Result<f64> {
    let before = session.usage.resident()?;
    let done = Arc::new(AtomicBool::new(false));
    let watcher = {
        let (usage, done) = (session.usage.clone(), done.clone());
        std::thread::spawn(move || {
            let mut most = 0.0_f64;
            while !done.load(Ordering::Relaxed) {
                most = most.max(usage.resident()?);
                std::thread::sleep(Duration::from_millis(2));
            }
            anyhow::Ok(most)
        })
    };
    let answers = futures::future::try_join_all((0..AT_ONCE).map(|_| session.get(path))).await;
    done.store(true, Ordering::Relaxed);
    let most = watcher.join().map_err(|_| anyhow::anyhow!("the observer has panicked"))??;
    ensure!(answers?.iter().all(|answer| answer.length > 0), "an empty list");
    Ok((most - before).max(0.0))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
