//! `skep-node`: the node agent's flags, configuration, wiring and signals.
//!
//! Nothing is decided here: each crate of `node/` does its part, and this puts them together.

mod cleanup;
mod cni;
mod flags;
mod host_ports;
mod inspect;
mod logging;
mod pod_links;
mod proxy;
mod run;
mod services;
mod shutdown;

use std::process::ExitCode;

use clap::Parser;

use flags::{Arguments, Command};

fn main() -> ExitCode {
    // The container runtime calls the plugin by the names that the agent installed.
    if let Some(loopback) = cni::called_as_plugin() {
        return cni::main(loopback);
    }
    let arguments = Arguments::parse();
    if let Command::Cni = arguments.command {
        return cni::main(false);
    }
    logging::start(&arguments.log, arguments.log_format);
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
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Cleanup(arguments) => cleanup::run(&arguments),
        Command::Run(arguments) => runtime()?.block_on(run::run(arguments)),
        Command::Proxy(arguments) => runtime()?.block_on(proxy::run(*arguments)),
        Command::Cni => unreachable!("the plugin is handled before logging starts"),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
