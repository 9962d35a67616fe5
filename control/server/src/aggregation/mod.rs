//! API servers of users, served through this one (`apiregistration.k8s.io APIService`).
//!
//! - [`Aggregation`] knows which group versions others answer for, and where they are ([`remotes`]).
//! - [`availability`] keeps an object for everything that this server serves itself, asks the others whether they are
//!   there and what they serve, and writes that down.
//! - [`proxy`] passes requests on in the name of their users ([`FrontProxy`]).
//!
//! What an `APIService` may say and how documents are joined is in `skep_api::aggregation`.

mod availability;
mod front_proxy;
mod metrics;
mod proxy;
mod remotes;

pub use front_proxy::FrontProxy;

pub(crate) use remotes::Aggregation;
