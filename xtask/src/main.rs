//! Developer commands: `cargo xtask --help`.
//!
//! One file per command. They build, start and check what the other folders contain; none of the cluster's own logic
//! is here.

mod bench;
mod build;
mod demo;
mod diagnosis;
mod down;
mod ebpf;
mod fuzz;
mod images;
mod packages;
mod progress;
mod status;
mod test;
mod tidy;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, runs and checks Skep.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring up a cluster on this machine: a control plane, two nodes and a demo service (needs root).
    ///
    /// Installs what is missing, builds everything, starts what does not run, and waits until the demo answers from
    /// outside the cluster. Run it again at any time: it only does what is left to do.
    Up(up::Arguments),
    /// Remove every trace of the cluster that `up` made, also after a crash (needs root).
    Down,
    /// Show what runs: processes, nodes, pods and services.
    Status,
    /// Print the path of the cluster's kubeconfig, for `export KUBECONFIG=$(cargo xtask kubeconfig)`.
    Kubeconfig,
    /// Build the eBPF object alone, in release, and list its programs.
    BuildEbpf(ebpf::Arguments),
    /// Run every tier of tests, or with `--fast` those that need no root.
    Test(test::Arguments),
    /// Check the invariants of the source tree.
    Tidy,
    /// Run benchmarks and print each figure beside its baseline.
    Bench(bench::Arguments),
    /// Fuzz what reads bytes of clients and packets, each target for a while.
    Fuzz(fuzz::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Up(arguments) => up::run(&arguments).map(|_| ()),
        Command::Down => down::run(),
        Command::Status => status::run(),
        Command::Kubeconfig => status::kubeconfig(),
        Command::BuildEbpf(arguments) => ebpf::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Tidy => tidy::run(),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Fuzz(arguments) => fuzz::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Fails in one line unless the command runs as root.
fn need_root(command: &str) -> anyhow::Result<()> {
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "`cargo xtask {command}` makes namespaces and loads eBPF programs: run it as root"
    );
    Ok(())
}

/// The root of the repository.
fn root() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the repository")
        .to_owned()
}
