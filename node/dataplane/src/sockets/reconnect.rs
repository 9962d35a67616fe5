//! Connects another process's UDP socket again, in place.
//!
//! Owns: finding a process that has the socket, borrowing it (`pidfd_getfd(2)`, which needs what `ptrace` needs), and
//! `connect()` on it. The hooks run as they would for the process itself: they go by the socket's cgroup and namespace,
//! not by the caller's.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::sockopt::{socket_cookie, socket_domain};
use rustix::net::{AddressFamily, connect, connect_unspec, getpeername};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::diag::Connected;
use super::namespaces::Namespace;

/// Connects `socket` to `frontend`.
pub(super) fn reconnect(namespace: &Namespace, socket: &Connected, frontend: SocketAddr) -> io::Result<()> {
    let borrowed = namespace.processes.iter().find_map(|process| borrow(*process, socket));
    let borrowed = borrowed.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no process has it"))?;
    let target = match (socket_domain(&borrowed)?, frontend.ip()) {
        (AddressFamily::INET6, IpAddr::V4(v4)) => {
            SocketAddr::new(v4.to_ipv6_mapped().into(), frontend.port())
        }
        _ => frontend,
    };
    // Its program may have connected it to something else since it was found.
    let peer = getpeername(&borrowed)?.and_then(|peer| SocketAddr::try_from(peer).ok());
    let known = peer.map(|peer| SocketAddr::new(peer.ip().to_canonical(), peer.port()));
    if known != Some(frontend) && known != Some(socket.remote) {
        return Ok(());
    }
    // A pod has one address. The node has several, and the one that suited the old backend may not suit the new one: a
    // socket that is not bound by its program gives it up.
    if namespace.own {
        connect_unspec(&borrowed)?;
    }
    Ok(connect(&borrowed, &target)?)
}

/// The socket, if `process` has it.
fn borrow(process: Pid, socket: &Connected) -> Option<OwnedFd> {
    let name = format!("socket:[{}]", socket.inode);
    let folder = fs::read_dir(format!("/proc/{}/fd", process.as_raw_nonzero())).ok()?;
    let entry = folder
        .flatten()
        .find(|entry| fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == &*name))?;
    let number = entry.file_name().to_str()?.parse().ok()?;
    let handle = pidfd_open(process, PidfdFlags::empty()).ok()?;
    let borrowed = pidfd_getfd(handle, number, PidfdGetfdFlags::empty()).ok()?;
    // The number may be another file's by now.
    (socket_cookie(&borrowed).ok()? == socket.cookie).then_some(borrowed)
}
