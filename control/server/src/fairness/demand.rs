//! How many seats a level wanted over a time: mean, deviation and most. Pure.

use super::queues::Seconds;

/// Keeps the smoothed demand from falling faster than by half in five minutes, at one step in ten seconds.
const SMOOTHING: f64 = 0.977;

/// What was seen since it was looked at last.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Observed {
    pub(super) duration: f64,
    pub(super) mean: f64,
    pub(super) deviation: f64,
    pub(super) most: f64,
}

/// The demand of a level, as it goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    since: Seconds,
    last: Seconds,
    value: f64,
    sum: f64,
    squares: f64,
    most: f64,
}

impl Demand {
    pub(super) fn new(now: Seconds) -> Self {
        Self { since: now, last: now, value: 0.0, sum: 0.0, squares: 0.0, most: 0.0 }
    }

    fn pass(&mut self, now: Seconds) {
        let passed = (now - self.last).max(0.0);
        self.sum += self.value * passed;
        self.squares += self.value * self.value * passed;
        self.last = self.last.max(now);
    }

    pub(super) fn set(&mut self, now: Seconds, value: f64) {
        self.pass(now);
        self.value = value;
        self.most = self.most.max(value);
    }

    /// What was seen; begins anew.
    pub(super) fn take(&mut self, now: Seconds) -> Observed {
        self.pass(now);
        let duration = self.last - self.since;
        let mut observed = Observed { duration, most: self.most, ..Observed::default() };
        if duration > 0.0 {
            observed.mean = self.sum / duration;
            observed.deviation = (self.squares / duration - observed.mean * observed.mean).max(0.0).sqrt();
        }
        *self = Self { value: self.value, most: self.value, ..Self::new(self.last) };
        observed
    }
}

/// The demand that seats are given by: it rises at once and falls slowly.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Smoothed {
    pub(super) last: Observed,
    pub(super) value: f64,
}

impl Smoothed {
    pub(super) fn update(&mut self, observed: Observed) {
        self.last = observed;
        if observed.duration > 0.0 {
            let envelope = observed.mean + observed.deviation;
            self.value = envelope.max(SMOOTHING * self.value + (1.0 - SMOOTHING) * envelope);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demand_is_weighed_by_time() {
        let mut demand = Demand::new(0.0);
        demand.set(0.0, 4.0);
        demand.set(5.0, 0.0);
        let observed = demand.take(10.0);
        assert_eq!(observed, Observed { duration: 10.0, mean: 2.0, deviation: 2.0, most: 4.0 });
        assert_eq!(demand.take(20.0), Observed { duration: 10.0, ..Observed::default() });
    }

    #[test]
    fn smoothed_demand_rises_at_once_and_halves_in_five_minutes() {
        let of = |mean| Observed { duration: 10.0, mean, ..Observed::default() };
        let mut smoothed = Smoothed::default();
        smoothed.update(of(100.0));
        assert_eq!(smoothed.value, 100.0);
        for _ in 0..30 {
            smoothed.update(of(0.0));
        }
        assert!((smoothed.value - 50.0).abs() < 1.0, "{}", smoothed.value);
    }
}
