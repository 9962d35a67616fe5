//! What the socket hooks decide: the backend for a socket that asks for a frontend. Owns the choice and what is
//! remembered; the addresses themselves are read and written by the programs.
//!
//! A service without endpoints is left alone here: the packets then meet TC, which refuses them as it would anyone's, so
//! that the program sees "connection refused" and not "operation not permitted". A frontend with source ranges is left
//! alone too: a socket has no source address yet, its packets have. But for this node's own processes, who are taken to have
//! the node's address: what they send to an address that the node itself holds would meet no TC program.

use skep_abi::affinity::{AffinityKey, CLIENT_NAMESPACE};
use skep_abi::backend::{Backend, BackendState, STATE_ACTIVE, STATE_GONE};
use skep_abi::counters::Reason;
use skep_abi::service::{FLAG_SOURCE_RANGES, SCOPE_INTERNAL, ServiceKey, ServiceValue};
use skep_abi::socket::{self, Connected, Peer, Pick, SocketKey};
use skep_abi::{Be16, V6};

use crate::affinity;
use crate::choose::{self, Inputs};
use crate::family::Family;
use crate::tables::{ServiceEvent, Tables};

/// A socket's address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint<A> {
    /// Address.
    pub address: A,
    /// Port.
    pub port: Be16,
}

/// What the socket hooks need beside the tables.
pub trait Sockets<F: Family>: Tables<F> {
    /// The socket's cookie.
    fn cookie(&self) -> u64;
    /// The cookie of the network namespace that the socket is in: its client identity for session affinity.
    fn client(&self) -> u64;
    /// What the socket was connected to.
    fn connected(&self, cookie: u64, protocol: u8) -> Option<Connected<F::Address>>;
    /// Remembers what the socket is connected to.
    fn set_connected(&self, connected: &Connected<F::Address>);
    /// What a backend stands for, for an unconnected socket.
    fn peer(&self, key: &SocketKey<F::Address>) -> Option<Peer<F::Address>>;
    /// Remembers what a backend stands for.
    fn insert_peer(&self, key: &SocketKey<F::Address>, peer: &Peer<F::Address>);
    /// The backend that an unconnected socket has for a frontend.
    fn pick(&self, key: &SocketKey<F::Address>) -> Option<Pick<F::Address>>;
    /// Remembers the backend that an unconnected socket has for a frontend.
    fn insert_pick(&self, key: &SocketKey<F::Address>, pick: &Pick<F::Address>);
}

/// The backend for a socket that connects (`datagram` false) or sends without being connected (`datagram` true) to
/// `target`; nothing when that is not for a service or there is no endpoint.
#[inline(always)]
pub fn outgoing<F: Family, S: Sockets<F>>(
    sockets: &S,
    target: &Endpoint<F::Address>,
    protocol: u8,
    datagram: bool,
) -> Option<Endpoint<F::Address>> {
    let config = sockets.config()?;
    // What listens there is the namespace's own: only the node's is reached through services at all.
    if F::is_loopback(&target.address) && config.host != 0 && sockets.client() != config.host {
        return None;
    }
    let frontend = ServiceKey::new(target.address, target.port, protocol, SCOPE_INTERNAL);
    let service = sockets.service(&frontend)?;
    let cookie = sockets.cookie();
    let pick_key = key(cookie, target, protocol);
    let mut moved = false;
    if datagram && let Some(pick) = sockets.pick(&pick_key) {
        let state = sockets.backend_state(pick.backend);
        if matches!(state, Some(state) if state.generation == pick.generation && state.state == STATE_ACTIVE)
        {
            return Some(Endpoint { address: pick.address, port: pick.port });
        }
        moved = true;
    }
    if service.flags & FLAG_SOURCE_RANGES != 0 {
        let own = config.host != 0 && sockets.client() == config.host;
        if !own || !sockets.in_source_ranges(service.id, &F::node(config)) {
            return None;
        }
    }
    if service.count == 0 {
        sockets.count(Reason::SocketNoEndpoints, 0);
        sockets.count_service(service.id, ServiceEvent::Refused);
        return None;
    }
    let (backend, state) = client_backend::<F, S>(sockets, &service, datagram)?;
    let chosen = Endpoint { address: F::backend(&backend.address), port: backend.port };
    if datagram {
        let peer = Peer { address: target.address, port: target.port, reserved: 0 };
        sockets.insert_peer(&key(cookie, &chosen, protocol), &peer);
        let pick = Pick {
            address: chosen.address,
            port: chosen.port,
            reserved: 0,
            backend: backend.id,
            generation: state.generation,
        };
        sockets.insert_pick(&pick_key, &pick);
    } else {
        sockets.set_connected(&connected::<F>(cookie, &chosen, target, protocol));
    }
    sockets.count(if moved { Reason::FlowMoved } else { Reason::SocketTranslated }, 0);
    sockets.count_service(service.id, ServiceEvent::Connection);
    Some(chosen)
}

/// What is remembered of a socket that is connected to `backend` for `frontend`.
#[inline(always)]
fn connected<F: Family>(
    cookie: u64,
    backend: &Endpoint<F::Address>,
    frontend: &Endpoint<F::Address>,
    protocol: u8,
) -> Connected<F::Address> {
    let pair = F::pair(cookie, &backend.address, &frontend.address);
    Connected {
        cookie,
        backend: backend.address,
        frontend: frontend.address,
        backend_port: backend.port,
        frontend_port: frontend.port,
        protocol,
        reserved: [0; 3],
        seal: socket::seal(cookie, pair, [backend.port, frontend.port], protocol),
    }
}

/// The backend for the socket's network namespace: the one it had before, where the service has affinity.
#[inline(always)]
fn client_backend<F: Family, S: Sockets<F>>(
    sockets: &S,
    service: &ServiceValue,
    datagram: bool,
) -> Option<(Backend, BackendState)> {
    if !affinity::applies(service) {
        return choose_backend(sockets, service, datagram);
    }
    let [low, high] = words(sockets.client());
    let key = AffinityKey { client: V6([low, high, 0, 0]), service: service.id, kind: CLIENT_NAMESPACE };
    let now = sockets.now();
    if let Ok(kept) = affinity::remembered(sockets, service, &key, now) {
        return Some(kept);
    }
    let chosen = choose_backend(sockets, service, true)?;
    affinity::remember(sockets, &key, chosen, now);
    Some(chosen)
}

/// A backend of the service and, where it is to be written down, its state. Nothing when that is gone, as it may be for an
/// instant during an update: TC translates then. A `connect()` does not ask: what is in a slice is active, one that comes in
/// that instant is as one that came before it, and the look-up is in memory that nothing else has touched.
#[inline(always)]
fn choose_backend<F: Family, S: Sockets<F>>(
    sockets: &S,
    service: &ServiceValue,
    remembered: bool,
) -> Option<(Backend, BackendState)> {
    // There is no tuple yet: one number will do for either.
    let random = sockets.random();
    let inputs = Inputs { random, tuple: random };
    let position = choose::position(service, inputs, false)?;
    let backend = sockets.backend(service.slice.wrapping_add(position))?;
    if !remembered {
        return Some((backend, BackendState::default()));
    }
    let state = sockets.backend_state(backend.id)?;
    if state.state == STATE_GONE { None } else { Some((backend, state)) }
}

/// The frontend that the socket's program knows `source` as, for `recvmsg` (UDP) and `getpeername`.
#[inline(always)]
pub fn incoming<F: Family, S: Sockets<F>>(
    sockets: &S,
    source: &Endpoint<F::Address>,
    protocol: u8,
) -> Option<Endpoint<F::Address>> {
    let cookie = sockets.cookie();
    if let Some(known) = sockets.connected(cookie, protocol) {
        let frontend = Endpoint { address: known.frontend, port: known.frontend_port };
        // It is this socket's, whole, and it speaks of this address.
        if known.cookie == cookie && known.seal == connected::<F>(cookie, source, &frontend, protocol).seal {
            return Some(frontend);
        }
    }
    let peer = sockets.peer(&key(cookie, source, protocol))?;
    Some(Endpoint { address: peer.address, port: peer.port })
}

#[inline(always)]
const fn key<A: Copy>(cookie: u64, endpoint: &Endpoint<A>, protocol: u8) -> SocketKey<A> {
    let Endpoint { address, port } = *endpoint;
    SocketKey { cookie: words(cookie), address, port, protocol, reserved: 0 }
}

const fn words(cookie: u64) -> [u32; 2] {
    [cookie as u32, (cookie >> 32) as u32]
}
