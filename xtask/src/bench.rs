//! `cargo xtask bench`: the benchmarks of `tests/bench`, in release, as a table or as JSON.

use anyhow::Result;

use crate::{build, ebpf};

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only benchmarks whose name contains this.
    name: Option<String>,
    /// One JSON object per figure: name, value, unit, baseline, ratio.
    #[arg(long)]
    json: bool,
    /// Further arguments of the benchmarks, such as `--kubeconfig F --processes PID,PID` (`-- --help` lists them).
    #[arg(last = true)]
    further: Vec<String>,
}

/// Builds and runs the benchmarks.
pub fn run(arguments: &Arguments) -> Result<()> {
    crate::need_root("bench")?;
    let (object, _) = ebpf::build()?;
    build::binaries(&["skep-control"], true)?;
    let mut command = build::cargo();
    command.args(["run", "--quiet", "--release", "--package", "skep-bench", "--"]);
    command.arg("--ebpf-object").arg(object);
    command.arg("--control").arg(build::binary("skep-control", true));
    command.args(arguments.json.then_some("--json")).args(arguments.name.iter()).args(&arguments.further);
    build::run_visible(&mut command)
}
