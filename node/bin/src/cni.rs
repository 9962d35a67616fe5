//! The CNI plugin's way in: environment and standard input to [`skep_network::plugin`], its answer to standard output.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use skep_network::configuration::{LOOPBACK, PLUGIN};
use skep_network::plugin::{self, Invocation};

/// Whether this process was called by one of the plugin's names, and if so whether as `loopback`.
pub(crate) fn called_as_plugin() -> Option<bool> {
    let name = std::env::args_os().next()?;
    match Path::new(&name).file_name()?.to_str()? {
        PLUGIN => Some(false),
        LOOPBACK => Some(true),
        _ => None,
    }
}

/// Runs one invocation of the plugin.
pub(crate) fn main(loopback: bool) -> ExitCode {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let mut input = Vec::new();
    if let Err(error) = std::io::stdin().read_to_end(&mut input) {
        eprintln!("cannot read the network configuration: {error}");
        return ExitCode::FAILURE;
    }
    let invocation = Invocation {
        command: variable("CNI_COMMAND"),
        container_id: variable("CNI_CONTAINERID"),
        namespace: variable("CNI_NETNS"),
        interface: variable("CNI_IFNAME"),
        input,
        loopback,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (answer, success) = runtime.block_on(plugin::run(&invocation));
    if !answer.is_empty() {
        println!("{answer}");
    }
    if success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
