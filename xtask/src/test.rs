//! `cargo xtask test`: every tier of tests but the last, the weakest first.
//!
//! | tier | needs | what |
//! |---|---|---|
//! | tree | nothing | formatting, licences, invariants of the tree, clippy |
//! | unit | nothing | `cargo test` of the workspace |
//! | kernel | root | packets through the programs in the kernel |
//! | etcd | Debian's etcd | the store's tests on a real etcd |
//! | prometheus | Debian's promtool | the alert rules and the dashboard |
//! | cluster | root | a whole cluster, brought up, driven with kubectl, and removed |
//! | available | root, Debian's etcd and keepalived | the same with three control planes, of which some fail; by `--available` |

use anyhow::{Result, bail};
use skep_harness::cluster::Cluster;
use skep_harness::teardown;

use crate::packages::{self, Purpose};
use crate::progress::{Outcome, Progress};
use crate::{build, down, ebpf, tidy, up};

/// Names the tiers that tests may run in, separated by commas.
const TIERS: &str = "SKEP_TEST_TIERS";

/// Arguments of `test`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only what needs neither root nor other programs: the tree and the unit tests.
    #[arg(long)]
    fast: bool,
    /// Leave the cluster running afterwards.
    #[arg(long, conflicts_with = "fast")]
    keep: bool,
    /// Only a highly available cluster, of which parts are killed and cut off: the tier that the others leave out.
    #[arg(long, conflicts_with = "fast")]
    available: bool,
}

/// Runs the tests; the first tier that fails ends the run.
pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.fast {
        // As root a new machine is made ready; anyone else is told by the build what is missing.
        if nix::unistd::geteuid().is_root() {
            Progress::new().step("install packages", || packages::ensure(Purpose::Tests))?;
        }
        tidy::run()?;
        lint()?;
        return unit(None);
    }
    crate::need_root("test")?;
    let layout = Cluster::new().layout;
    let traces = teardown::traces(&layout);
    if !traces.is_empty() {
        bail!("a cluster is on this machine; the tests bring up their own: run `cargo xtask down` first");
    }
    if arguments.available {
        return cluster(arguments.keep, drive_available);
    }
    let mut progress = Progress::new();
    progress.step("install packages", || packages::ensure(Purpose::Tests))?;
    tidy::run()?;
    lint()?;
    progress.step("build eBPF object", || ebpf::build().map(|(_, compiler)| Outcome::Checked(compiler)))?;
    unit(Some("kernel,etcd,prometheus"))?;
    tables_with_aya()?;
    cluster(arguments.keep, drive)?;
    println!("All tiers passed ({}): tree, unit, kernel, etcd, prometheus, cluster.", progress.elapsed());
    Ok(())
}

/// The packet tables once more: libbpf loaded the object for them, now aya does.
fn tables_with_aya() -> Result<()> {
    let mut command = build::cargo();
    command.args(["test", "--package", "skep-datapath-tests", "--no-fail-fast"]);
    command.env(TIERS, "kernel").env("SKEP_TEST_LOADER", "aya").env("SKEP_EBPF_OBJECT", ebpf::object_path());
    build::run_visible(&mut command)
}

fn lint() -> Result<()> {
    let arguments = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"];
    build::run_visible(build::cargo().args(arguments))
}

/// `cargo test` of the workspace; the tests of further tiers in it run where `tiers` names them.
fn unit(tiers: Option<&str>) -> Result<()> {
    let mut command = build::cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]);
    command.env(TIERS, tiers.unwrap_or_default()).env("SKEP_EBPF_OBJECT", ebpf::object_path());
    build::run_visible(&mut command)
}

/// Brings up a cluster as a newcomer would, drives it, and removes it whatever happens.
fn cluster(keep: bool, drive: fn() -> Result<()>) -> Result<()> {
    let result = drive();
    if keep {
        return result;
    }
    let removed = down::run();
    result.and(removed)
}

fn drive() -> Result<()> {
    let arguments = up::Arguments::default();
    up::run(&arguments)?;
    let changed = up::run(&arguments)?;
    anyhow::ensure!(changed == 0, "a second `up` had to change {changed} things");
    let mut command = build::cargo();
    command
        .args(["test", "--package", "skep-e2e", "--no-fail-fast", "--", "--test-threads=1"])
        .env(TIERS, "cluster");
    build::run_visible(&mut command)
}

fn drive_available() -> Result<()> {
    up::run(&up::Arguments { ha: true, ..up::Arguments::default() })?;
    let mut command = build::cargo();
    command
        .args(["test", "--package", "skep-e2e", "--test", "available", "--", "--test-threads=1"])
        .env(TIERS, "available");
    build::run_visible(&mut command)
}
