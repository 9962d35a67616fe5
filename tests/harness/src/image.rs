//! OCI image archives from local files, reproducible: the same files give the same digests.
//!
//! Format: OCI image layout 1.0 in a tar, one uncompressed layer per image (it never crosses a network).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// One file of an image.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A copy of a local file, mode 0755.
    File {
        /// Absolute path in the image.
        path: String,
        /// The local file.
        source: PathBuf,
    },
    /// A symbolic link.
    Link {
        /// Absolute path in the image.
        path: String,
        /// What it points to.
        target: String,
    },
    /// An empty folder with this mode.
    Folder {
        /// Absolute path in the image.
        path: String,
        /// Permission bits.
        mode: u32,
    },
}

/// An image to be made.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its full name, `localhost/skep/echo:0.1`.
    pub name: String,
    /// Its files; folders on the way to them are made.
    pub entries: Vec<Entry>,
    /// What runs when nothing else is said.
    pub entrypoint: Vec<String>,
}

/// Writes the image as an archive and returns its manifest digest.
pub fn write(image: &Image, archive: &Path) -> Result<String> {
    let layer = layer(&image.entries)?;
    let layer_digest = digest(&layer);
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Entrypoint": image.entrypoint,
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "WorkingDir": "/",
        },
        "rootfs": { "type": "layers", "diff_ids": [layer_digest] },
        "history": [],
    });
    let config = serde_json::to_vec(&config)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    let manifest = serde_json::to_vec(&manifest)?;
    let mut reference = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    reference["annotations"] = json!({ "io.containerd.image.name": image.name });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [reference],
    });

    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
    append(&mut tar, "index.json", &serde_json::to_vec(&index)?, 0o644)?;
    for blob in [&manifest, &config, &layer] {
        let name = format!("blobs/{}", digest(blob).replace(':', "/"));
        append(&mut tar, &name, blob, 0o644)?;
    }
    if let Some(folder) = archive.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(archive, tar.into_inner()?).with_context(|| format!("cannot write {}", archive.display()))?;
    Ok(digest(&manifest))
}

/// The root file system as one tar: folders first, each once.
fn layer(entries: &[Entry]) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut folders = std::collections::BTreeMap::new();
    for entry in entries {
        let (path, mode) = match entry {
            Entry::Folder { path, mode } => (Path::new(path), Some(*mode)),
            Entry::File { path, .. } | Entry::Link { path, .. } => (Path::new(path), None),
        };
        for parent in path.ancestors().skip(1) {
            folders.entry(parent.to_owned()).or_insert(0o755);
        }
        if let Some(mode) = mode {
            folders.insert(path.to_owned(), mode);
        }
    }
    for (path, mode) in folders {
        if path != Path::new("/") {
            let mut header = header(tar::EntryType::Directory, mode, 0);
            tar.append_data(&mut header, relative(&path), std::io::empty())?;
        }
    }
    for entry in entries {
        match entry {
            Entry::File { path, source } => {
                let contents =
                    fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
                append(&mut tar, &relative(Path::new(path)).to_string_lossy(), &contents, 0o755)?;
            }
            Entry::Link { path, target } => {
                let mut header = header(tar::EntryType::Symlink, 0o777, 0);
                tar.append_link(&mut header, relative(Path::new(path)), target)?;
            }
            Entry::Folder { .. } => {}
        }
    }
    Ok(tar.into_inner()?)
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn append(tar: &mut tar::Builder<Vec<u8>>, name: &str, contents: &[u8], mode: u32) -> Result<()> {
    let mut header = header(tar::EntryType::Regular, mode, contents.len() as u64);
    Ok(tar.append_data(&mut header, name, contents)?)
}

fn descriptor(media_type: &str, contents: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(contents), "size": contents.len() })
}

/// `sha256:` and the hexadecimal digest of `contents`.
pub fn digest(contents: &[u8]) -> String {
    let hash: String = Sha256::digest(contents).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hash}")
}

/// The architecture under its name in OCI.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_same_files_twice_gives_same_digest() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        fs::write(&program, "contents").unwrap();
        let image = Image {
            name: "localhost/skep/test:1".into(),
            entries: vec![
                Entry::File { path: "/bin/program".into(), source: program },
                Entry::Link { path: "/bin/sh".into(), target: "program".into() },
                Entry::Folder { path: "/tmp".into(), mode: 0o1777 },
            ],
            entrypoint: vec!["/bin/program".into()],
        };
        let (one, two) = (folder.path().join("one.tar"), folder.path().join("two.tar"));
        assert_eq!(write(&image, &one).unwrap(), write(&image, &two).unwrap());
        assert_eq!(fs::read(one).unwrap(), fs::read(two).unwrap());
    }

    #[test]
    fn write_missing_source_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let image = Image {
            name: "localhost/skep/test:1".into(),
            entries: vec![Entry::File { path: "/a".into(), source: "/nonexistent/program".into() }],
            entrypoint: Vec::new(),
        };
        let error = write(&image, &folder.path().join("a.tar")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/program"), "{error}");
    }
}
