//! Requests on their way through the queues: what they cost, and where they are.

use std::sync::Arc;
use std::time::Duration;

use super::super::config::Schema;
use super::super::queue::GUESS;

/// Seconds since the level began.
pub(in crate::fairness) type Seconds = f64;

/// What a request costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Work {
    /// Seats while it is handled.
    pub(in crate::fairness) seats: u32,
    /// Seats afterwards, and for how long.
    pub(in crate::fairness) final_seats: u32,
    pub(in crate::fairness) lingering: Duration,
}

impl Work {
    /// A request that takes one seat while it is handled.
    pub(in crate::fairness) const ONE: Self = Self { seats: 1, final_seats: 0, lingering: Duration::ZERO };

    /// Seats that must be free.
    pub(in crate::fairness) fn width(&self) -> u32 {
        self.seats.max(self.final_seats)
    }

    /// Seat-seconds.
    pub(in crate::fairness) fn total(&self) -> f64 {
        f64::from(self.seats) * GUESS + f64::from(self.final_seats) * self.lingering.as_secs_f64()
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fairness) enum Refused {
    /// There is no queue and no seat.
    ConcurrencyLimit,
    /// Its queue is full.
    QueueFull,
}

/// A request that executes: what [`Queues::finish`] wants to have back.
#[derive(Clone, Debug)]
pub(in crate::fairness) struct Running {
    pub(in crate::fairness) work: Work,
    pub(in crate::fairness) schema: Arc<Schema>,
    /// How long it waited.
    pub(in crate::fairness) waited: Seconds,
    pub(super) queue: Option<usize>,
    pub(super) flow: u64,
    pub(super) started: Seconds,
}

/// A request whose turn it is, and how to call it.
pub(in crate::fairness) struct Called<T> {
    pub(in crate::fairness) running: Running,
    pub(in crate::fairness) call: T,
}

/// Where a request that waits is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fairness) struct Place {
    pub(super) queue: usize,
    pub(super) ticket: u64,
    /// How many wait there now.
    pub(in crate::fairness) length: usize,
}

/// What becomes of a request that arrives.
pub(in crate::fairness) enum Arrived {
    Runs(Running),
    Waits(Place),
    Refused(Refused),
}
