//! The API server: HTTP, authentication, authorization, watch cache, discovery, streams.

pub mod body;
pub mod gate;
pub mod request;
pub mod user;
