//! Connected UDP sockets whose service has left their backend.
//!
//! A UDP socket that connects through a service is translated once and speaks to its backend for good: no hook runs when
//! it sends. When the frontend that it asked for no longer leads there, the socket is connected anew, in place and to the
//! same frontend, so that a client that never does so itself (of statistics, or of names) goes on with another backend.
//! Where that cannot be done, and where the frontend is gone, the socket is destroyed: the client gets `ECONNABORTED`.
//!
//! Owns: which sockets those are ([`stale`]), finding them in every network namespace ([`diag`], [`namespaces`]) and
//! moving them ([`reconnect`]). It does not own the choice of the backend, which the socket hook makes as for any
//! `connect()`, and leaves sockets alone that are not connected (each datagram chooses) or not UDP (a stream breaks by
//! itself). It works on what the maps hold and not on events, so that nothing is missed while no agent runs.

mod diag;
mod namespaces;
mod reconnect;
mod stale;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use nix::sched::{CloneFlags, setns};
use skep_maps::dataplane::MovedSockets;
use skep_maps::{MapsError, extents::Extent};

use self::diag::Diag;
use self::namespaces::Namespace;
pub(crate) use self::stale::Translated;
use self::stale::{Fate, Lead, Staleness};
use crate::maps::Maps;

/// How often a socket that was not found connected is looked for: it may be on the way, and is not for ever.
const LOOKS: u8 = 2;

/// A socket (by cookie) and the backend that it was translated to.
type Key = (u64, SocketAddr);
/// What is to be done with which socket.
type Wanted = HashMap<Key, (SocketAddr, Fate)>;

/// Looks for stale sockets, and remembers which it has looked for in vain.
#[derive(Debug, Default)]
pub(crate) struct Sweeper {
    looked: Mutex<HashMap<Key, u8>>,
}

impl Sweeper {
    /// Moves every connected UDP socket that is not where its frontend leads.
    ///
    /// # Errors
    /// [`MapsError::Read`]. A namespace that cannot be looked into is logged and left out.
    pub(crate) fn sweep(&self, maps: &Maps) -> Result<MovedSockets, MapsError> {
        let wanted = self.wanted(find(maps)?);
        if wanted.is_empty() {
            return Ok(MovedSockets::default());
        }
        // A thread that changes its namespace serves nobody afterwards.
        let swept = std::thread::Builder::new().name("stale-sockets".into()).spawn(move || visit(&wanted));
        match swept.map(std::thread::JoinHandle::join) {
            Ok(Ok(moved)) => Ok(moved),
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(source) => Err(MapsError::Read { map: skep_abi::socket::CONNECTED_V4, source }),
        }
    }

    /// Those of `stale` that have not been looked for often enough.
    fn wanted(&self, stale: Vec<(Translated, Fate)>) -> Wanted {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *looked);
        let mut wanted = Wanted::new();
        for (socket, fate) in stale {
            let key = (socket.cookie, socket.backend);
            let looks = before.get(&key).copied().unwrap_or(0);
            if looks < LOOKS {
                wanted.insert(key, (socket.frontend, fate));
            }
            looked.insert(key, looks.saturating_add(1));
        }
        wanted
    }
}

/// The translated UDP sockets whose frontend does not lead to their backend, except those that send without being
/// connected.
fn find(maps: &Maps) -> Result<Vec<(Translated, Fate)>, MapsError> {
    let mut staleness = Staleness::new(|frontend| {
        let Some(value) = maps.service(frontend)? else { return Ok(Lead::Nowhere) };
        let slots = maps.slots(Extent { start: value.slice, length: value.count });
        Ok(Lead::from_slots(&slots, frontend.address.is_ipv4()))
    });
    maps.walk_udp_peers(|socket| staleness.judge(socket))?;
    // Those that send without being connected, and what was remembered of a socket before it was connected again.
    staleness.retain(|socket| !maps.is_connected(socket) && !maps.has_pick(socket).unwrap_or(false));
    maps.walk_connected_udp(|socket| staleness.judge(socket));
    staleness.finish()
}

/// Looks through all network namespaces.
fn visit(wanted: &Wanted) -> MovedSockets {
    let mut moved = MovedSockets::default();
    for namespace in namespaces::all() {
        if let Err(error) = visit_one(&namespace, wanted, &mut moved) {
            // Most often its last process has just ended, and its sockets with it.
            tracing::debug!(path = %namespace.path.display(), %error, "cannot look for sockets there");
        }
    }
    moved
}

fn visit_one(namespace: &Namespace, wanted: &Wanted, moved: &mut MovedSockets) -> io::Result<()> {
    setns(namespace.open()?, CloneFlags::CLONE_NEWNET)?;
    let diag = Diag::open()?;
    for socket in diag.connected_udp()? {
        let Some((frontend, fate)) = wanted.get(&(socket.cookie, socket.remote)) else { continue };
        if *fate == Fate::Reconnect {
            match reconnect::reconnect(namespace, &socket, *frontend) {
                Ok(()) => {
                    moved.reconnected += 1;
                    continue;
                }
                Err(error) => tracing::debug!(%frontend, %error, "a socket cannot be connected anew"),
            }
        }
        match diag.destroy(&socket) {
            Ok(()) => moved.ended += 1,
            Err(error) => {
                tracing::warn!(%frontend, %error, "a socket goes on sending to a backend that is gone")
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_socket_never_found_is_looked_for_twice_and_forgotten_when_it_is_gone() {
        let sweeper = Sweeper::default();
        let stale = |cookie| {
            let socket = Translated {
                cookie,
                backend: "10.244.1.2:53".parse().unwrap(),
                frontend: "10.96.0.10:53".parse().unwrap(),
            };
            (socket, Fate::Reconnect)
        };
        let cookies = |found: &[u64]| {
            let mut wanted: Vec<u64> = sweeper
                .wanted(found.iter().map(|cookie| stale(*cookie)).collect())
                .keys()
                .map(|key| key.0)
                .collect();
            wanted.sort_unstable();
            wanted
        };
        assert_eq!(cookies(&[1, 2]), [1, 2]);
        assert_eq!(cookies(&[1, 2, 3]), [1, 2, 3]);
        assert_eq!(cookies(&[1, 3]), [3]);
        // The second one had left the map meanwhile.
        assert_eq!(cookies(&[1, 2, 3]), [2]);
    }
}
