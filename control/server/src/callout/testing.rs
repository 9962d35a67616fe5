//! The server that answers as a test wants.

#[path = "../../tests/hooks/mod.rs"]
mod hooks;

pub(crate) use hooks::{Hook, Reply};
