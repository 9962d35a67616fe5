//! What can go wrong in a controller, and how the API's answers are told apart.
//!
//! Retrying is not decided here: the work queue retries every error with back-off.

use std::error::Error as _;

/// The result of everything that calls the API.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the controllers.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An API call failed.
    #[error("{operation} {object}")]
    Call {
        /// What was tried, such as `create replicaset`.
        operation: &'static str,
        /// Namespace and name of the object.
        object: String,
        /// The client's error.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API's kinds could not be listed.
    #[error("discover the API's resources")]
    Discovery(#[source] Box<kube::Error>),
    /// The cache does not show an earlier write of ours yet; the next event brings the key back.
    #[error("the cache of {0} is behind our own writes")]
    StaleCache(String),
    /// Several things of one reconciliation failed; the first is kept.
    #[error("{failed} of {total} calls failed while reconciling {object}")]
    Several {
        /// Calls that failed.
        failed: usize,
        /// Calls made.
        total: usize,
        /// The object reconciled.
        object: String,
        /// The first failure.
        #[source]
        first: Box<Error>,
    },
    /// No certificate can be signed for a request.
    #[error("certificatesigningrequest {object}: {why}")]
    Certificate {
        /// The request.
        object: String,
        /// Why not.
        why: String,
    },
    /// The configuration cannot work.
    #[error("controller configuration: {0}")]
    Config(String),
    /// No address range is left for a node.
    #[error("no pod address range of {range} is left for node {node}")]
    RangeExhausted {
        /// The cluster's range.
        range: String,
        /// The node that needs one.
        node: String,
    },
    /// A metric could not be registered.
    #[error("register controller metrics")]
    Metrics(#[source] Box<prometheus::Error>),
}

impl Error {
    fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Error::Call { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            Error::Several { first, .. } => first.status(),
            _ => None,
        }
    }

    /// The object is not there (404).
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(|s| s.code == 404)
    }

    /// The object changed since it was read, or a precondition does not hold (409 `Conflict`).
    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(|s| s.code == 409 && s.reason == "Conflict")
    }

    /// An object of that name exists (409 `AlreadyExists`).
    pub fn is_already_exists(&self) -> bool {
        self.status().is_some_and(|s| s.reason == "AlreadyExists")
    }

    /// The namespace is being deleted: there is no point in creating anything there
    /// (`NamespaceTerminating` cause of the `NamespaceLifecycle` admission step).
    pub fn is_namespace_terminating(&self) -> bool {
        self.status()
            .and_then(|s| s.details.as_ref())
            .is_some_and(|d| d.causes.iter().any(|c| c.reason == "NamespaceTerminating"))
    }

    /// The message that the API answered with, or this error's own.
    pub fn reason(&self) -> String {
        self.status().map_or_else(|| self.chain(), |s| s.message.clone())
    }

    /// This error and its sources on one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }
}

/// Says which call failed, on which object.
pub(crate) trait During<T> {
    /// Turns the client's error into [`Error::Call`].
    fn during(self, operation: &'static str, object: impl ToString) -> Result<T>;
}

impl<T> During<T> for Result<T, kube::Error> {
    fn during(self, operation: &'static str, object: impl ToString) -> Result<T> {
        self.map_err(|source| Error::Call { operation, object: object.to_string(), source: Box::new(source) })
    }
}

/// One error out of the failures of many calls.
pub(crate) fn first_of(total: usize, failures: Vec<Error>, object: impl ToString) -> Result<()> {
    let failed = failures.len();
    match failures.into_iter().next() {
        None => Ok(()),
        Some(first) => {
            Err(Error::Several { failed, total, object: object.to_string(), first: Box::new(first) })
        }
    }
}
