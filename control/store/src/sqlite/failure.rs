//! From SQLite's errors to the store's. The one place that knows SQLite's codes.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::StoreError;

/// Where an error of SQLite happened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure<'a> {
    /// What was being done.
    pub(super) operation: &'static str,
    /// The data file.
    pub(super) path: &'a Path,
}

impl Failure<'_> {
    /// The store's error for what SQLite says.
    pub(super) fn explain(self, error: rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::NoSpace(error.into()),
            Some(ErrorCode::ReadOnly) => StoreError::ReadOnly(error.into()),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError::Corrupt { path: self.path.to_owned(), detail: error.to_string() }
            }
            // SQLite does not tell these apart: see what the disk says now.
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => match probe(self.path) {
                Some(io::ErrorKind::ReadOnlyFilesystem) => StoreError::ReadOnly(error.into()),
                Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                    StoreError::NoSpace(error.into())
                }
                _ => StoreError::backend(self.operation, error),
            },
            _ => StoreError::backend(self.operation, error),
        }
    }
}

/// The store's error for what happened to a file beside the data.
pub(super) fn of_file(operation: &'static str, error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly(error.into()),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::NoSpace(error.into()),
        _ => StoreError::backend(operation, error),
    }
}

/// Why a file cannot be made beside `path`, if it cannot.
fn probe(path: &Path) -> Option<io::ErrorKind> {
    let mut name = path.as_os_str().to_owned();
    name.push(".probe");
    let name = PathBuf::from(name);
    match std::fs::write(&name, [0]) {
        Ok(()) => std::fs::remove_file(&name).err().map(|error| error.kind()),
        Err(error) => Some(error.kind()),
    }
}
