//! `cargo xtask build-ebpf`: the eBPF object, its programs, and whether the kernel takes them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use skep_harness::command::{self, output};

use crate::packages;

/// Arguments of `build-ebpf`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Have the kernel verify every program (needs root).
    #[arg(long)]
    check: bool,
}

/// One program in the object.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Program {
    name: String,
    section: String,
}

/// Builds the object and says what it contains.
pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.check {
        crate::need_root("build-ebpf --check")?;
    }
    let (object, compiler) = build()?;
    let size = std::fs::metadata(&object)?.len();
    println!("{}: {size} bytes, built with {compiler}", object.display());
    for program in programs(&object)? {
        println!("  {:<24} {}", program.name, program.section);
    }
    if arguments.check {
        println!("{}", verify(&object)?);
    }
    Ok(())
}

/// Builds the object in release. Returns its path and the compiler that was used.
pub fn build() -> Result<(PathBuf, String)> {
    let folder = crate::root().join("ebpf/programs");
    let toolchain = Toolchain::find()?;
    let mut command = toolchain.cargo();
    command.current_dir(&folder).args(["build", "--release", "--quiet", "--target", "bpfel-unknown-none"]);
    if let Some(linker) = packages::bpf_linker() {
        let mut path = vec![linker.parent().context("bpf-linker lies in a folder")?.to_owned()];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        command.env("PATH", std::env::join_paths(path)?);
    }
    // The object has its own flags and its own target folder, whatever the caller set for the workspace.
    for variable in
        ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET", "RUSTUP_TOOLCHAIN"]
    {
        command.env_remove(variable);
    }
    toolchain.configure(&mut command);
    output(&mut command).context("the eBPF object cannot be built")?;
    Ok((object_path(), toolchain.describe()))
}

/// Where the object is after a build.
pub fn object_path() -> PathBuf {
    crate::root().join("ebpf/programs/target/bpfel-unknown-none/release/skep-programs")
}

/// Where the XDP program for the far ends of development uplinks is after a build.
pub fn wire_path() -> PathBuf {
    object_path().with_file_name("skep-wire")
}

/// What compiles for the BPF target on this machine.
enum Toolchain {
    /// Debian's compiler with its `core` for the BPF target.
    Debian,
    /// A rustup nightly with `rust-src`.
    Nightly,
}

impl Toolchain {
    /// The first that is there.
    fn find() -> Result<Self> {
        let core = Path::new("/usr/lib/rustlib/bpfel-unknown-none");
        if Path::new("/usr/bin/cargo").exists() && core.exists() {
            packages::check_ebpf()?;
            return Ok(Self::Debian);
        }
        let sysroot = command::run("rustc", &["+nightly", "--print", "sysroot"]).unwrap_or_default();
        if !sysroot.is_empty() && Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").exists()
        {
            if packages::bpf_linker().is_none() {
                bail!("bpf-linker is missing: cargo install bpf-linker");
            }
            return Ok(Self::Nightly);
        }
        packages::check_ebpf()?;
        bail!(
            "no compiler for the BPF target: apt-get install rustc-web libstd-rust-web-dev-bpf, or rustup component add rust-src --toolchain nightly"
        );
    }

    fn cargo(&self) -> Command {
        match self {
            Self::Debian => Command::new("/usr/bin/cargo"),
            Self::Nightly => Command::new("cargo"),
        }
    }

    fn configure(&self, command: &mut Command) {
        match self {
            Self::Debian => {
                command.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
                command.env("CARGO_RESOLVER_INCOMPATIBLE_RUST_VERSIONS", "fallback");
                // Rustup's own variables would lead Debian's cargo to rustup's compiler.
                command.env_remove("RUSTC_WRAPPER").env_remove("CARGO");
            }
            Self::Nightly => {
                command.env("RUSTUP_TOOLCHAIN", "nightly").args(["-Z", "build-std=core"]);
                command.env_remove("CARGO").env_remove("RUSTC");
            }
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Debian => command::run("/usr/bin/rustc", &["--version"]),
            Self::Nightly => command::run("rustc", &["+nightly", "--version"]),
        }
        .map_or_else(|_| "an unknown compiler".to_owned(), |version| version.trim().to_owned())
    }
}

/// The programs of the object, from its symbol table: functions in a section of their own.
fn programs(object: &Path) -> Result<Vec<Program>> {
    let listing = command::run("readelf", &["--symbols", "--sections", "--wide", &object.to_string_lossy()])?;
    Ok(parse_listing(&listing))
}

fn parse_listing(listing: &str) -> Vec<Program> {
    let mut sections = std::collections::BTreeMap::new();
    let mut programs = Vec::new();
    for line in listing.lines() {
        if let Some((index, rest)) = line.trim_start().strip_prefix('[').and_then(|rest| rest.split_once(']'))
        {
            if let (Ok(index), Some(name)) = (index.trim().parse::<u32>(), rest.split_whitespace().next()) {
                sections.insert(index, name.to_owned());
            }
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [_, _, _, "FUNC", "GLOBAL", _, index, name] = words.as_slice() {
            let section = index.parse().ok().and_then(|index: u32| sections.get(&index));
            if let Some(section) = section.filter(|section| *section != ".text") {
                programs.push(Program { name: (*name).to_owned(), section: section.clone() });
            }
        }
    }
    programs.sort_by(|one, other| one.name.cmp(&other.name));
    programs
}

/// Loads every program into the kernel and drops it again.
fn verify(object: &Path) -> Result<String> {
    let count = programs(object)?.len();
    let folder = PathBuf::from(format!("/run/skep-verify-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let load = || -> Result<()> {
        command::run("mount", &["-t", "bpf", "bpf", &folder.to_string_lossy()])?;
        let pins = folder.join("programs").to_string_lossy().into_owned();
        let loaded = load_all(object, &pins).and_then(|()| Ok(std::fs::read_dir(&pins)?.count()));
        command::run("umount", &[&folder.to_string_lossy()])?;
        let loaded = loaded?;
        anyhow::ensure!(
            loaded == count,
            "the object has {count} programs, but the kernel was given {loaded}"
        );
        Ok(())
    };
    let result = load();
    std::fs::remove_dir(&folder).ok();
    result?;
    let kernel = command::run("uname", &["-r"])?;
    Ok(format!("Linux {} accepts all {count} programs", kernel.trim()))
}

/// Has bpftool load every program and pin it under `pins`.
fn load_all(object: &Path, pins: &str) -> Result<()> {
    let output = Command::new("bpftool")
        .args(["prog", "loadall", &object.to_string_lossy(), pins])
        .output()
        .context("bpftool")?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "the kernel refuses the object: {}", said.trim());
    btf_accepted(&said)
}

/// Fails when libbpf has gone on without the object's BTF, which the kernel did not take: maps would have no types then.
fn btf_accepted(said: &str) -> Result<()> {
    match said.lines().find(|line| line.contains("BTF loading error")) {
        Some(line) => bail!("the kernel refuses the object's BTF: {}", line.trim()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn btf_accepted_unless_libbpf_went_on_without_it() {
        assert!(btf_accepted("Warning: bpftool is now running in libbpf strict mode").is_ok());
        let error = btf_accepted("one\nlibbpf: Error loading BTF: -22\nlibbpf: BTF loading error: -22\n")
            .unwrap_err();
        assert_eq!(error.to_string(), "the kernel refuses the object's BTF: libbpf: BTF loading error: -22");
    }

    #[test]
    fn parse_listing_keeps_functions_with_a_section_of_their_own() {
        let listing = "\
  [ 1] .text             PROGBITS        0000000000000000 000040 000000 00  AX  0   0  4
  [ 3] xdp               PROGBITS        0000000000000000 000040 000010 00  AX  0   0  8
    11: 0000000000000000   152 FUNC    GLOBAL DEFAULT    3 uplink
    12: 0000000000000000   152 FUNC    LOCAL  DEFAULT    3 inner
    13: 0000000000000000    16 FUNC    GLOBAL DEFAULT    1 memset
    14: 0000000000000000    32 OBJECT  GLOBAL DEFAULT    5 SERVICES";
        assert_eq!(parse_listing(listing), [Program { name: "uplink".into(), section: "xdp".into() }]);
    }
}
