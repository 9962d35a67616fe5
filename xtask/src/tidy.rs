//! `cargo xtask tidy`: the invariants of the tree that neither the compiler nor clippy knows.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use skep_harness::command::output;

use crate::{build, packages};

/// A file may not be longer than this, in lines.
const LINES: usize = 600;
/// Module names that say nothing about a role.
const VAGUE: [&str; 5] = ["utils", "util", "common", "helpers", "manager"];
/// A crate and the only crates that may depend on it.
const USERS: [(&str, &[&str]); 4] = [
    ("skep-store", &["skep-server", "skep-control", "skep-bench", "skep-fuzz"]),
    ("skep-server", &["skep-control", "skep-bench", "skep-fuzz"]),
    ("aya", &["skep-dataplane", "skep-datapath-tests"]),
    ("skep-api", &["skep-server", "skep-controllers", "skep-control", "skep-bench", "skep-fuzz"]),
];
/// Folders in which flags, the environment and signals may be read.
const OUTER: [&str; 5] = ["control/bin", "node/bin", "xtask", "tests", "ebpf"];

/// Checks the tree; every fault is one line.
pub fn run() -> Result<()> {
    let root = crate::root();
    let mut faults = Vec::new();
    let files = sources(&root)?;
    for (path, text) in &files {
        check_file(path, text, &mut faults);
    }
    let metadata = metadata()?;
    check_dependencies(&metadata, &mut faults)?;
    let licences = check_licences(&mut faults);
    let format = output(build::cargo().args(["fmt", "--all", "--check"]));
    if format.is_err() {
        faults.push("the code is not formatted: run `cargo fmt --all`".to_owned());
    }
    if faults.is_empty() {
        println!("tidy: {} source files, no fault; {licences}", files.len());
        return Ok(());
    }
    bail!("{} faults in the tree:\n  {}", faults.len(), faults.join("\n  "));
}

/// Every Rust source file of the repository, by its path below the root.
fn sources(root: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let mut open = vec![root.to_owned()];
    let mut files = BTreeMap::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                open.push(path);
            } else if name.ends_with(".rs") {
                let text =
                    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                files.insert(path.strip_prefix(root)?.to_owned(), text);
            }
        }
    }
    Ok(files)
}

fn check_file(path: &Path, text: &str, faults: &mut Vec<String>) {
    let name = path.display();
    let lines = text.lines().count();
    if lines > LINES {
        faults.push(format!("{name}: {lines} lines, more than {LINES}: split it"));
    }
    if !text.trim_start().starts_with("//!") && !text.trim_start().starts_with("#!") {
        faults.push(format!("{name}: does not open with a module comment that says what it owns"));
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let folder = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    if VAGUE.iter().any(|vague| *vague == stem || *vague == folder) {
        faults.push(format!("{name}: the name does not say a role"));
    }
    let outer = OUTER.iter().any(|folder| path.starts_with(folder));
    let tests = path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "examples");
    let exempt = outer
        || tests
        || stem.ends_with("tests")
        || path.ends_with("build.rs")
        || text.contains("SKEP_TEST_TIERS");
    if !exempt && ["std::env::var", "std::env::args", "tokio::signal"].iter().any(|read| text.contains(read))
    {
        faults.push(format!("{name}: only bin/ reads flags, the environment and signals"));
    }
    let allowed = ["ebpf", "node/dataplane", "tests", "xtask"].iter().any(|folder| path.starts_with(folder));
    if !allowed && text.lines().any(is_unsafe) {
        faults.push(format!("{name}: unsafe code belongs to ebpf/ and node/dataplane"));
    }
}

/// Whether a line opens an unsafe block or declares an unsafe item.
fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.split('"')
        .step_by(2)
        .any(|part| part.contains("unsafe {") || part.contains("unsafe fn") || part.contains("unsafe impl"))
}

fn metadata() -> Result<Value> {
    let mut command = build::cargo();
    command.args(["metadata", "--format-version", "1", "--locked"]);
    Ok(serde_json::from_str(&output(&mut command)?)?)
}

fn check_dependencies(metadata: &Value, faults: &mut Vec<String>) -> Result<()> {
    let members: Vec<&str> = metadata["workspace_members"]
        .as_array()
        .context("members")?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for package in metadata["packages"].as_array().context("packages")? {
        if !members.contains(&package["id"].as_str().unwrap_or_default()) {
            continue;
        }
        let user = package["name"].as_str().unwrap_or_default();
        for dependency in package["dependencies"].as_array().context("dependencies")? {
            // Tests may compare with anything.
            if dependency["kind"] == "dev" {
                continue;
            }
            let used = dependency["name"].as_str().unwrap_or_default();
            if let Some((_, allowed)) = USERS.iter().find(|(name, _)| *name == used)
                && !allowed.contains(&user)
                && !user.ends_with("-tests")
            {
                faults.push(format!("{user} depends on {used}, which only {} may", allowed.join(", ")));
            }
        }
    }
    Ok(())
}

/// Licences and sources of dependencies, by the rules of `deny.toml`. Returns what to say about it.
fn check_licences(faults: &mut Vec<String>) -> &'static str {
    if packages::cargo_program("cargo-deny").is_none() {
        return "licences not checked: cargo-deny is not installed";
    }
    let check = ["deny", "--log-level", "error", "check", "licenses", "bans", "sources"];
    if let Err(error) = output(build::cargo().args(check)) {
        faults.push(format!("cargo deny: {error:#}"));
    }
    if !has_advisories() {
        return "licences checked; advisories not checked: `cargo deny fetch db` has not been run";
    }
    if let Err(error) =
        output(build::cargo().args(["deny", "--offline", "--log-level", "error", "check", "advisories"]))
    {
        faults.push(format!("cargo deny: {error:#}"));
    }
    "licences and advisories checked"
}

/// Whether the database of advisories is on this machine. It is never fetched from here: a check needs no network.
fn has_advisories() -> bool {
    packages::cargo_home().is_some_and(|home| {
        ["advisory-dbs", "advisory-db"]
            .iter()
            .any(|name| home.join(name).read_dir().is_ok_and(|mut all| all.next().is_some()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(path: &str, text: &str) -> Vec<String> {
        let mut faults = Vec::new();
        check_file(Path::new(path), text, &mut faults);
        faults
    }

    #[test]
    fn check_file_with_a_module_comment_has_no_fault() {
        assert_eq!(faults_of("node/pods/src/plan.rs", "//! Owns plans.\n"), Vec::<String>::new());
    }

    #[test]
    fn check_file_reports_each_fault() {
        let text = "fn a() { std::env::var(\"A\"); unsafe { b() } }\n";
        assert_eq!(faults_of("node/pods/src/utils.rs", text).len(), 4);
    }

    #[test]
    fn is_unsafe_ignores_comments_and_text() {
        assert!(is_unsafe("let a = unsafe { b() };"));
        assert!(!is_unsafe("// unsafe { b() }"));
        assert!(!is_unsafe("let a = \"unsafe { b() }\";"));
    }
}
