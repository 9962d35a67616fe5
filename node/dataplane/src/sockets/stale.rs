//! Which translated sockets are no longer where their frontend leads. Pure.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

use skep_abi::UDP;
use skep_abi::backend::Backend;
use skep_maps::frontend::from_shared;
use skep_maps::{Frontend, Scope};

/// What the socket hook did for a UDP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Translated {
    /// The socket's cookie.
    pub(crate) cookie: u64,
    /// The backend that it was given.
    pub(crate) backend: SocketAddr,
    /// The frontend that its program asked for.
    pub(crate) frontend: SocketAddr,
}

/// Where a frontend leads now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lead {
    /// There is no such frontend.
    Nowhere,
    /// It has no endpoints: there is nothing better than the backend that the socket has.
    Nothing,
    /// To these.
    To(BTreeSet<SocketAddr>),
}

impl Lead {
    /// From the slice of the frontend.
    pub(super) fn from_slots(slots: &[Backend], v4: bool) -> Self {
        let address = |slot: &Backend| SocketAddr::new(from_shared(slot.address, v4), slot.port.get());
        if slots.is_empty() { Self::Nothing } else { Self::To(slots.iter().map(address).collect()) }
    }
}

/// What is to become of a stale socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is connected to its frontend again.
    Reconnect,
    /// It ends: its frontend is gone.
    End,
}

/// Judges sockets one by one. Each frontend is looked up once.
pub(super) struct Staleness<L, E> {
    look_up: L,
    known: HashMap<SocketAddr, Lead>,
    found: Vec<(Translated, Fate)>,
    failed: Option<E>,
}

impl<L: FnMut(&Frontend) -> Result<Lead, E>, E> Staleness<L, E> {
    pub(super) fn new(look_up: L) -> Self {
        Self { look_up, known: HashMap::new(), found: Vec::new(), failed: None }
    }

    /// Keeps `socket` if it is stale.
    pub(super) fn judge(&mut self, socket: Translated) {
        let at = socket.frontend;
        if !self.known.contains_key(&at) {
            let frontend =
                Frontend { address: at.ip(), port: at.port(), protocol: UDP, scope: Scope::Internal };
            match (self.look_up)(&frontend) {
                Ok(lead) => drop(self.known.insert(at, lead)),
                Err(error) => {
                    self.failed.get_or_insert(error);
                    return;
                }
            }
        }
        let fate = match &self.known[&at] {
            Lead::Nowhere => Fate::End,
            Lead::To(backends) if !backends.contains(&socket.backend) => Fate::Reconnect,
            Lead::Nothing | Lead::To(_) => return,
        };
        self.found.push((socket, fate));
    }

    /// Keeps only those of the stale ones so far for which `keep` says so.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Translated) -> bool) {
        self.found.retain(|(socket, _)| keep(socket));
    }

    /// The stale ones.
    pub(super) fn finish(self) -> Result<Vec<(Translated, Fate)>, E> {
        self.failed.map_or(Ok(self.found), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn socket(cookie: u64, backend: &str, frontend: &str) -> Translated {
        Translated { cookie, backend: backend.parse().unwrap(), frontend: frontend.parse().unwrap() }
    }

    #[test]
    fn judge_moves_what_has_another_choice_ends_what_has_no_frontend_and_leaves_the_rest() {
        let looks = Cell::new(0);
        let mut staleness = Staleness::new(|frontend: &Frontend| {
            looks.set(looks.get() + 1);
            assert_eq!((frontend.protocol, frontend.scope), (UDP, Scope::Internal));
            Ok::<_, ()>(match frontend.address.to_string().as_str() {
                "10.96.0.1" => Lead::To(["10.0.0.1:53", "10.0.0.2:53"].map(|a| a.parse().unwrap()).into()),
                "10.96.0.2" => Lead::Nothing,
                _ => Lead::Nowhere,
            })
        });
        let there = socket(1, "10.0.0.1:53", "10.96.0.1:53");
        let another_port = socket(2, "10.0.0.1:54", "10.96.0.1:53");
        let gone = socket(3, "10.0.0.9:53", "10.96.0.1:53");
        let without_choice = socket(4, "10.0.0.9:53", "10.96.0.2:53");
        let deleted = socket(5, "[fd00::1]:53", "[fd96::1]:53");
        for one in [there, another_port, gone, without_choice, deleted] {
            staleness.judge(one);
        }
        let expected =
            [(another_port, Fate::Reconnect), (gone, Fate::Reconnect), (deleted, Fate::End)].to_vec();
        assert_eq!(staleness.finish(), Ok(expected));
        assert_eq!(looks.get(), 3);
    }

    #[test]
    fn finish_after_a_failed_look_up_is_that_failure() {
        let mut staleness = Staleness::new(|_: &Frontend| Err("broken"));
        staleness.judge(socket(1, "10.0.0.1:53", "10.96.0.1:53"));
        assert_eq!(staleness.finish(), Err("broken"));
    }
}
