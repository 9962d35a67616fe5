//! Nothing is asked: what the store's threads do then.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use super::REST;
use super::observe::{log_of, size};

const MEASURE: Duration = Duration::from_secs(5);

/// What happened while nothing was asked.
pub(super) struct Idle {
    /// Bytes that threads of the store handed to the kernel for writing, or by which the log grew if that is more.
    pub(super) written: f64,
    /// How often threads of the store went to sleep again.
    pub(super) wake_ups: f64,
}

/// Measures a store that has nothing to do: no call is under way, no key expires soon.
pub(super) async fn measure(path: &Path) -> anyhow::Result<Idle> {
    tokio::time::sleep(REST).await;
    let (log, before) = (size(&log_of(path)), Done::now()?);
    tokio::time::sleep(MEASURE).await;
    let (grown, after) = (size(&log_of(path)) - log, Done::now()?);
    Ok(Idle { written: grown.max(after.written - before.written), wake_ups: after.sleeps - before.sleeps })
}

/// What the threads of the store have done so far.
#[derive(Default)]
struct Done {
    /// Bytes written, by any call.
    written: f64,
    /// How often they went to sleep.
    sleeps: f64,
}

impl Done {
    fn now() -> anyhow::Result<Self> {
        let mut done = Self::default();
        let mut threads = 0;
        for task in std::fs::read_dir("/proc/self/task")? {
            let folder = task?.path();
            let read = |name: &str| std::fs::read_to_string(folder.join(name));
            if !read("comm")?.starts_with("store-") {
                continue;
            }
            threads += 1;
            done.written += number_after(&read("io")?, "wchar:")?;
            done.sleeps += number_after(&read("status")?, "\nvoluntary_ctxt_switches:")?;
        }
        anyhow::ensure!(threads == 2, "the store has {threads} threads, not a writer and a checkpointer");
        Ok(done)
    }
}

fn number_after(text: &str, name: &str) -> anyhow::Result<f64> {
    let rest = text.split_once(name).with_context(|| format!("no {name} in /proc"))?.1;
    let number = rest.split_whitespace().next().with_context(|| format!("no number after {name}"))?;
    Ok(number.parse()?)
}
