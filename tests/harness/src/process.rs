//! Long-running programs: started detached with a log file and a pid file, found again, ended.
//!
//! A pid file also holds the start time of the process, so that a pid that was used again is never taken for ours.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::layout::Layout;

/// How often a state that has no event is looked at.
const POLL: Duration = Duration::from_millis(50);

/// A process that was started under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its pid in the machine's pid namespace.
    pub pid: i32,
    /// Its start time in clock ticks after boot.
    pub start: u64,
}

/// Where a command runs.
#[derive(Clone, Debug)]
pub enum Place {
    /// In a network namespace, otherwise as on the machine.
    Network(String),
    /// In the mount, network and UTS namespaces of a process.
    Machine(i32),
}

impl Place {
    /// `program` with `arguments`, as a command that runs in this place.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        match self {
            Self::Network(name) => command.arg(format!("--net=/run/netns/{name}")),
            Self::Machine(pid) => command.args(["-t", &pid.to_string(), "-m", "-n", "-u"]),
        };
        command.arg(program);
        command
    }
}

/// Starts `command` detached from the terminal, its output going to the log of `name`.
pub fn start(layout: &Layout, name: &str, command: &mut Command) -> Result<Process> {
    let log_path = layout.log(name);
    fs::create_dir_all(log_path.parent().context("a log has a folder")?)?;
    fs::create_dir_all(layout.run.join("pids"))?;
    let log = File::create(&log_path).with_context(|| format!("cannot write {}", log_path.display()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let pid = i32::try_from(child.id())?;
    let Some(start) = start_time(pid) else {
        let status = child.wait()?;
        bail!("{name} ended at once ({status}); its log is {}", log_path.display());
    };
    fs::write(pid_file(layout, name), format!("{pid} {start}\n"))?;
    Ok(Process { pid, start })
}

/// The running process of this name, if there is one.
pub fn find(layout: &Layout, name: &str) -> Option<Process> {
    let text = fs::read_to_string(pid_file(layout, name)).ok()?;
    let (pid, start) = text.trim().split_once(' ')?;
    let process = Process { pid: pid.parse().ok()?, start: start.parse().ok()? };
    (start_time(process.pid) == Some(process.start)).then_some(process)
}

/// Asks the process of this name to end, waits up to `patience`, then kills it. Nothing happens when it does not run.
pub fn stop(layout: &Layout, name: &str, patience: Duration) -> Result<bool> {
    let found = find(layout, name);
    if let Some(process) = found {
        let pid = Pid::from_raw(process.pid);
        kill(pid, Signal::SIGTERM).ok();
        if wait_until(patience, || start_time(process.pid) != Some(process.start)).is_err() {
            kill(pid, Signal::SIGKILL).ok();
            wait_until(Duration::from_secs(5), || start_time(process.pid) != Some(process.start))
                .with_context(|| format!("{name} (pid {pid}) cannot be ended"))?;
        }
    }
    fs::remove_file(pid_file(layout, name)).ok();
    Ok(found.is_some())
}

/// Waits until `condition` holds, looking at it every 50 ms.
pub fn wait_until(patience: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + patience;
    while !condition() {
        if Instant::now() >= end {
            bail!("not reached within {} s", patience.as_secs());
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// The processes whose namespace of this `kind` (`net`, `mnt`) is the one that `file` stands for.
pub fn in_namespace(kind: &str, file: &Path) -> Vec<i32> {
    use std::os::unix::fs::MetadataExt;
    let Ok(wanted) = fs::metadata(file).map(|meta| meta.ino()) else { return Vec::new() };
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| fs::metadata(format!("/proc/{pid}/ns/{kind}")).is_ok_and(|meta| meta.ino() == wanted))
        .collect()
}

/// Kills processes and waits until they are gone.
pub fn kill_all(pids: &[i32]) {
    for pid in pids {
        kill(Pid::from_raw(*pid), Signal::SIGKILL).ok();
    }
    wait_until(Duration::from_secs(5), || pids.iter().all(|pid| start_time(*pid).is_none())).ok();
}

/// The last lines of a process's log, for an error message.
pub fn log_tail(layout: &Layout, name: &str, lines: usize) -> String {
    let text = fs::read_to_string(layout.log(name)).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn pid_file(layout: &Layout, name: &str) -> PathBuf {
    layout.run.join("pids").join(name)
}

/// Start time of a process in clock ticks after boot (`/proc/PID/stat`, field 22); `None` when it is gone or a zombie.
/// A zombie that is our own child is collected.
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if fields.first() == Some(&"Z") {
        nix::sys::wait::waitpid(Pid::from_raw(pid), Some(nix::sys::wait::WaitPidFlag::WNOHANG)).ok();
        return None;
    }
    fields.get(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(folder: &Path) -> Layout {
        Layout {
            state: folder.join("state"),
            run: folder.join("run"),
            nodes: Vec::new(),
            controls: Vec::new(),
        }
    }

    #[test]
    fn stop_running_process_ends_it_and_forgets_it() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout(folder.path());
        let started = start(&layout, "sleeper", Command::new("sleep").arg("60")).unwrap();
        assert_eq!(find(&layout, "sleeper"), Some(started));
        assert!(stop(&layout, "sleeper", Duration::from_secs(5)).unwrap());
        assert_eq!(find(&layout, "sleeper"), None);
        assert!(!stop(&layout, "sleeper", Duration::from_secs(5)).unwrap());
    }

    #[test]
    fn find_pid_of_another_start_is_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout(folder.path());
        fs::create_dir_all(layout.run.join("pids")).unwrap();
        let own = std::process::id();
        fs::write(pid_file(&layout, "stale"), format!("{own} 1\n")).unwrap();
        assert_eq!(find(&layout, "stale"), None);
    }
}
