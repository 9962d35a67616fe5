//! What can go wrong in the scheduler.

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the scheduler.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A pod could not be bound.
    #[error("bind pod {pod} to node {node}")]
    Bind {
        /// Namespace and name.
        pod: String,
        /// The node that was chosen.
        node: String,
        /// The client's error.
        #[source]
        source: Box<kube::Error>,
    },
    /// A pod's status could not be written.
    #[error("update status of pod {pod}")]
    Status {
        /// Namespace and name.
        pod: String,
        /// The client's error.
        #[source]
        source: Box<kube::Error>,
    },
    /// A metric could not be registered.
    #[error("register scheduler metrics")]
    Metrics(#[source] Box<prometheus::Error>),
}
