//! What can go wrong in the endpoint itself. What a client is told is in [`crate::refusal`].

use std::net::SocketAddr;
use std::path::PathBuf;

/// Errors of the endpoint.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// A certificate or key cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// What the system or the PEM reader said.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// The file of client authorities holds none that can be used.
    #[error("{} holds no usable authority", path.display())]
    Authority {
        /// Its path.
        path: PathBuf,
        /// Why the verifier refuses it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Certificate and key cannot serve TLS.
    #[error("certificate and key cannot be used")]
    Tls(#[from] rustls::Error),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A metric cannot be registered.
    #[error("cannot register metrics")]
    Metrics(#[from] prometheus::Error),
    /// The peer of a SPDY session sent what the protocol does not allow.
    #[error("SPDY: {0}")]
    Spdy(&'static str),
    /// The connection under a session failed.
    #[error("connection failed")]
    Connection(#[from] std::io::Error),
    /// A session or stream is over; nothing more can be sent on it.
    #[error("the stream is closed")]
    Closed,
}
