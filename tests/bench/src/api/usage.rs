//! Processor time and memory of other processes, from `/proc`.

use std::time::Duration;

use anyhow::Context as _;

/// The processes whose costs count.
#[derive(Clone, Debug)]
pub(super) struct Usage {
    processes: Vec<u32>,
}

impl Usage {
    /// Counts these processes.
    pub(super) fn of(processes: Vec<u32>) -> Self {
        Self { processes }
    }

    /// Processor time that they have used since their start, in user space and in the kernel.
    pub(super) fn processor(&self) -> anyhow::Result<Duration> {
        self.sum(|process| {
            let stat = read(process, "stat")?;
            // The name of the program, in parentheses, may hold spaces.
            let fields = stat.rsplit_once(')').context("format of /proc/PID/stat")?.1;
            let mut fields = fields.split_whitespace().skip(11).map(str::parse::<u64>);
            let (user, system) = (fields.next().context("no utime")??, fields.next().context("no stime")??);
            Ok(Duration::from_millis((user + system) * 1000 / ticks_per_second()))
        })
    }

    /// Resident memory of all together, in bytes.
    pub(super) fn resident(&self) -> anyhow::Result<f64> {
        self.processes.iter().try_fold(0.0, |sum, process| {
            let pages = read(*process, "statm")?;
            let pages: f64 = pages.split(' ').nth(1).context("format of /proc/PID/statm")?.parse()?;
            Ok(sum + pages * 4096.0)
        })
    }

    fn sum(&self, of: impl Fn(u32) -> anyhow::Result<Duration>) -> anyhow::Result<Duration> {
        self.processes.iter().try_fold(Duration::ZERO, |sum, process| Ok(sum + of(*process)?))
    }
}

fn read(process: u32, file: &str) -> anyhow::Result<String> {
    let path = format!("/proc/{process}/{file}");
    std::fs::read_to_string(&path).with_context(|| format!("read {path}: has the server ended?"))
}

fn ticks_per_second() -> u64 {
    // `USER_HZ` is 100 on every architecture that Linux shows this file on.
    100
}
