//! Why there is no client.

use std::path::PathBuf;

use kube::config::KubeconfigError;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The kubeconfig cannot be read, or does not name a server and a user.
    #[error("cannot read the kubeconfig {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KubeconfigError,
    },
    /// What the kubeconfig says cannot be used.
    #[error("cannot use the kubeconfig {path}", path = path.display())]
    Use {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<kube::Error>,
    },
}
