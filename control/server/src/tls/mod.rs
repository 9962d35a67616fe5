//! The TLS listener: accepts connections, verifies client certificates and hands requests to the server's service.
//!
//! HTTP/1.1 and HTTP/2 by ALPN, TLS 1.2 and later. A client certificate is asked for but not required; what one that the
//! cluster's authority did not sign is worth, the requests are told. Slow or silent clients are cut off: there are limits on the
//! handshake, on reading a request's head, on taking what is sent, on doing nothing, and on the number of connections.
//! Keys can be replaced while it runs.
//! Does not own what a request means; it adds [`Credentials`](crate::gate::Credentials) to each and nothing else.

mod any_certificate;
mod clients;
mod connection;
mod keys;
mod listener;
mod named;
mod options;
mod paced;
#[cfg(test)]
mod tests;

pub(crate) use any_certificate::AnyCertificate;
pub(crate) use connection::Leaves;
pub use keys::{TlsKeys, certificates, private_key, roots};
pub use listener::{Limits, Listener};
pub use named::{Named, NamedFiles};
pub use options::{TlsOptions, cipher, only_newest};
pub(crate) use paced::MayPause;
