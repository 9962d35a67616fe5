//! One queue of a level: who waits there, what of it is under way, and how much of its share it has used. Pure.
//!
//! A request is charged when it begins, by a guess, and what was guessed is put right when it ends. In between it is
//! charged for as long as it has lasted: otherwise a queue of long requests would seem to have used next to nothing until
//! the first of them ends, and would get every seat that comes free.

use std::collections::VecDeque;

use super::queues::{Arriving, Seconds};

/// What a request is taken to last until it is known.
pub(super) const GUESS: Seconds = 0.003;

/// A request that waits.
pub(super) struct Waiting<T> {
    pub(super) ticket: u64,
    pub(super) one: Arriving,
    pub(super) arrived: Seconds,
    /// R when it came.
    pub(super) arrival: f64,
    pub(super) call: T,
}

pub(super) struct Queue<T> {
    pub(super) waiting: VecDeque<Waiting<T>>,
    /// Requests that are being handled, their seats, and the sum of the times at which they began, once for each seat.
    executing: usize,
    executing_seats: f64,
    began: f64,
    /// R at which its next request would begin, by guesses.
    next: f64,
    /// Seats that its requests have, with those of requests that linger.
    pub(super) seats: u32,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self { waiting: VecDeque::new(), executing: 0, executing_seats: 0.0, began: 0.0, next: 0.0, seats: 0 }
    }

    /// R at which its next request would begin.
    pub(super) fn next(&self) -> f64 {
        self.next
    }

    /// What it is charged for requests under way, by guesses.
    pub(super) fn guessed(&self) -> f64 {
        self.executing_seats * GUESS
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.waiting.is_empty() || self.executing > 0
    }

    /// No request begins before it came: a queue that uses less than its share saves nothing up.
    fn bound(&mut self) {
        if let Some(oldest) = self.waiting.front() {
            self.next = self.next.max(oldest.arrival);
        }
    }

    /// A request comes.
    pub(super) fn push(&mut self, one: Waiting<T>) {
        if !self.is_busy() {
            self.next = one.arrival;
        }
        self.waiting.push_back(one);
        self.bound();
    }

    /// What all that waits here is taken to cost, and how much is under way.
    pub(super) fn load(&self) -> (f64, usize) {
        (self.waiting.iter().map(|waiting| waiting.one.work.total()).sum(), self.executing)
    }

    /// R at which its oldest request would end.
    pub(super) fn end_of_next(&self, now: Seconds) -> Option<f64> {
        let oldest = self.waiting.front()?;
        let lasted = self.executing_seats * (now - GUESS) - self.began;
        Some(self.next + lasted.max(0.0) + oldest.one.work.total())
    }

    /// The oldest request begins.
    pub(super) fn begin(&mut self, now: Seconds) -> Waiting<T> {
        let oldest = self.waiting.pop_front().expect("the chosen queue has requests");
        let work = oldest.one.work;
        let seats = f64::from(work.seats);
        self.seats += work.width();
        self.next += work.total();
        self.bound();
        self.executing += 1;
        self.executing_seats += seats;
        self.began += seats * now;
        oldest
    }

    /// A request ends that had so many seats.
    pub(super) fn end(&mut self, seats: u32, began: Seconds, now: Seconds) {
        let seats = f64::from(seats);
        self.executing -= 1;
        self.executing_seats -= seats;
        self.began -= seats * began;
        if self.executing == 0 {
            // Nothing is left of what rounding left.
            (self.executing_seats, self.began) = (0.0, 0.0);
        }
        self.next += seats * (now - began - GUESS);
        self.bound();
    }

    /// Who waits with this ticket waits no more.
    pub(super) fn leave(&mut self, ticket: u64) -> Option<Waiting<T>> {
        let at = self.waiting.iter().position(|one| one.ticket == ticket)?;
        let one = self.waiting.remove(at);
        self.bound();
        one
    }
}
