//! The server that is measured: one that a kubeconfig names, our own on an empty store, or the bare one.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tempfile::TempDir;

use super::Values;
use super::bare;
use super::usage::Usage;

const START: Duration = Duration::from_secs(30);
/// How long a server that was started is left alone before its memory counts as idle.
const SETTLE: Duration = Duration::from_secs(3);
const MIB: f64 = (1 << 20) as f64;

/// A server that runs already, and the processes that it is made of, its store's among them.
#[derive(Clone, Debug)]
pub struct Server {
    /// How to reach it, as an administrator.
    pub kubeconfig: PathBuf,
    /// Process ids.
    pub processes: Vec<u32>,
}

/// What is measured.
pub(super) struct Target {
    pub(super) client: Client,
    /// How others reach it.
    pub(super) kubeconfig: Kubeconfig,
    processes: Vec<u32>,
    started: Option<Started>,
}

/// A process of our own, ended with the benchmark.
struct Started {
    child: Child,
    ready: Duration,
    _folder: TempDir,
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Target {
    /// A server that somebody else started.
    pub(super) async fn named(server: &Server) -> anyhow::Result<Self> {
        let kubeconfig = Kubeconfig::read_from(&server.kubeconfig)?;
        let config =
            Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default()).await?;
        let client = Client::try_from(config)?;
        Ok(Self { client, kubeconfig, processes: server.processes.clone(), started: None })
    }

    /// `skep-control` with this command, on an empty store in a folder that goes with it.
    pub(super) async fn own(binary: Option<&Path>, command: &str) -> anyhow::Result<Self> {
        let binary =
            binary.context("pass --control PATH, the skep-control to measure, or --kubeconfig FILE")?;
        let folder = tempfile::tempdir_in("/var/tmp").context("make a folder on a real disk")?;
        let data = folder.path().join("data");
        let port = free_port()?;
        let log = std::fs::File::create(folder.path().join("log"))?;
        let begun = Instant::now();
        let child = Command::new(binary)
            .arg(command)
            .arg("--data-dir")
            .arg(&data)
            .args(["--listen", &format!("127.0.0.1:{port}"), "--tls-san", "127.0.0.1"])
            // Nobody connects to it: the benchmark has no nodes.
            .args(["--advertise-address", "192.0.2.1"])
            .env("SKEP_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", binary.display()))?;
        let mut started = Started { child, ready: Duration::ZERO, _folder: folder };
        let (client, kubeconfig) = loop {
            if let Some(client) = ready(&data.join("admin.kubeconfig"), port).await {
                break client;
            }
            if begun.elapsed() > START || started.child.try_wait()?.is_some() {
                let log = std::fs::read_to_string(started._folder.path().join("log")).unwrap_or_default();
                bail!("the server is not ready after {:?}:\n{log}", begun.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        started.ready = begun.elapsed();
        Ok(Self { client, kubeconfig, processes: vec![started.child.id()], started: Some(started) })
    }

    /// This program again, as the bare server.
    pub(super) async fn bare() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir_in("/var/tmp").context("make a folder on a real disk")?;
        let (port, begun) = (free_port()?, Instant::now());
        let child = Command::new(std::env::current_exe()?)
            .args([bare::COMMAND, &port.to_string()])
            .arg(folder.path())
            .stdin(Stdio::null())
            .spawn()
            .context("start the bare server")?;
        let started = Started { child, ready: Duration::ZERO, _folder: folder };
        let mut config = Config::new(format!("https://127.0.0.1:{port}").parse()?);
        config.accept_invalid_certs = true;
        let client = Client::try_from(config)?;
        while client.request_text(http::Request::get("/readyz").body(Vec::new())?).await.is_err() {
            anyhow::ensure!(begun.elapsed() < START, "the bare server does not answer");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let kubeconfig = Kubeconfig::default();
        Ok(Self { client, kubeconfig, processes: vec![started.child.id()], started: Some(started) })
    }

    /// Whose costs count.
    pub(super) fn usage(&self) -> Usage {
        Usage::of(self.processes.clone())
    }

    /// What the start took, where it was ours, and memory before anything was asked.
    pub(super) async fn beginning(&self) -> anyhow::Result<Values> {
        let mut values = Values::new();
        if let Some(started) = &self.started {
            values.insert("start-to-ready".into(), (started.ready.as_secs_f64() * 1e3, "ms"));
        }
        tokio::time::sleep(SETTLE).await;
        values.insert("memory/idle".into(), (self.usage().resident()? / MIB, "MiB"));
        Ok(values)
    }

    /// Ends what was started.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        tokio::task::spawn_blocking(move || drop(self.started)).await?;
        Ok(())
    }
}

/// A client, once the kubeconfig is there and the server says that it is ready.
async fn ready(kubeconfig: &Path, port: u16) -> Option<(Client, Kubeconfig)> {
    let mut kubeconfig = Kubeconfig::read_from(kubeconfig).ok()?;
    for cluster in &mut kubeconfig.clusters {
        cluster.cluster.as_mut()?.server = Some(format!("https://127.0.0.1:{port}"));
    }
    let config =
        Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default()).await.ok()?;
    let client = Client::try_from(config).ok()?;
    client.request_text(http::Request::get("/readyz").body(Vec::new()).ok()?).await.ok()?;
    Some((client, kubeconfig))
}

/// A port that is free now; another program could take it before the server does, which then says so.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
