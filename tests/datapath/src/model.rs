//! A reference model of the datapath: what becomes of each packet, from the API's documentation and RFC 9293 alone. Owns
//! what a simple implementation would remember: plain collections, no eviction, no next hops, one connection per client,
//! port and frontend. Where the datapath is free, in the choice of backend and port, it says what is allowed and takes in
//! what was chosen.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::packet::{ACK, FIN, RST, SYN, TCP, UDP};

/// A backend's condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Gets new connections.
    Active,
    /// Keeps its TCP connections.
    Draining,
    /// Is not there.
    Gone,
}

/// One backend and which life it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Where it answers.
    pub address: SocketAddr,
    /// What it is.
    pub condition: Condition,
    /// Raised each time it comes back from being gone.
    pub life: u32,
}

/// One service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Where clients ask.
    pub frontend: SocketAddr,
    /// [`TCP`] or [`UDP`].
    pub protocol: u8,
    /// Whether it is there.
    pub present: bool,
    /// Drops instead of refusing when no backend is active.
    pub drops_when_empty: bool,
    /// All backends that it ever had.
    pub backends: Vec<Backend>,
}

impl Service {
    /// The backends for new connections, by their places.
    pub fn active(&self) -> Vec<usize> {
        let is_active = |at: &usize| self.backends[*at].condition == Condition::Active;
        (0..self.backends.len()).filter(is_active).collect()
    }
}

/// How far a client has come in closing its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Closing {
    No,
    Fin,
    Reset,
}

#[derive(Clone, Copy, Debug)]
struct Connection {
    backend: usize,
    life: u32,
    source: SocketAddr,
    half_open: bool,
    /// The backend has answered the SYN.
    answered: bool,
    closing: Closing,
}

/// What a backend's packets to a source that it saw belong to.
#[derive(Clone, Copy, Debug)]
struct Reply {
    connection: Key,
    backend: usize,
    life: u32,
    /// The backend has closed its side.
    closing: bool,
    /// Closed by both sides or reset, or the client was told that the backend is gone.
    over: bool,
}

/// What is to become of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It is left alone.
    Passed,
    /// It leaves with these two ends.
    Translated {
        /// Source.
        source: SocketAddr,
        /// Destination.
        destination: SocketAddr,
        /// Whether it makes a half-open connection a made one.
        opens: bool,
    },
    /// It makes a connection to one of the backends at these places.
    New {
        /// The backends.
        backends: Vec<usize>,
        /// Whether it takes the place of another.
        moved: bool,
    },
    /// It is answered, or dropped, for this reason.
    Refused(&'static str),
    /// It is dropped for this reason.
    Dropped(&'static str),
}

/// A client's end and a service's place.
type Key = (SocketAddr, usize);

/// The model.
#[derive(Clone, Debug)]
pub struct Model {
    /// The services.
    pub services: Vec<Service>,
    connections: BTreeMap<Key, Connection>,
    /// By backend, source and protocol.
    replies: BTreeMap<(SocketAddr, SocketAddr, u8), Reply>,
}

impl Model {
    /// Without connections.
    pub const fn new(services: Vec<Service>) -> Self {
        Self { services, connections: BTreeMap::new(), replies: BTreeMap::new() }
    }

    fn condition(&self, service: usize, backend: usize, life: u32) -> Condition {
        let backend = self.services[service].backends[backend];
        if backend.life == life { backend.condition } else { Condition::Gone }
    }

    /// A client's packet to a service's frontend.
    pub fn from_client(&mut self, client: SocketAddr, service: usize, flags: u8) -> Expected {
        let protocol = self.services[service].protocol;
        let opens = flags & (SYN | ACK | RST | FIN) == SYN;
        let known = self.connections.get(&(client, service)).copied();
        if let Some(connection) = known {
            let condition = self.condition(service, connection.backend, connection.life);
            let kept = match protocol {
                UDP => condition == Condition::Active,
                _ if opens => connection.closing == Closing::No && condition == Condition::Active,
                _ if condition == Condition::Gone => {
                    if let Some(reply) = self.reply_of((client, service)) {
                        reply.over = true;
                    }
                    return Expected::Refused("backend_gone");
                }
                _ => true,
            };
            if kept {
                return self.carry((client, service), connection, flags);
            }
        }
        let offered = &self.services[service];
        let active = offered.active();
        if !offered.present {
            Expected::Passed
        } else if active.is_empty() && offered.drops_when_empty {
            Expected::Dropped("no_local_endpoints")
        } else if active.is_empty() {
            Expected::Refused("no_endpoints")
        } else if protocol == TCP && !opens {
            Expected::Refused("no_flow")
        } else {
            Expected::New { backends: active, moved: known.is_some() && protocol == UDP }
        }
    }

    fn carry(&mut self, key: Key, mut connection: Connection, flags: u8) -> Expected {
        let opens = connection.half_open && flags & (SYN | RST | ACK) == ACK;
        if opens && !connection.answered {
            return Expected::Dropped("wrong_answer");
        }
        connection.half_open &= !opens;
        if flags & RST != 0 {
            connection.closing = Closing::Reset;
        } else if flags & FIN != 0 {
            connection.closing = connection.closing.max(Closing::Fin);
        }
        self.connections.insert(key, connection);
        if let Some(reply) = self.reply_of(key) {
            reply.over |= flags & RST != 0 || flags & FIN != 0 && reply.closing;
        }
        let destination = self.services[key.1].backends[connection.backend].address;
        Expected::Translated { source: connection.source, destination, opens }
    }

    /// The other direction of a connection, while that has its tuple.
    fn reply_of(&mut self, key: Key) -> Option<&mut Reply> {
        let Connection { backend, life, source, .. } = *self.connections.get(&key)?;
        let service = &self.services[key.1];
        let reply = self.replies.get_mut(&(service.backends[backend].address, source, service.protocol))?;
        ((reply.connection, reply.backend, reply.life) == (key, backend, life)).then_some(reply)
    }

    /// Takes in what was chosen for a new connection.
    ///
    /// # Errors
    ///
    /// The backend is not one of its service's, or another connection has the source.
    pub fn chosen(
        &mut self,
        client: SocketAddr,
        service: usize,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Result<(), String> {
        let offered = &self.services[service];
        let found = offered.active().into_iter().find(|at| offered.backends[*at].address == destination);
        let Some(backend) = found else { return Err(format!("{destination} is no backend")) };
        let (protocol, life) = (offered.protocol, offered.backends[backend].life);
        let (key, tuple) = ((client, service), (destination, source, protocol));
        if let Some(other) = self.replies.get(&tuple)
            && other.connection != key
            && self.is_needed(other.connection, other.backend, other.life, source)
        {
            return Err(format!("{source} to {destination} is {:?}'s", other.connection));
        }
        let half_open = protocol == TCP;
        let made = Connection { backend, life, source, half_open, answered: false, closing: Closing::No };
        self.connections.insert(key, made);
        self.replies.insert(tuple, Reply { connection: key, backend, life, closing: false, over: false });
        Ok(())
    }

    fn is_needed(&self, key: Key, backend: usize, life: u32, source: SocketAddr) -> bool {
        let current = self.connections.get(&key).is_some_and(|known| known.source == source);
        current && self.condition(key.1, backend, life) != Condition::Gone
    }

    /// What a connection's backend sees as its ends: the source, then itself.
    pub fn seen(&self, client: SocketAddr, service: usize) -> Option<(SocketAddr, SocketAddr)> {
        let connection = self.connections.get(&(client, service))?;
        Some((connection.source, self.services[service].backends[connection.backend].address))
    }

    /// A packet from a backend to a source that it saw.
    pub fn from_backend(
        &mut self,
        backend: SocketAddr,
        source: SocketAddr,
        protocol: u8,
        flags: u8,
    ) -> Expected {
        let tuple = (backend, source, protocol);
        let Some(mut reply) = self.replies.get(&tuple).copied() else { return Expected::Passed };
        let (client, service) = reply.connection;
        if self.condition(service, reply.backend, reply.life) == Condition::Gone {
            // What was under way reaches its client; what begins anew is somebody else's.
            reply.over |= flags & SYN != 0;
            if protocol == UDP || reply.over {
                self.replies.insert(tuple, reply);
                return Expected::Passed;
            }
        }
        reply.over |= flags & RST != 0;
        reply.closing |= flags & FIN != 0;
        if let Some(connection) = self.connections.get_mut(&reply.connection)
            && (connection.source, connection.backend, connection.life) == (source, reply.backend, reply.life)
        {
            connection.answered |= flags & (SYN | RST | ACK) == SYN | ACK;
            reply.over |= flags & FIN != 0 && connection.closing != Closing::No;
            if flags & RST != 0 {
                connection.closing = Closing::Reset;
            }
        }
        self.replies.insert(tuple, reply);
        let frontend = self.services[service].frontend;
        Expected::Translated { source: frontend, destination: client, opens: false }
    }

    /// The backends at these places.
    pub fn addresses(&self, service: usize, backends: &[usize]) -> BTreeSet<SocketAddr> {
        backends.iter().map(|at| self.services[service].backends[*at].address).collect()
    }
}
