//! The one error type of the store. Mapping it to a Kubernetes `Status` is the server's affair.

use std::path::PathBuf;

use crate::{KeyValue, Revision};

/// Why a store operation did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The precondition of a write did not hold; nothing was changed.
    #[error("precondition failed for {key}")]
    Conflict {
        /// The key of the write.
        key: String,
        /// What is there instead.
        current: Option<KeyValue>,
    },
    /// The revision asked for is no longer, or not yet, held.
    #[error("revision {requested:?} is not available, history starts after {compacted:?}")]
    Compacted {
        /// The revision asked for.
        requested: Revision,
        /// History up to here is gone.
        compacted: Revision,
    },
    /// The revision asked for lies in the future.
    #[error("revision {requested:?} is newer than the newest, {current:?}")]
    Future {
        /// The revision asked for.
        requested: Revision,
        /// The newest revision.
        current: Revision,
    },
    /// The backend failed; `operation` says where.
    #[error("store: {operation}")]
    Backend {
        /// What was being done.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The disk is full: nothing was written, reads go on.
    #[error("no space left for the store's data, nothing was written")]
    NoSpace(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The disk or the file became read-only: nothing was written, reads go on.
    #[error("the store's data is read-only, nothing was written")]
    ReadOnly(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The value is larger than a backend takes.
    #[error("value of {key} has {size} bytes, more than the limit of {limit}")]
    TooLarge {
        /// The key of the write.
        key: String,
        /// Size of the value in bytes.
        size: usize,
        /// The most that is taken, in bytes.
        limit: usize,
    },
    /// The data file is damaged.
    #[error("{} is damaged: {detail}", path.display())]
    Corrupt {
        /// The data file.
        path: PathBuf,
        /// What the check found.
        detail: String,
    },
    /// The data file was written by a program that this one does not understand.
    #[error("{} has schema {found}, this program knows up to {newest}", path.display())]
    UnknownSchema {
        /// The data file.
        path: PathBuf,
        /// The schema version in the file.
        found: i64,
        /// The newest schema version that this program knows.
        newest: i64,
    },
    /// Another process has the data file open.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The data file.
        path: PathBuf,
    },
    /// There is something where a file was to be made.
    #[error("{} is there already, move it away first", path.display())]
    Exists {
        /// What is in the way.
        path: PathBuf,
    },
    /// The store was closed while the operation waited.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// A failure of the backend during `operation`.
    pub(crate) fn backend(
        operation: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Backend { operation, source: source.into() }
    }
}
