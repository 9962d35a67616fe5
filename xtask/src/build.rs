//! Builds the workspace's binaries and says where they are.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::progress::Outcome;

/// Builds these binaries of the workspace (package names) with the development profile, or in release.
pub fn binaries(packages: &[&str], release: bool) -> Result<Outcome> {
    let mut command = cargo();
    command.args(["build", "--quiet"]);
    for package in packages {
        command.args(["--package", package]);
    }
    if release {
        command.arg("--release");
    }
    run_visible(&mut command)?;
    Ok(Outcome::Checked(if release { "release".into() } else { String::new() }))
}

/// Where a binary of the workspace is after a build.
pub fn binary(name: &str, release: bool) -> PathBuf {
    target_folder().join(if release { "release" } else { "debug" }).join(name)
}

/// The target folder that cargo uses for the workspace.
pub fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::root().join("target"), PathBuf::from)
}

/// cargo, in the root of the repository, as it called this program. What it told this program about the package that this
/// is stays here: build scripts look at these variables (ring's does), and half of the dependencies would be built anew
/// each time somebody calls cargo now here, now from the shell.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::root());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_")
            || name.to_string_lossy().starts_with("CARGO_MANIFEST_")
        {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command that shows the person what it says.
pub fn run_visible(command: &mut Command) -> Result<()> {
    let line = skep_harness::command::describe(command);
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}
