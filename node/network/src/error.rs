//! Why an operation on the pod network failed.

use std::net::IpAddr;
use std::path::PathBuf;

/// An operation that failed, with what it was about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The node has no range of pod addresses yet.
    #[error("the node has no pod CIDR yet")]
    NoRange,
    /// Every address of a range is taken.
    #[error("no address is free in {range}")]
    Exhausted {
        /// The range, in CIDR notation.
        range: String,
    },
    /// A range in a Node object is not one.
    #[error("`{text}` is not a CIDR range of pod addresses")]
    BadRange {
        /// What was there.
        text: String,
    },
    /// A request of the plugin lacks something or has it wrong.
    #[error("{field}: {problem}")]
    BadRequest {
        /// The field.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The kernel refused a change of links, addresses, neighbours or routes.
    #[error("netlink: {operation}")]
    Netlink {
        /// What was being done, to what.
        operation: String,
        /// What the kernel said.
        #[source]
        source: rtnetlink::Error,
    },
    /// A link that must be there is not.
    #[error("there is no interface {name}")]
    NoLink {
        /// Its name.
        name: String,
    },
    /// An address that must be there is not.
    #[error("{name} does not have {address}")]
    NoAddress {
        /// The interface.
        name: String,
        /// The address.
        address: IpAddr,
    },
    /// A file or socket could not be used.
    #[error("{operation} {}", path.display())]
    File {
        /// What was being done.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A record of an attachment cannot be read.
    #[error("the record {} is damaged", path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The datapath refused a pod's link.
    #[error("the datapath refused {link}")]
    Datapath {
        /// The link.
        link: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The socket for the plugin failed.
    #[error("the socket for the CNI plugin failed")]
    Serve(#[source] tonic::transport::Error),
}

impl NetworkError {
    /// For `map_err` on file operations.
    pub(crate) fn file(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }

    /// For `map_err` on netlink requests.
    pub(crate) fn netlink(operation: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let operation = operation.into();
        move |source| Self::Netlink { operation, source }
    }
}
