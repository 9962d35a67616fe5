//! Debug messages of the programs, forwarded to `tracing`.
//!
//! Which messages the programs send is a setting in the kernel ([`crate::KernelDataplane::set_log_level`]), off by
//! default; the receiving end costs nothing while none arrive.

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Level, Log, Metadata, Record};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Hands aya-log's records to `tracing`.
struct Forward;

impl Log for Forward {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let place = record.file().map(|file| format!("{file}:{}", record.line().unwrap_or(0)));
        let message = record.args();
        match record.level() {
            Level::Error => tracing::error!(target: "skep_datapath", place, "{message}"),
            Level::Warn => tracing::warn!(target: "skep_datapath", place, "{message}"),
            Level::Info => tracing::info!(target: "skep_datapath", place, "{message}"),
            Level::Debug => tracing::debug!(target: "skep_datapath", place, "{message}"),
            Level::Trace => tracing::trace!(target: "skep_datapath", place, "{message}"),
        }
    }

    fn flush(&self) {}
}

/// Starts forwarding, on the current tokio runtime; without one, or without messages in the object, it does nothing.
pub(crate) fn forward(ebpf: &mut Ebpf) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let logger = match EbpfLogger::init_with_logger(ebpf, Forward) {
        Ok(logger) => logger,
        Err(error) => {
            tracing::debug!(%error, "the programs send no debug messages");
            return;
        }
    };
    // SAFETY: the logger owns its ring buffer's descriptor and gives the same one until it is dropped.
    match unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) } {
        Ok(logger) => drop(runtime.spawn(receive(logger))),
        Err(error) => tracing::warn!(%error, "debug messages of the programs cannot be received"),
    }
}

async fn receive(mut logger: AsyncFd<EbpfLogger<Forward>>) {
    loop {
        match logger.readable_mut().await {
            Ok(mut guard) => {
                guard.get_inner_mut().flush();
                guard.clear_ready();
            }
            Err(error) => {
                tracing::warn!(%error, "debug messages of the programs end here");
                return;
            }
        }
    }
}
