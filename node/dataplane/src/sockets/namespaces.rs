//! The network namespaces of this machine and the processes in each.
//!
//! Owns the walk through `/proc`, which needs to know nobody's runtime or network: it finds the pods of any of them. It
//! sees what the agent's own process namespace shows, so an agent in a container needs the host's.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use rustix::process::Pid;

/// A network namespace in which processes live.
#[derive(Debug)]
pub(super) struct Namespace {
    /// A way to it.
    pub(super) path: PathBuf,
    /// The processes in it.
    pub(super) processes: Vec<Pid>,
    /// It is the agent's own: the node's.
    pub(super) own: bool,
    // Held for the agent's own, since its path means another one after a change of namespaces.
    file: Option<File>,
}

impl Namespace {
    pub(super) fn open(&self) -> io::Result<File> {
        match &self.file {
            Some(file) => file.try_clone(),
            None => File::open(&self.path),
        }
    }
}

/// All of them; the calling thread's is among them.
pub(super) fn all() -> Vec<Namespace> {
    let mut found: BTreeMap<OsString, Namespace> = BTreeMap::new();
    let own = PathBuf::from("/proc/thread-self/ns/net");
    if let (Ok(name), Ok(file)) = (fs::read_link(&own), File::open(&own)) {
        let own = Namespace { path: own, processes: Vec::new(), own: true, file: Some(file) };
        found.insert(name.into_os_string(), own);
    }
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(process) = number.and_then(Pid::from_raw) else { continue };
        let path = entry.path().join("ns/net");
        // It may have ended meanwhile.
        let Ok(name) = fs::read_link(&path) else { continue };
        found
            .entry(name.into_os_string())
            .or_insert_with(|| Namespace { path, processes: Vec::new(), own: false, file: None })
            .processes
            .push(process);
    }
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_has_this_process_in_the_namespace_of_this_thread() {
        let me = Pid::from_raw(i32::try_from(std::process::id()).unwrap()).unwrap();
        let found = all();
        let own: Vec<_> = found.iter().filter(|namespace| namespace.own).collect();
        assert_eq!(own.len(), 1);
        assert!(own[0].processes.contains(&me));
        own[0].open().unwrap();
    }
}
