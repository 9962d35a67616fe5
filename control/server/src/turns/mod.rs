//! Turns at the processors. Seats of [`fairness`](crate::fairness) bound how many requests are under way; what keeps
//! another's request waiting is the computing of those before it. So every task that serves a client computes in turns:
//! only as many of them as there are processors at a time, and who is next is decided by the time that their flows have
//! had ([`lines`]), not in the order in which the runtime woke them. Whoever sends without pause waits behind themselves.
//!
//! A turn is one poll of such a task, of a connection or of a handler: reading, decrypting, letting in and answering all
//! happen within one. A task that is woken takes its place in the line of its flow; the runtime, which runs tasks in the
//! order in which they were woken, is given only those whose turn it is. A poll that goes on for longer than a [slice](slice) gives way where it can: between the pieces of
//! an answer, between reads and writes, and where a handler [pauses](pause).
//!
//! A connection waits in the line of the flow of its last request, before the first one in that of its peer's address.
//! What is exempt from fairness has turns whenever it likes. Does not own what a flow is.
//!
//! The store is one thread, for which there are no turns: there a flow may have only so many writes at a time ([`Commits`]).

mod commits;
mod in_turn;
mod lines;
mod place;
mod slice;

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use commits::Commits;
pub(crate) use in_turn::{InTurn, Spawner};
use lines::Lines;
pub(crate) use slice::{gives_way, gives_way_writing, is_long, pause};

/// The turns of a server, shared by all who serve its clients. Clones are the same.
#[derive(Clone, Debug)]
pub struct Turns {
    lines: Arc<Lines>,
}

impl Default for Turns {
    /// Turns at the processors that this process may use.
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
        Self { lines: Arc::new(Lines::new(processors)) }
    }
}

/// Waits in no line: turns are free.
const EXEMPT: u64 = 0;

/// The line in which tasks of one client wait for their turns. Clones are the same: a connection and what it started.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    lines: Arc<Lines>,
    flow: Arc<AtomicU64>,
}

impl Lane {
    /// That of a peer of whom nothing but the address is known.
    pub(crate) fn of_peer(turns: &Turns, address: IpAddr) -> Self {
        let mut hasher = ahash::AHasher::default();
        address.hash(&mut hasher);
        let lane = Self::exempt(turns);
        lane.follow(hasher.finish());
        lane
    }

    /// That of somebody who need not wait, until it is [told](Self::follow) otherwise.
    pub(crate) fn exempt(turns: &Turns) -> Self {
        Self { lines: turns.lines.clone(), flow: Arc::new(AtomicU64::new(EXEMPT)) }
    }

    /// Waits in the line of this flow from now on.
    pub(crate) fn follow(&self, flow: u64) {
        self.flow.store(flow.max(EXEMPT + 1), Ordering::Relaxed);
    }

    /// Waits no more from now on.
    pub(crate) fn free(&self) {
        self.flow.store(EXEMPT, Ordering::Relaxed);
    }

    fn flow(&self) -> Option<u64> {
        Some(self.flow.load(Ordering::Relaxed)).filter(|flow| *flow != EXEMPT)
    }
}

#[cfg(test)]
mod tests;
