//! `subPath`: a part of a volume, found without ever leaving the volume.
//!
//! A container may write to the volume and put links there while we look. So the path is resolved by the kernel
//! beneath the volume's root, and what was found is bound to a place of its own, which the runtime then mounts.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, mkdirat};

use super::mounter::Mounter;

/// Binds `below` in the volume at `root` to `place`. A folder that is missing is made.
///
/// # Errors
/// What the kernel says; a path that leads out of the volume is refused.
pub(super) fn bind(mounter: &dyn Mounter, root: &Path, below: &str, place: &Path) -> io::Result<()> {
    if mounter.is_mounted(place)? {
        mounter.unmount_below(place)?;
    }
    let found = resolve(root, Path::new(below))?;
    let source = format!("/proc/self/fd/{}", found.as_raw_fd());
    let is_folder = std::fs::metadata(&source)?.is_dir();
    if let Some(parent) = place.parent() {
        std::fs::create_dir_all(parent)?;
    }
    if place.is_dir() != is_folder && place.exists() {
        if place.is_dir() { std::fs::remove_dir(place)? } else { std::fs::remove_file(place)? }
    }
    if is_folder {
        std::fs::create_dir_all(place)?;
    } else {
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o640).open(place)?;
    }
    mounter.bind(Path::new(&source), place)
}

/// Opens `below` in the volume, making folders on the way.
fn resolve(root: &Path, below: &Path) -> io::Result<OwnedFd> {
    let parts: Vec<&std::ffi::OsStr> = below
        .components()
        .filter(|part| !matches!(part, Component::CurDir))
        .map(|part| match part {
            Component::Normal(name) => Ok(name),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "the path leads out of the volume")),
        })
        .collect::<io::Result<_>>()?;
    let root: OwnedFd = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_PATH.bits() | OFlag::O_DIRECTORY.bits())
        .open(root)?
        .into();
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let open = |path: &Path| -> nix::Result<OwnedFd> { openat2(&root, path, how) };
    let mut path = std::path::PathBuf::from(".");
    let mut folder = open(&path)?;
    for part in parts {
        path.push(part);
        folder = match open(&path) {
            Err(nix::errno::Errno::ENOENT) => {
                mkdirat(&folder, part, Mode::from_bits_truncate(0o750))?;
                open(&path)?
            }
            found => found?,
        };
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_that_leads_out_of_the_volume_is_refused() {
        let volume = tempfile::tempdir().expect("a folder");
        std::os::unix::fs::symlink("/etc", volume.path().join("out")).expect("a link");
        std::os::unix::fs::symlink("real", volume.path().join("in")).expect("a link");
        std::fs::create_dir(volume.path().join("real")).expect("a folder");
        for bad in ["../x", "/etc", "out", "out/passwd", "a/../../x"] {
            assert!(resolve(volume.path(), Path::new(bad)).is_err(), "{bad}");
        }
        for good in ["in", "real", "new/folder", "./real"] {
            assert!(resolve(volume.path(), Path::new(good)).is_ok(), "{good}");
        }
        assert!(volume.path().join("new/folder").is_dir());
    }
}
