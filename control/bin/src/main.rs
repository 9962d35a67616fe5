//! `skep-control`: the control plane's flags, configuration, wiring and signals.
//!
//! Nothing is decided here: the crates of `control/` do the work, and this puts them together, either all in one process
//! (`run`) or one by one.

mod admission;
mod alone;
mod auth;
mod components;
mod copies;
mod credentials;
mod election;
mod flags;
mod keys;
mod logging;
mod metrics;
mod run;
mod shutdown;
mod store;

use std::process::ExitCode;

use clap::Parser;

use flags::{Arguments, Command};

/// Objects come and go by the thousand, in sizes of all kinds.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    logging::start(&arguments.log, arguments.log_format);
    // Both TLS libraries in the process ask for a default; everything here uses ring.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match start(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(command: Command) -> anyhow::Result<()> {
    match command {
        Command::NodeCredentials(arguments) => credentials::issue(&arguments),
        Command::Backup(arguments) => copies::backup(&arguments),
        Command::Restore(arguments) => copies::restore(&arguments),
        Command::Migrate(arguments) => runtime()?.block_on(copies::move_state(&arguments)),
        Command::Run(arguments) => runtime()?.block_on(run::everything(arguments)),
        Command::Apiserver(arguments) => runtime()?.block_on(run::api_server(arguments)),
        Command::Scheduler(arguments) => runtime()?.block_on(alone::scheduler(arguments)),
        Command::ControllerManager(arguments) => runtime()?.block_on(alone::controllers(arguments)),
    }
}

/// Whoever has just been heard of is to wait as little behind those who were there before as turns at the processors are
/// short: so the network is looked at in every round, which is up to four tasks, and not in every 61st, which costs a system
/// call; and so is what other threads have woken, such as the store's.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    Ok(runtime.event_interval(1).global_queue_interval(1).enable_all().build()?)
}
