//! What was given to which sandbox, one small file each, so that a restarted agent knows it.
//!
//! A record is written before its link is made and removed after its link is gone: after a crash there may be a record
//! without a link, never a link without a record that belongs to a running pod.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::NetworkError;

/// One attachment of a sandbox to the pod network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Id of the sandbox.
    pub container_id: String,
    /// Path of its network namespace.
    pub namespace: String,
    /// Name of the interface inside it.
    pub interface: String,
    /// Name of the node's end.
    pub host_interface: String,
    /// The pod's addresses.
    pub addresses: Vec<IpAddr>,
}

/// The folder of records.
#[derive(Clone, Debug)]
pub struct Records {
    folder: PathBuf,
}

impl Records {
    /// Opens the folder, making it if it is missing.
    pub fn open(folder: &Path) -> Result<Self, NetworkError> {
        fs::create_dir_all(folder).map_err(NetworkError::file("cannot make", folder))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Every record. One that is damaged is an error: its address must not be given to another pod.
    pub fn all(&self) -> Result<Vec<Record>, NetworkError> {
        let mut records = Vec::new();
        let entries = fs::read_dir(&self.folder).map_err(NetworkError::file("cannot list", &self.folder))?;
        for entry in entries {
            let path = entry.map_err(NetworkError::file("cannot list", &self.folder))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let text = fs::read(&path).map_err(NetworkError::file("cannot read", &path))?;
                records.push(
                    serde_json::from_slice(&text).map_err(|source| NetworkError::Record { path, source })?,
                );
            }
        }
        Ok(records)
    }

    /// Writes a record, on stable storage when this returns.
    pub fn write(&self, record: &Record) -> Result<(), NetworkError> {
        let path = self.path(&record.container_id);
        let fresh = path.with_extension("new");
        let write = || -> std::io::Result<()> {
            let mut file = fs::File::create(&fresh)?;
            file.write_all(&serde_json::to_vec(record)?)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            fs::File::open(&self.folder)?.sync_all()
        };
        write().map_err(NetworkError::file("cannot write", &path))
    }

    /// Removes a record, if it is there.
    pub fn remove(&self, container_id: &str) -> Result<(), NetworkError> {
        let path = self.path(container_id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(NetworkError::file("cannot remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    fn path(&self, container_id: &str) -> PathBuf {
        self.folder.join(format!("{container_id}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str) -> Record {
        Record {
            container_id: id.into(),
            namespace: "/run/netns/a".into(),
            interface: "eth0".into(),
            host_interface: "skp1".into(),
            addresses: vec!["10.244.1.1".parse().unwrap()],
        }
    }

    #[test]
    fn records_survive_opening_again() {
        let folder = tempfile::tempdir().unwrap();
        Records::open(folder.path()).unwrap().write(&record("a")).unwrap();
        let records = Records::open(folder.path()).unwrap();
        assert_eq!(records.all().unwrap(), [record("a")]);
        records.remove("a").unwrap();
        records.remove("a").unwrap();
        assert_eq!(records.all().unwrap(), []);
    }

    #[test]
    fn all_with_a_damaged_record_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("b.json"), "{").unwrap();
        let error = Records::open(folder.path()).unwrap().all().unwrap_err().to_string();
        assert!(error.contains("b.json"), "{error}");
    }

    #[test]
    fn all_ignores_a_half_written_record() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("b.new"), "{").unwrap();
        assert_eq!(Records::open(folder.path()).unwrap().all().unwrap(), []);
    }
}
