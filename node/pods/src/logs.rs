//! Files that containers' output goes to: names, links, rotation, and their last lines.
//!
//! The runtime writes them (CRI log format); reading them for clients is the endpoint's business.

use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use skep_runtime::{Runtime, cri};

use crate::Error;
use crate::spec::{name, namespace, uid};

/// A file of this size is moved away.
pub const ROTATE_AT: u64 = 10 << 20;
/// So many files are kept per container, the one in use included.
pub const KEEP: usize = 5;

/// Folder of a pod's logs, below the node's log folder.
pub fn pod_folder(root: &Path, pod: &Pod) -> PathBuf {
    root.join(format!("{}_{}_{}", namespace(pod), name(pod), uid(pod)))
}

/// Uid in the name of a pod's log folder.
pub fn uid_of_folder(folder: &str) -> Option<&str> {
    folder.rsplit_once('_').map(|(_, uid)| uid)
}

/// Name of the link by which log collectors find a container's log.
pub fn link_name(pod: &Pod, container: &str, id: &str) -> String {
    format!("{}_{}_{container}-{id}.log", name(pod), namespace(pod))
}

/// Messages in the last lines of a log in CRI's format, at most `max` bytes of them.
pub fn last_lines(log: &str, max: u64) -> String {
    let mut text = String::new();
    for line in log.lines() {
        // Time, stream, and whether the line is whole come before the message.
        let mut parts = line.splitn(4, ' ');
        let (Some(_), Some("stdout" | "stderr"), Some(tag), message) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        text.push_str(message.unwrap_or_default());
        if tag.starts_with('F') {
            text.push('\n');
        }
    }
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let mut start = text.len().saturating_sub(max);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.split_off(start)
}

/// Moves the logs of running containers away where they have grown too large.
///
/// # Errors
/// [`Error::Runtime`] if the containers cannot be listed. A file that cannot be rotated is logged and left.
pub async fn rotate(runtime: &dyn Runtime, now: jiff::Timestamp) -> Result<(), Error> {
    let state = cri::ContainerStateValue { state: cri::ContainerState::ContainerRunning as i32 };
    let filter = cri::ContainerFilter { state: Some(state), ..Default::default() };
    for container in runtime.containers(Some(filter)).await? {
        let Ok(status) = runtime.container_status(&container.id).await else { continue };
        let path = PathBuf::from(status.log_path);
        if tokio::fs::metadata(&path).await.is_ok_and(|file| file.len() >= ROTATE_AT)
            && let Err(error) = rotate_one(runtime, &container.id, &path, now).await
        {
            tracing::warn!(path = %path.display(), %error, "a log could not be rotated");
        }
    }
    Ok(())
}

async fn rotate_one(runtime: &dyn Runtime, id: &str, path: &Path, now: jiff::Timestamp) -> Result<(), Error> {
    let fail = |source| Error::File { path: path.to_owned(), source };
    let rotated = PathBuf::from(format!("{}.{}", path.display(), now.strftime("%Y%m%d-%H%M%S")));
    tokio::fs::rename(path, &rotated).await.map_err(fail)?;
    if let Err(error) = runtime.reopen_log(id).await {
        // Without a new file the old one stays in use under its name.
        tokio::fs::rename(&rotated, path).await.map_err(fail)?;
        return Err(error.into());
    }
    for old in surplus(path).await.map_err(fail)? {
        tokio::fs::remove_file(&old).await.map_err(fail)?;
    }
    Ok(())
}

/// Rotated files beyond those that are kept, oldest first.
async fn surplus(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(folder), Some(stem)) = (path.parent(), path.file_name()) else { return Ok(Vec::new()) };
    let prefix = format!("{}.", stem.to_string_lossy());
    let mut files = Vec::new();
    let mut entries = tokio::fs::read_dir(folder).await?;
    while let Some(entry) = entries.next_entry().await? {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            files.push(entry.path());
        }
    }
    files.sort();
    files.truncate(files.len().saturating_sub(KEEP - 1));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_lines_joins_parts_and_cuts_the_front() {
        let log = "t stdout P he\nt stdout F llo\nbroken\nt stderr F end\nt stdout F\n";
        assert_eq!(last_lines(log, 100), "hello\nend\n\n");
        assert_eq!(last_lines(log, 5), "end\n\n");
        assert_eq!(last_lines("t stdout F \u{e9}\u{e9}\n", 4), "\u{e9}\n");
    }

    #[tokio::test]
    async fn surplus_is_the_oldest_rotated_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("0.log");
        for suffix in [
            "",
            ".20260101-000006",
            ".20260101-000001",
            ".20260101-000003",
            ".20260101-000004",
            ".20260101-000005",
        ] {
            std::fs::write(format!("{}{suffix}", log.display()), "x").expect("a file");
        }
        let names: Vec<_> = surplus(&log).await.expect("files");
        assert_eq!(names, [PathBuf::from(format!("{}.20260101-000001", log.display()))]);
    }
}
