//! The API server: HTTP, authentication, authorization, watch cache, discovery, streams.
//!
//! The way of a request: [`service`] reads its line, [`gate`] finds out who it is and whether they may, a handler takes it
//! to the [`cache`] (reads) or to the storage (writes: admission, validation, compare-and-swap), and the answer is written
//! in the form that the client asked for.

mod admission;
pub mod aggregation;
pub mod allocation;
pub mod audit;
pub mod authn;
pub mod authz;
pub mod body;
mod bootstrap;
pub mod browsers;
pub mod cache;
mod callout;
mod content;
mod conversion;
mod course;
mod definitions;
pub mod duration;
pub mod encryption;
mod endpoint;
mod entrance;
pub mod error;
mod expiring;
mod failure;
mod fairness;
pub mod gate;
mod handlers;
mod held;
mod hooks;
pub mod ids;
pub mod in_process;
mod latencies;
mod line;
mod long_lived;
mod metrics;
mod negotiate;
mod options;
mod paths;
pub mod pki;
mod query;
mod refusal;
mod remarks;
pub mod request;
mod respond;
pub mod reviews;
mod scale;
pub mod server;
pub mod service;
mod storage;
pub mod streams;
#[cfg(test)]
mod testing;
pub mod tls;
pub mod tokens;
mod turns;
pub mod user;
mod websocket;

pub use admission::{AdmissionConfig, AuditDetail, ConfigError, Notes};
pub use fairness::Concurrency;
pub use metrics::{IssuerMetrics, Reloads, TokenCacheMetrics};
pub use server::{ApiServer, Check, Lasting, ServerConfig, StartError};
pub use turns::Turns;
