//! Why setting up the server, its keys, its listener or its components failed. Answers to clients are `Status` objects.

use std::net::SocketAddr;
use std::path::PathBuf;

/// A failure of the server that is not an answer to a client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file or directory could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A key or certificate could not be made or read.
    #[error("cannot {operation}")]
    Certificate {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: rcgen::Error,
    },
    /// A PEM text holds no certificate.
    #[error("not a PEM certificate")]
    NotACertificate,
    /// A private key does not belong to its certificate.
    #[error("the private key {} does not belong to its certificate", path.display())]
    KeyMismatch {
        /// The key's file.
        path: PathBuf,
    },
    /// A node name that no node can have.
    #[error("{name:?} is not a node name: lower-case letters, digits, '-' and '.', at most 253 characters")]
    NodeName {
        /// The name.
        name: String,
    },
    /// A key for tokens cannot be used.
    #[error("cannot use the token key: {reason}")]
    TokenKey {
        /// Why.
        reason: String,
    },
    /// A line of a static token file is not `token,user,uid[,"group,..."]`.
    #[error("{}:{line}: expected token,user,uid[,\"group,...\"]", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A configuration file is not valid.
    #[error("{what} {}: {reason}", path.display())]
    Configuration {
        /// What it configures.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Issuers cannot take the place of those before, whose tokens would not be known any more.
    #[error("the keys of {} cannot be fetched", issuers.join(", "))]
    IssuersNotReady {
        /// Those whose keys are not there.
        issuers: Vec<String>,
    },
    /// TLS cannot be set up with the keys given.
    #[error("cannot set up TLS: {operation}")]
    Tls {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The listener's address cannot be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
