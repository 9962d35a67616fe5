//! What a client without a pause does to another: the quiet one's slowest answers alone, and beside the other.
//!
//! Both are ordinary users, whose requests share one priority level. Clients stand for other machines, so they do not
//! share [processors] with the server, and the noisy one, a process of its own, runs only when the quiet one does not. The
//! server is then busy without end, which its share of its processor and the time that the noisy client waits show. As a
//! control, the same noise is made at another server of the same kind on the server's processor: that is what the machine
//! itself lets one do to another. Rounds of alone, beside and elsewhere alternate, and medians count, so that a busy
//! moment of the machine is in none.

pub mod noise;
pub(super) mod processors;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use http::Method;
use serde_json::json;

use self::noise::{Heard, Kind, Noise};
use super::objects;
use super::session::Session;
use super::target::Target;
use crate::Figure;

/// Answers that the quiet client waits for, one after the other.
const ANSWERS: usize = 400;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(2);
const ROUNDS: usize = 3;
/// Connections of the noisy client.
const LOUD: [usize; 2] = [1, 64];
/// Objects in a list.
const OBJECTS: usize = 10_000;
const WRITERS: usize = 16;
/// Who is quiet.
const QUIET: &str = "bench-quiet";
/// What both clients use, of which the quiet one has an object of its own.
const FAIR: &str = "fair";

/// What the quiet client does.
const DEEDS: [Method; 2] = [Method::GET, Method::PATCH];

/// Where noise is made while the quiet client measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Where {
    Nowhere,
    AtTheServer,
    AtAnother,
}

/// What the noisy client sends, and on how many connections.
type Loud = (Kind, usize);

/// Milliseconds at the 99th percentile, a round each, by who makes noise where while the quiet client does what.
type Slowest = BTreeMap<(Loud, Where, &'static str), Vec<f64>>;

/// What the noise at the server came to, a round each.
#[derive(Default)]
struct Noises {
    /// Answers per second.
    rates: Vec<f64>,
    /// Milliseconds that half of its requests took at most.
    waits: Vec<f64>,
    /// Of the server's processor, percent.
    busy: Vec<f64>,
}

/// Measures the server; the noise elsewhere is made at the other one.
pub(super) async fn measure(server: &Target, other: &Target) -> anyhow::Result<Vec<Figure>> {
    let session = Session::open(server.client.clone(), server.usage()).await?;
    let elsewhere = Session::open(other.client.clone(), other.usage()).await?;
    for session in [&session, &elsewhere] {
        prepare(session).await?;
    }
    let path = format!("{}/{FAIR}", session.core("configmaps"));
    slowest(&session, &Method::GET, &path).await?;
    let (mut times, mut noises) = (Slowest::new(), BTreeMap::<Loud, Noises>::new());
    for loud in Kind::ALL.into_iter().flat_map(|kind| LOUD.map(|connections| (kind, connections))) {
        for _ in 0..ROUNDS {
            for place in [Where::Nowhere, Where::AtTheServer, Where::AtAnother] {
                let at = if place == Where::AtAnother { other } else { server };
                let noise = match place {
                    Where::Nowhere => None,
                    _ => Some(Noise::start(&at.kubeconfig, loud, &session.core("configmaps")).await?),
                };
                let (begun, used) = (Instant::now(), server.usage().processor()?);
                for deed in &DEEDS {
                    let time = slowest(&session, deed, &path).await?;
                    times.entry((loud, place, name(deed))).or_default().push(time.as_secs_f64() * 1e3);
                }
                let (took, used) = (begun.elapsed().as_secs_f64(), server.usage().processor()? - used);
                if let Some(noise) = noise {
                    let Heard { answers, median } = noise.stop().await?;
                    if place == Where::AtTheServer {
                        let noises = noises.entry(loud).or_default();
                        noises.rates.push(answers as f64 / took);
                        noises.waits.push(median.as_secs_f64() * 1e3);
                        noises.busy.push(used.as_secs_f64() / took * 100.0);
                    }
                }
            }
        }
    }
    Ok(figures(&times, noises))
}

/// Lets both users in, and makes what they use.
async fn prepare(session: &Session) -> anyhow::Result<()> {
    let user = |name: &str| json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": { "name": "skep-bench-fairness" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit" },
        "subjects": [user(QUIET), user(noise::USER)],
    });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    session.post(bindings, &binding).await.context("let two users in")?;
    let maps = session.core("configmaps");
    session.post(&maps, &objects::config_map(FAIR)).await?;
    let writers = (0..WRITERS).map(|writer| {
        let maps = &maps;
        async move {
            for number in (writer..OBJECTS).step_by(WRITERS) {
                session.post(maps, &objects::config_map(&noise::object(number))).await?;
            }
            anyhow::Ok(())
        }
    });
    futures::future::try_join_all(writers).await.map(drop)
}

/// How long the quiet client waits for the slowest of a hundred answers.
async fn slowest(session: &Session, deed: &Method, path: &str) -> anyhow::Result<Duration> {
    let mut times = Vec::new();
    for round in 0..ANSWERS {
        let body = if *deed == Method::GET { String::new() } else { change(round) };
        times.push(session.send_as(QUIET, deed.clone(), path, body.into()).await?.took);
        tokio::time::sleep(PAUSE).await;
    }
    times.sort_unstable();
    Ok(times[ANSWERS * 99 / 100])
}

/// A merge patch that changes something.
fn change(round: usize) -> String {
    json!({ "data": { "round": round.to_string() } }).to_string()
}

fn name(deed: &Method) -> &'static str {
    if *deed == Method::GET { "read" } else { "write" }
}

fn figures(times: &Slowest, noises: BTreeMap<Loud, Noises>) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (loud, Noises { rates, waits, busy }) in noises {
        let noise = format!("fairness/{}-noise-{}", loud.0.name(), loud.1);
        for deed in DEEDS.iter().map(name) {
            let of = |place| median(times[&(loud, place, deed)].clone());
            let value = of(Where::AtTheServer);
            for (against, place, said) in [
                ("alone", Where::Nowhere, "no noise"),
                ("noise-elsewhere", Where::AtAnother, "the same noise at another server"),
            ] {
                figures.push(Figure {
                    name: format!("{noise}/{deed}-p99/{against}"),
                    value,
                    unit: "ms",
                    baseline: Some((said.to_owned(), of(place))),
                });
            }
        }
        for (what, values, unit) in
            [("rate", rates, "1/s"), ("own-median", waits, "ms"), ("server-busy", busy, "%")]
        {
            figures.push(Figure {
                name: format!("{noise}/{what}"),
                value: median(values),
                unit,
                baseline: None,
            });
        }
    }
    figures
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
