//! Log lines on standard error.

use tracing_subscriber::EnvFilter;

use crate::flags::LogFormat;

/// Starts logging. A filter that cannot be read means `info`, and says so.
pub(crate) fn start(filter: &str, format: LogFormat) {
    let (parsed, problem) = match EnvFilter::try_new(filter) {
        Ok(parsed) => (parsed, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let lines = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => lines.json().init(),
    }
    if let Some(error) = problem {
        tracing::warn!(%error, filter, "cannot read the log filter, logging at info");
    }
}
