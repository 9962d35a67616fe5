//! Connects to a port of a pod, from inside the pod's network namespace.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream as StdStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};

/// How long a connection may take; it does not leave the pod.
const CONNECT: Duration = Duration::from_secs(10);
/// Most connections being made at a time for one client, each in a thread of its own.
const AT_ONCE: usize = 16;

/// Connects to ports of one pod.
#[derive(Clone)]
pub(crate) struct Dialer {
    /// The pod's network namespace, none for the node's own.
    namespace: Option<Arc<PathBuf>>,
    slots: Arc<Semaphore>,
}

impl Dialer {
    pub(crate) fn new(namespace: Option<PathBuf>) -> Self {
        Self { namespace: namespace.map(Arc::new), slots: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Connects to a port on the pod's localhost, first over IPv4, then over IPv6.
    ///
    /// # Errors
    /// What the system says: no such namespace, nobody listens, no answer in time.
    pub(super) async fn dial(&self, port: u16) -> io::Result<TcpStream> {
        // Never closed.
        let _slot = self.slots.acquire().await.map_err(io::Error::other)?;
        let namespace = self.namespace.clone();
        let (sender, receiver) = oneshot::channel();
        // A thread that has entered a namespace must not be used for anything else afterwards.
        std::thread::Builder::new().name("forward-dial".into()).spawn(move || {
            // Nobody waits any more if the client has gone.
            let _ = sender.send(connect(namespace.as_deref().map(PathBuf::as_path), port));
        })?;
        let connection = receiver.await.map_err(io::Error::other)??;
        connection.set_nonblocking(true)?;
        connection.set_nodelay(true)?;
        TcpStream::from_std(connection)
    }
}

fn connect(namespace: Option<&Path>, port: u16) -> io::Result<StdStream> {
    if let Some(path) = namespace {
        setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?;
    }
    let first = StdStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), CONNECT);
    // The first address's error says more: a pod without IPv6 only knows that it has none.
    first.or_else(|error| {
        StdStream::connect_timeout(&SocketAddr::from((Ipv6Addr::LOCALHOST, port)), CONNECT).map_err(|_| error)
    })
}
