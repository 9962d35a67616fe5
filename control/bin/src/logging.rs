//! Log lines on standard error, and whether they arrive there.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_subscriber::EnvFilter;

use crate::flags::LogFormat;

/// Starts logging. A filter that cannot be read means `info`, and says so.
pub(crate) fn start(filter: &str, format: LogFormat) {
    let (parsed, problem) = match EnvFilter::try_new(filter) {
        Ok(parsed) => (parsed, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let lines = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(|| Lines);
    match format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => lines.json().init(),
    }
    if let Some(error) = problem {
        tracing::warn!(%error, filter, "cannot read the log filter, logging at info");
    }
}

/// Whether the last line could not be written: the disk is full, or nobody reads any more.
static BROKEN: AtomicBool = AtomicBool::new(false);

/// Whether the last line was written.
pub(crate) fn works() -> bool {
    !BROKEN.load(Ordering::Relaxed)
}

/// Standard error, with an eye on it.
struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = io::stderr().write(bytes);
        let passing = written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted);
        BROKEN.store(written.is_err() && !passing, Ordering::Relaxed);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
