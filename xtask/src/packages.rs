//! Debian packages and cargo tools that building and running need, installed when they are missing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use skep_harness::command::output;

use crate::progress::Outcome;

/// To build the workspace: etcd's messages, libbpf.
const BUILD: [&str; 8] = [
    "build-essential",
    "ca-certificates",
    "libelf-dev",
    "libprotobuf-dev",
    "libzstd-dev",
    "pkg-config",
    "protobuf-compiler",
    "zlib1g-dev",
];
/// To build the eBPF object with Debian's compiler.
const EBPF: [&str; 5] = ["bpftool", "cargo-web", "libstd-rust-web-dev-bpf", "llvm-22-dev", "rustc-web"];
/// To run a cluster.
const CLUSTER: [&str; 8] =
    ["busybox-static", "containerd", "ethtool", "iproute2", "kmod", "procps", "runc", "util-linux"];
/// To run a highly available one.
const AVAILABLE: [&str; 3] = ["curl", "etcd-server", "keepalived"];
/// To run the tests.
const TESTS: [&str; 1] = ["prometheus"];

/// The major version of LLVM that bpf-linker is built against.
const LLVM: &str = "22";
/// The release of bpf-linker that fits it.
const BPF_LINKER: &str = "0.13";

/// The releases of cargo-deny that read `deny.toml` as it is.
const CARGO_DENY: &str = "^0.20";

/// What is about to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Build the eBPF object.
    Ebpf,
    /// Build and run a cluster.
    Cluster,
    /// Build and run a highly available one.
    Available,
    /// Run all tests.
    Tests,
}

/// Installs what is missing for `purpose`.
pub fn ensure(purpose: Purpose) -> Result<Outcome> {
    let mut wanted: Vec<&str> = Vec::new();
    wanted.extend(EBPF);
    if purpose != Purpose::Ebpf {
        wanted.extend(BUILD);
        wanted.extend(CLUSTER);
        if find_program("kubectl").is_none() {
            wanted.push("kubernetes-client");
        }
    }
    if matches!(purpose, Purpose::Available | Purpose::Tests) {
        wanted.extend(AVAILABLE);
    }
    if purpose == Purpose::Tests {
        wanted.extend(TESTS);
    }
    let missing = missing(&wanted)?;
    if !missing.is_empty() {
        install(&missing)?;
    }
    let mut said = missing.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    if ensure_bpf_linker()? {
        said.push("bpf-linker".to_owned());
    }
    if purpose == Purpose::Tests && cargo_program("cargo-deny").is_none() {
        let mut command = Command::new("cargo");
        // Not optimised: it reads one lock file, and would take minutes longer to build.
        command.args(["install", "--debug", "--quiet", "--locked", "cargo-deny", "--version", CARGO_DENY]);
        command.env("CARGO_PROFILE_DEV_DEBUG", "none");
        output(&mut command).context("cargo-deny cannot be built")?;
        said.push("cargo-deny".to_owned());
    }
    let said = said.join(" ");
    Ok(if said.is_empty() { Outcome::Already } else { Outcome::Done(said) })
}

/// Fails in one line that names the packages that are missing, installing nothing.
pub fn check_ebpf() -> Result<()> {
    let missing = missing(&EBPF)?;
    if !missing.is_empty() {
        bail!("the eBPF toolchain is incomplete; as root: apt-get install {}", missing.join(" "));
    }
    if bpf_linker().is_none() {
        bail!("bpf-linker is missing; as root `cargo xtask up` installs it, or: {}", install_line());
    }
    Ok(())
}

/// bpf-linker, wherever cargo or the path has it.
pub fn bpf_linker() -> Option<PathBuf> {
    cargo_program("bpf-linker")
}

/// A program that `cargo install` makes, on the path or where cargo puts it.
pub fn cargo_program(name: &str) -> Option<PathBuf> {
    find_program(name).or_else(|| {
        let home = cargo_home()?;
        Some(home.join("bin").join(name)).filter(|path| path.exists())
    })
}

/// Where cargo keeps what is not of one project.
pub fn cargo_home() -> Option<PathBuf> {
    let named = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    named.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))
}

/// A program on the path.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn missing<'a>(wanted: &[&'a str]) -> Result<Vec<&'a str>> {
    if find_program("dpkg-query").is_none() {
        bail!("this is not Debian or Ubuntu: install the equivalents of {} by hand", wanted.join(" "));
    }
    let installed = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${Package} ${db:Status-Abbrev}\n"])
        .args(wanted)
        .stderr(Stdio::null())
        .output()
        .context("cannot ask dpkg what is installed")?;
    let installed = String::from_utf8_lossy(&installed.stdout).into_owned();
    let has = |name: &str| {
        installed
            .lines()
            .any(|line| line.split_once(' ').is_some_and(|(n, state)| n == name && state.starts_with("ii")))
    };
    Ok(wanted.iter().copied().filter(|name| !has(name)).collect())
}

fn install(packages: &[&str]) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("Debian packages are missing; as root: apt-get install {}", packages.join(" "));
    }
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet=2");
        command
    };
    output(apt().arg("update")).context("the package lists cannot be brought up to date")?;
    output(apt().args(["install", "--yes", "--no-install-recommends"]).args(packages))?;
    // Debian starts services on installation; the cluster and the tests start their own.
    for service in ["containerd", "etcd", "keepalived", "prometheus"] {
        if packages.iter().any(|package| package.starts_with(service))
            && Path::new("/run/systemd/system").exists()
        {
            output(Command::new("systemctl").args(["disable", "--now", service])).ok();
        }
    }
    Ok(())
}

fn ensure_bpf_linker() -> Result<bool> {
    if bpf_linker().is_some() {
        return Ok(false);
    }
    let line = install_line();
    let mut words = line.split_whitespace().skip(1);
    let mut command = Command::new(words.next().context("the line names cargo")?);
    command
        .args(words)
        .env("LLVM_PREFIX", llvm_prefix())
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR");
    output(&mut command).context("bpf-linker cannot be built")?;
    Ok(true)
}

fn llvm_prefix() -> String {
    format!("/usr/lib/llvm-{LLVM}")
}

fn install_line() -> String {
    format!(
        "LLVM_PREFIX={} cargo install bpf-linker --quiet --version ^{BPF_LINKER} --no-default-features --features llvm-{LLVM}",
        llvm_prefix()
    )
}
