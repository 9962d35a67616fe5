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
}

/// Builds and runs the benchmarks.
pub fn run(arguments: &Arguments) -> Result<()> {
    crate::need_root("bench")?;
    let (object, _) = ebpf::build()?;
    let mut command = build::cargo();
    command.args(["run", "--quiet", "--release", "--package", "skep-bench", "--"]);
    command.arg("--ebpf-object").arg(object);
    command.args(arguments.json.then_some("--json")).args(arguments.name.iter());
    build::run_visible(&mut command)
}
