//! Requests on their way through the queues: what they cost, and where they are.

use std::sync::Arc;
use std::time::Duration;

use super::super::config::Schema;
use super::super::queue::GUESS;
use crate::request::RequestInfo;

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

/// Who asks, and for what: for those who look at what is in the queues.
#[derive(Clone, Debug)]
pub(in crate::fairness) struct Asking {
    pub(in crate::fairness) user: Arc<str>,
    pub(in crate::fairness) info: Arc<RequestInfo>,
}

/// A request that comes.
#[derive(Clone, Debug)]
pub(in crate::fairness) struct Arriving {
    pub(in crate::fairness) work: Work,
    pub(in crate::fairness) flow: u64,
    pub(in crate::fairness) schema: Arc<Schema>,
    pub(in crate::fairness) asking: Asking,
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
#[derive(Debug)]
pub(in crate::fairness) struct Running {
    pub(in crate::fairness) work: Work,
    pub(in crate::fairness) schema: Arc<Schema>,
    pub(super) asking: Asking,
    pub(super) ticket: u64,
    /// How long it waited.
    pub(in crate::fairness) waited: Seconds,
    pub(super) queue: Option<usize>,
    pub(super) flow: u64,
    pub(super) started: Seconds,
}

/// A request whose turn it is, and how to call it.
pub(in crate::fairness) struct Called<T> {
    pub(in crate::fairness) running: Arc<Running>,
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

/// Why a request waits no longer that nobody called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fairness) enum Left {
    /// It waited too long.
    TimedOut,
    /// Its client went away.
    Cancelled,
}

/// What becomes of a request that arrives.
pub(in crate::fairness) enum Arrived {
    Runs(Arc<Running>),
    Waits(Place),
    Refused(Refused),
}
