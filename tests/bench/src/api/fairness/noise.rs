//! The noisy client: a process that sends on one or many connections, on each the next request as soon as an answer is
//! read. It runs when nobody else wants its processor.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use kube::Config;
use kube::client::ConfigExt as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tower::ServiceExt as _;

use super::super::session::JSON;

/// The argument by which this program becomes the noisy client: `noisy-client KUBECONFIG KIND CONNECTIONS COLLECTION`.
pub const COMMAND: &str = "noisy-client";
/// As whom it asks.
pub(super) const USER: &str = "bench-noisy";
/// The program that gives another one what processors have left.
const IDLE: [&str; 3] = ["chrt", "--idle", "0"];
const MERGE_PATCH: &str = "application/merge-patch+json";

/// What the noise is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Reads of one object.
    Get,
    /// Lists of ten thousand objects.
    List,
    /// Changes, on each connection of an object of its own.
    Write,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Get, Self::List, Self::Write];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Write => "write",
        }
    }

    fn named(name: &str) -> anyhow::Result<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).context("no such noise")
    }

    /// The request that a connection sends in this round.
    fn request(
        self,
        collection: &str,
        connection: usize,
        round: usize,
    ) -> http::Result<Request<Full<Bytes>>> {
        let object = format!("{collection}/{}", object(connection));
        let (method, path, kind, body) = match self {
            Self::Get => (Method::GET, object, JSON, String::new()),
            Self::List => (Method::GET, collection.to_owned(), JSON, String::new()),
            Self::Write => (Method::PATCH, object, MERGE_PATCH, super::change(round)),
        };
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("accept", JSON)
            .header("content-type", kind)
            .header("impersonate-user", USER)
            .body(Full::from(body))
    }
}

/// The name of an object that is there for the noise.
pub(super) fn object(number: usize) -> String {
    format!("noise-{number}")
}

/// What a noisy client got.
pub(super) struct Heard {
    pub(super) answers: usize,
    /// Half of them took at most so long.
    pub(super) median: Duration,
}

/// The process. It ends when its input does, and says then what it got.
pub(super) struct Noise {
    child: Child,
    said: BufReader<ChildStdout>,
    _kubeconfig: tempfile::NamedTempFile,
}

impl Noise {
    /// Starts it, and waits until it has its first answers.
    pub(super) async fn start(
        kubeconfig: &Kubeconfig,
        (kind, connections): (Kind, usize),
        collection: &str,
    ) -> anyhow::Result<Self> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(serde_json::to_string(kubeconfig)?.as_bytes())?;
        let mut child = Command::new(IDLE[0])
            .args(&IDLE[1..])
            .arg(std::env::current_exe()?)
            .arg(COMMAND)
            .arg(file.path())
            .args([kind.name(), &connections.to_string()])
            .arg(collection)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start the noisy client")?;
        let mut said = BufReader::new(child.stdout.take().context("its output")?);
        let mut line = String::new();
        said.read_line(&mut line).await?;
        anyhow::ensure!(line.trim() == "noisy", "the noisy client does not run");
        Ok(Self { child, said, _kubeconfig: file })
    }

    /// Ends it; what it got since it was started.
    pub(super) async fn stop(mut self) -> anyhow::Result<Heard> {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).await?;
        anyhow::ensure!(self.child.wait().await?.success(), "the noisy client failed");
        let (answers, median) =
            rest.trim().split_once(' ').context("the noisy client does not say what it got")?;
        Ok(Heard { answers: answers.parse()?, median: Duration::from_nanos(median.parse()?) })
    }
}

/// What all connections share.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// How long each request took.
    times: Mutex<Vec<Duration>>,
}

/// Makes noise until the input of this process ends.
///
/// # Errors
/// The server cannot be reached, or refuses.
pub fn make(kubeconfig: &Path, kind: &str, connections: &str, collection: &str) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (kind, connections) = (Kind::named(kind)?, connections.parse()?);
        let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let shared = Arc::new(Shared::default());
        let mut noise = Vec::new();
        for number in 0..connections {
            let mut sender = connect(&config).await?;
            let (collection, shared) = (collection.to_owned(), shared.clone());
            noise.push(tokio::spawn(async move {
                for round in 0.. {
                    if shared.stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let begun = Instant::now();
                    send(&mut sender, kind.request(&collection, number, round)?).await?;
                    shared.times.lock().push(begun.elapsed());
                }
                anyhow::Ok(())
            }));
        }
        while shared.times.lock().len() < connections {
            anyhow::ensure!(!noise.iter().any(tokio::task::JoinHandle::is_finished), "a request was refused");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        shared.times.lock().clear();
        println!("noisy");
        tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
        let mut times = std::mem::take(&mut *shared.times.lock());
        shared.stop.store(true, Ordering::Relaxed);
        for one in noise {
            one.await??;
        }
        times.sort_unstable();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        println!("{} {}", times.len(), median.as_nanos());
        Ok(())
    })
}

/// A connection without more around it than it needs: the faster the client, the louder the noise.
async fn connect(config: &Config) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = config.rustls_https_connector()?.oneshot(config.cluster_url.clone()).await;
    let stream = stream.map_err(|error| anyhow::anyhow!("cannot connect: {error}"))?;
    let (sender, connection) = http1::handshake(stream).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// Sends a request and reads its answer.
async fn send(sender: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> anyhow::Result<()> {
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    // Who sends too much may be told so; it goes on all the same.
    let status = response.status();
    let told = status.is_success() || status == StatusCode::TOO_MANY_REQUESTS;
    anyhow::ensure!(told, "the noisy client got {status}");
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(())
}
