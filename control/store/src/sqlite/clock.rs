//! The store's own time of day: what expiry goes by.
//!
//! Starts at the machine's clock, or where the store's time last stood if the machine's clock is behind that, and from
//! then on follows the monotonic clock. So a clock that is set while the store runs neither ends nor lengthens the life
//! of a key, and one that is set back between two runs does not bring time back.

use std::time::Instant;

/// Time that only goes forward, at the pace of the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoreClock {
    /// Milliseconds since the Unix epoch at `since`.
    anchor: i64,
    since: Instant,
}

impl StoreClock {
    /// Starts at `wall`, but not before `stood`; both in milliseconds since the Unix epoch.
    pub(super) fn start(wall: i64, stood: i64) -> Self {
        Self { anchor: wall.max(stood), since: Instant::now() }
    }

    /// Milliseconds since the Unix epoch at `instant`.
    pub(super) fn at(&self, instant: Instant) -> i64 {
        let passed = instant.saturating_duration_since(self.since).as_millis();
        self.anchor.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn clock_starts_no_earlier_than_it_stood_and_follows_the_monotonic_one() {
        for (wall, stood, start) in [(1000, 0, 1000), (1000, 5000, 5000), (7000, 5000, 7000)] {
            let clock = StoreClock::start(wall, stood);
            assert_eq!(clock.at(clock.since), start);
            assert_eq!(clock.at(clock.since + Duration::from_millis(250)), start + 250);
        }
    }
}
