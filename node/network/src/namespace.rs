//! Runs netlink requests inside another network namespace, on a thread that ends with them.

use std::fs::File;
use std::path::Path;

use nix::sched::{CloneFlags, setns};

use crate::error::NetworkError;

/// Opens a network namespace by its path.
pub(crate) fn open(path: &Path) -> Result<File, NetworkError> {
    File::open(path).map_err(NetworkError::file("cannot open the network namespace", path))
}

/// Runs `work` on a new thread in the namespace, with an I/O driver of its own: a thread that has changed its namespace
/// must serve nobody else.
pub(crate) async fn inside<T, W, F>(namespace: &File, path: &Path, work: W) -> Result<T, NetworkError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, NetworkError>>,
    W: FnOnce() -> F + Send + 'static,
{
    let entered = path.to_owned();
    let namespace = namespace.try_clone().map_err(NetworkError::file("cannot open again", path))?;
    let (answer, result) = tokio::sync::oneshot::channel();
    let run = move || {
        setns(&namespace, CloneFlags::CLONE_NEWNET)
            .map_err(|error| NetworkError::file("cannot enter", &entered)(error.into()))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(NetworkError::file("cannot work inside", &entered))?;
        runtime.block_on(work())
    };
    std::thread::Builder::new()
        .name("pod-network".into())
        .spawn(move || answer.send(run()))
        .map_err(NetworkError::file("no thread for", path))?;
    result.await.unwrap_or_else(|_| {
        Err(NetworkError::file("the thread ended early in", path)(std::io::Error::other("it panicked")))
    })
}
