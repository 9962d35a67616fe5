//! kubectl, pointed at a development cluster.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command::{describe, output};

/// kubectl with a kubeconfig.
#[derive(Clone, Debug)]
pub struct Kubectl {
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// kubectl that uses this kubeconfig and nothing from the caller's home.
    pub fn new(kubeconfig: &Path) -> Self {
        Self { kubeconfig: kubeconfig.to_owned() }
    }

    /// The command, with the kubeconfig set and no arguments yet.
    pub fn command(&self) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.kubeconfig).env("KUBECACHEDIR", self.cache());
        command
    }

    /// Runs kubectl to its end; its standard output.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        output(self.command().args(arguments))
    }

    /// Runs kubectl with `input` on its standard input; its standard output.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let line = describe(&command);
        let mut child = command.spawn().with_context(|| format!("cannot start `{line}`"))?;
        match child.stdin.take().context("standard input is piped")?.write_all(input.as_bytes()) {
            // Refused before it had read everything: its answer says why.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            written => written?,
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("`{line}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs kubectl, which must fail; what it said on standard error.
    pub fn fails(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.command();
        let output = command.args(arguments).stdin(Stdio::null()).output()?;
        if output.status.success() {
            bail!("`{}` succeeded: {}", describe(&command), String::from_utf8_lossy(&output.stdout));
        }
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Discovery is cached beside the kubeconfig: another cluster at the same address must not be taken for this one.
    fn cache(&self) -> PathBuf {
        self.kubeconfig.with_extension("cache")
    }
}
