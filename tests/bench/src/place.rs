//! Network namespaces for benchmarks, each entered by a thread that does what it is told and gone when that ends.

use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace.
pub struct Place {
    path: PathBuf,
    jobs: mpsc::Sender<Job>,
}

impl Place {
    /// A new one, with a view of `/sys` and a BPF file system of its own.
    ///
    /// # Errors
    /// Not root.
    pub fn new() -> Result<Self> {
        let (jobs, work) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            tell.send(enter()).ok();
            work.into_iter().for_each(|job| job());
        });
        Ok(Self { path: told.recv()??, jobs })
    }

    /// Does `job` there and waits for it.
    ///
    /// # Errors
    /// The job's own, or it panicked.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let (tell, told) = mpsc::channel();
        self.jobs.send(Box::new(move || drop(tell.send(job())))).ok().context("the namespace has ended")?;
        told.recv().context("the job panicked")?
    }

    /// Runs a command there for each line.
    ///
    /// # Errors
    /// One of them failed.
    pub fn commands(&self, lines: impl Into<String>) -> Result<()> {
        let lines = lines.into();
        self.run(move || lines.lines().map(str::trim).filter(|line| !line.is_empty()).try_for_each(command))
    }

    /// The namespace's file.
    pub fn path(&self) -> String {
        self.path.display().to_string()
    }
}

fn enter() -> Result<PathBuf> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).context("unshare: needs root")?;
    let nothing: Option<&str> = None;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
    mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), nothing)?;
    command("ip link set lo up")?;
    let thread = nix::unistd::gettid();
    Ok(PathBuf::from(format!("/proc/{}/task/{thread}/ns/net", std::process::id())))
}

/// Runs one command, without a shell.
///
/// # Errors
/// It failed.
pub fn command(line: &str) -> Result<()> {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().context("an empty command")?)
        .args(words)
        .output()
        .with_context(|| line.to_owned())?;
    ensure!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
