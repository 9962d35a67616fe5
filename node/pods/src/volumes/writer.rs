//! Writes the files of a volume so that readers see either all old or all new ones.
//!
//! Files lie in a folder with a name of its own; the link `..data` names the current one, and the visible names are
//! links through it. Switching `..data` switches all files at once. Readers rely on this layout; it is upstream's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its contents.
    pub bytes: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
    /// The user whose it is, if not root.
    pub owner: Option<u32>,
}

/// Files by path relative to the volume.
pub type Payload = BTreeMap<String, File>;

/// Brings the volume up to date. Returns whether anything had to change.
///
/// # Errors
/// A path that leaves the volume; what the file system says. The old files stay in force then.
pub(super) fn write(root: &Path, payload: &Payload, group: Option<u32>, now: Timestamp) -> io::Result<bool> {
    for path in payload.keys() {
        let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        if !inside || path.is_empty() || path.starts_with("..") {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("invalid path {path:?}")));
        }
    }
    let old = fs::read_link(root.join(DATA)).ok();
    let current = old.as_ref().map(|old| root.join(old));
    if current.is_some_and(|current| is_current(&current, payload, group)) {
        link_names(root, payload)?;
        return Ok(false);
    }
    let folder = format!("..{}.{:09}", now.strftime("%Y_%m_%d_%H_%M_%S"), now.subsec_nanosecond());
    let fresh = root.join(&folder);
    if fresh.exists() {
        fs::remove_dir_all(&fresh)?;
    }
    fs::create_dir(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    own(&fresh, None, group)?;
    for (path, file) in payload {
        write_file(&fresh, path, file, group)?;
    }
    let link = root.join(NEW_DATA);
    let _ = fs::remove_file(&link);
    symlink(&folder, &link)?;
    fs::rename(&link, root.join(DATA))?;
    link_names(root, payload)?;
    remove_old(root, &folder)?;
    Ok(true)
}

fn write_file(root: &Path, path: &str, file: &File, group: Option<u32>) -> io::Result<()> {
    let target = root.join(path);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(&target, &file.bytes)?;
    own(&target, file.owner, group)?;
    fs::set_permissions(&target, fs::Permissions::from_mode(mode(file.mode, group)))
}

/// A volume's group may read its files.
fn mode(mode: u32, group: Option<u32>) -> u32 {
    if group.is_some() { mode | 0o440 } else { mode }
}

fn own(path: &Path, owner: Option<u32>, group: Option<u32>) -> io::Result<()> {
    match (owner, group) {
        (None, None) => Ok(()),
        (owner, group) => std::os::unix::fs::chown(path, owner, group),
    }
}

fn is_current(folder: &Path, payload: &Payload, group: Option<u32>) -> bool {
    let same = |(path, file): (&String, &File)| {
        let target = folder.join(path);
        let permissions = fs::metadata(&target).map(|found| found.permissions().mode() & 0o7777);
        permissions.is_ok_and(|found| found == mode(file.mode, group))
            && fs::read(&target).is_ok_and(|bytes| bytes == file.bytes)
    };
    payload.iter().all(same) && count(folder).is_ok_and(|files| files == payload.len())
}

fn count(folder: &Path) -> io::Result<usize> {
    let mut files = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        files += if entry.file_type()?.is_dir() { count(&entry.path())? } else { 1 };
    }
    Ok(files)
}

/// Makes the visible names and removes those that are no longer there.
fn link_names(root: &Path, payload: &Payload) -> io::Result<()> {
    let first = |path: &String| path.split('/').next().unwrap_or_default().to_owned();
    let wanted: BTreeSet<String> = payload.keys().map(first).collect();
    for name in &wanted {
        let (link, target) = (root.join(name), PathBuf::from(DATA).join(name));
        if fs::read_link(&link).is_ok_and(|old| old == target) {
            continue;
        }
        let _ = fs::remove_file(&link);
        symlink(&target, &link)?;
    }
    for entry in fs::read_dir(root)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !wanted.contains(&name) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn remove_old(root: &Path, current: &str) -> io::Result<()> {
    for entry in fs::read_dir(root)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("..") && name != DATA && name != current && entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |text: &str| File { bytes: text.as_bytes().to_vec(), mode: 0o640, owner: None };
        files.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn names(root: &Path) -> Vec<String> {
        let entries = fs::read_dir(root).expect("a folder").flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn write_switches_all_files_at_once() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path();
        assert!(write(root, &payload(&[("a", "1"), ("d/b", "2")]), None, at(1)).expect("written"));
        assert_eq!(fs::read_to_string(root.join("d/b")).expect("a file"), "2");
        let first = fs::read_link(root.join(DATA)).expect("a link");
        assert!(!write(root, &payload(&[("a", "1"), ("d/b", "2")]), None, at(2)).expect("unchanged"));
        assert_eq!(fs::read_link(root.join(DATA)).expect("a link"), first);
        assert!(write(root, &payload(&[("a", "3")]), None, at(3)).expect("written"));
        assert_eq!(fs::read_to_string(root.join("a")).expect("a file"), "3");
        assert_eq!(names(root), ["..1970_01_01_00_00_03.000000000", "..data", "a"]);
        let mode = fs::metadata(root.join("a")).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }

    #[test]
    fn write_repairs_what_was_cut_off() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path();
        write(root, &payload(&[("a", "1")]), None, at(1)).expect("written");
        fs::create_dir(root.join("..1970_01_01_00_00_02.000000000")).expect("a leftover");
        symlink("nowhere", root.join(NEW_DATA)).expect("a leftover");
        fs::remove_file(root.join("a")).expect("a lost link");
        write(root, &payload(&[("a", "2")]), None, at(2)).expect("written");
        assert_eq!(fs::read_to_string(root.join("a")).expect("a file"), "2");
        assert_eq!(names(root), ["..1970_01_01_00_00_02.000000000", "..data", "a"]);
    }

    #[test]
    fn write_refuses_paths_out_of_the_volume() {
        let root = tempfile::tempdir().expect("a folder");
        for bad in ["../a", "/a", "a/../../b", "", "..data"] {
            assert!(write(root.path(), &payload(&[(bad, "1")]), None, at(1)).is_err(), "{bad}");
        }
        assert!(names(root.path()).is_empty());
    }
}
