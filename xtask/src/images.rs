//! The images of the demo and the tests, made from local files: no registry is asked.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use skep_harness::command::output;
use skep_harness::image::{self, Entry, Image};

use crate::build;

/// Holds a pod's namespaces.
pub const PAUSE: &str = "localhost/skep/pause:0.1";
/// The echo server, with busybox beside it.
pub const ECHO: &str = "localhost/skep/echo:0.1";

/// Applets of busybox that get a name of their own in the echo image.
const APPLETS: [&str; 24] = [
    "cat", "date", "echo", "env", "false", "grep", "head", "hostname", "id", "ip", "ls", "mkdir", "nc",
    "nslookup", "ping", "ps", "seq", "sh", "sleep", "tail", "touch", "true", "wc", "wget",
];

/// Builds the programs and writes the archives. Returns each archive with its digest.
pub fn build() -> Result<Vec<(PathBuf, String)>> {
    let programs = compile()?;
    let folder = build::target_folder().join("images");
    let pause = Image {
        name: PAUSE.into(),
        entries: vec![Entry::File { path: "/pause".into(), source: programs.join("pause") }],
        entrypoint: vec!["/pause".into()],
    };
    let mut entries = vec![
        Entry::File { path: "/echo".into(), source: programs.join("echo") },
        Entry::File { path: "/bin/busybox".into(), source: "/bin/busybox".into() },
        Entry::Folder { path: "/tmp".into(), mode: 0o1777 },
    ];
    entries.extend(
        APPLETS.iter().map(|applet| Entry::Link { path: format!("/bin/{applet}"), target: "busybox".into() }),
    );
    let echo = Image { name: ECHO.into(), entries, entrypoint: vec!["/echo".into()] };
    [(pause, "pause.tar"), (echo, "echo.tar")]
        .into_iter()
        .map(|(image, file)| {
            let archive = folder.join(file);
            let digest = image::write(&image, &archive)?;
            Ok((archive, digest))
        })
        .collect()
}

/// Links the programs statically, in a target folder of their own: they run in images without a C library.
fn compile() -> Result<PathBuf> {
    let target = build::target_folder().join("static");
    let mut command = build::cargo();
    command.args(["build", "--quiet", "--release", "--package", "skep-images"]);
    // Naming the host as target keeps the static flags away from build scripts and procedural macros.
    let host = host_target()?;
    command.args(["--target", &host]).arg("--target-dir").arg(&target);
    command.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    output(&mut command).context("the images' programs cannot be built")?;
    Ok(Path::new(&target).join(host).join("release"))
}

fn host_target() -> Result<String> {
    let said = skep_harness::command::run("rustc", &["--version", "--verbose"])?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say its host")?.to_owned())
}
