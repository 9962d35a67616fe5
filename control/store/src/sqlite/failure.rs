//! From SQLite's errors to the store's. The one place that knows SQLite's codes.

use std::path::Path;

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
            _ => StoreError::backend(self.operation, error),
        }
    }
}
