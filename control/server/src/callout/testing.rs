//! The servers that answer as a test wants: one behind any address, and one that a kubeconfig file names.

#[path = "../../tests/hooks/mod.rs"]
mod hooks;
mod server;

pub(crate) use hooks::{Hook, Reply};
pub(crate) use server::{Server, write_kubeconfig};
