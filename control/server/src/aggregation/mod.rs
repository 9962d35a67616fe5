//! API servers of users, served through this one (`apiregistration.k8s.io APIService`).

mod front_proxy;

pub use front_proxy::FrontProxy;
