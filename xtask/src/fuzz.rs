//! `cargo xtask fuzz`: the targets of `tests/fuzz` with libFuzzer, on whatever toolchain builds the rest.
//!
//! The compiler's own coverage passes are all that libFuzzer needs; the address sanitizer, for which `cargo fuzz` wants a
//! nightly toolchain, would look for faults that code without `unsafe` does not have.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::build;

/// What makes code tell a fuzzer where it has been.
const INSTRUMENTED: [&str; 7] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Clink-dead-code",
];
/// The target that asks a whole server, which takes by far the longest to build.
const SERVER: &str = "request";
/// The longest input, in bytes.
const LONGEST: &str = "-max_len=8192";

/// Arguments of `fuzz`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only targets whose name contains this.
    name: Option<String>,
    /// How long each target runs.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Instead of running, leave of the corpus what no other input of it makes superfluous, new finds included.
    #[arg(long)]
    minimize: bool,
}

/// Builds the targets and runs them one after the other; finds go to `target/fuzz`, crashes to `tests/fuzz/cases`.
pub fn run(arguments: &Arguments) -> Result<()> {
    let root = crate::root();
    let host = host()?;
    let mut command = build::cargo();
    command.args(["build", "--quiet", "--profile", "fuzz", "--package", "skep-fuzz", "--bins"]);
    let wanted = arguments.name.as_deref().unwrap_or_default();
    if !SERVER.contains(wanted) {
        command.arg("--no-default-features");
    }
    command.args(["--features", "libfuzzer", "--target", &host, "--target-dir", "target/fuzz"]);
    command.env("CARGO_ENCODED_RUSTFLAGS", INSTRUMENTED.join("\x1f")).current_dir(&root);
    build::run_visible(&mut command)?;
    let mut failed = Vec::new();
    for entry in fs::read_dir(root.join("tests/fuzz/corpus")).context("there is no corpus")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.contains(wanted) && one(&root, &host, &name, arguments).is_err() {
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!(
            "{} failed: their inputs are in tests/fuzz/cases, where `cargo test` finds them",
            failed.join(", ")
        );
    }
    Ok(())
}

fn one(root: &Path, host: &str, name: &str, arguments: &Arguments) -> Result<()> {
    let found = root.join("target/fuzz/found").join(name);
    let cases = root.join("tests/fuzz/cases").join(name);
    let seeds = root.join("tests/fuzz/corpus").join(name);
    fs::create_dir_all(&found)?;
    fs::create_dir_all(&cases)?;
    let mut command = std::process::Command::new(root.join("target/fuzz").join(host).join("fuzz").join(name));
    command.args([LONGEST, "-timeout=10", "-rss_limit_mb=4096", "-print_final_stats=1"]);
    command.arg(format!("-artifact_prefix={}/", cases.display()));
    match arguments.minimize {
        true => command.arg("-merge=1").arg(&seeds).arg(&found),
        false => command.arg(format!("-max_total_time={}", arguments.seconds)).arg(&found).arg(&seeds),
    };
    println!("{name}");
    let outcome = build::run_visible(&mut command);
    // Removes it only if it is empty.
    fs::remove_dir(&cases).ok();
    outcome
}

/// The triple of this machine: said, so that build scripts and macros are left as they are.
fn host() -> Result<String> {
    let mut command = std::process::Command::new("rustc");
    let said = skep_harness::command::output(command.arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not say what it builds for")
}
