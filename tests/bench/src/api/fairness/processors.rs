//! Which processors a server has, and which its clients: as if they were on machines of their own.
//!
//! What a process starts stays where the thread is that starts it; so servers and clients are started by one thread that
//! moves in between.

use anyhow::Context as _;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// This thread, on the first half of the processors or the second.
pub(in super::super) struct Processors {
    servers: CpuSet,
    clients: CpuSet,
}

impl Processors {
    /// Halves those that this thread may use.
    ///
    /// # Errors
    /// There is only one.
    pub(in super::super) fn halved() -> anyhow::Result<Self> {
        let usable = sched_getaffinity(Pid::from_raw(0))?;
        let all: Vec<usize> =
            (0..CpuSet::count()).filter(|one| usable.is_set(*one).unwrap_or(false)).collect();
        anyhow::ensure!(all.len() > 1, "clients need a processor beside the server's, and there is only one");
        let (servers, clients) = all.split_at(all.len() / 2);
        Ok(Self { servers: set(servers)?, clients: set(clients)? })
    }

    /// What is started from now on is a server.
    ///
    /// # Errors
    /// As of the system call.
    pub(in super::super) fn of_servers(&self) -> anyhow::Result<()> {
        sched_setaffinity(Pid::from_raw(0), &self.servers).context("move to the servers' processors")
    }

    /// What this thread does and starts from now on is a client.
    ///
    /// # Errors
    /// As of the system call.
    pub(in super::super) fn of_clients(&self) -> anyhow::Result<()> {
        sched_setaffinity(Pid::from_raw(0), &self.clients).context("move to the clients' processors")
    }

    /// Moves servers that run already to the servers' processors, with all their threads.
    ///
    /// # Errors
    /// One has ended.
    pub(in super::super) fn take(&self, processes: &[u32]) -> anyhow::Result<()> {
        for process in processes {
            let threads = std::fs::read_dir(format!("/proc/{process}/task"));
            for thread in threads.with_context(|| format!("process {process}"))? {
                let id = thread?.file_name().to_string_lossy().parse()?;
                // A thread may end in the meantime.
                sched_setaffinity(Pid::from_raw(id), &self.servers).ok();
            }
        }
        Ok(())
    }
}

fn set(processors: &[usize]) -> anyhow::Result<CpuSet> {
    let mut set = CpuSet::new();
    for one in processors {
        set.set(*one)?;
    }
    Ok(set)
}
