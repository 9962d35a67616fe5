//! One switch that SIGTERM, SIGINT and a failed part turn.

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The switch, which becomes true on the first SIGTERM or SIGINT, and what follows it.
pub(crate) fn on_signal() -> Result<(watch::Sender<bool>, watch::Receiver<bool>)> {
    let (sender, receiver) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let switch = sender.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("ending on SIGTERM"),
            _ = interrupt.recv() => tracing::info!("ending on SIGINT"),
        }
        switch.send_replace(true);
    });
    Ok((sender, receiver))
}
