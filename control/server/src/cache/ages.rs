//! When revisions were the newest, so that a past can be told that is too old to be listed.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The past that can be listed reaches at least so far back: upstream's interval between two compactions.
const KEPT: Duration = Duration::from_secs(300);

/// The least time between two marks.
const APART: Duration = Duration::from_secs(1);

/// Which revision was the newest when.
#[derive(Debug, Default)]
pub(super) struct Ages(Mutex<VecDeque<(Instant, u64)>>);

impl Ages {
    /// Notes that `revision` is the newest at `now`.
    pub(super) fn note(&self, now: Instant, revision: u64) {
        let mut marks = self.0.lock();
        if marks.back().is_some_and(|(last, _)| now.duration_since(*last) < APART) {
            return;
        }
        marks.push_back((now, revision));
        // Of those that are old only the newest says anything.
        while marks.get(1).is_some_and(|(made, _)| now.duration_since(*made) >= KEPT) {
            marks.pop_front();
        }
    }

    /// Whether `revision` had been followed by others already when the past began that is kept at `now`.
    pub(super) fn is_too_old(&self, now: Instant, revision: u64) -> bool {
        let marks = self.0.lock();
        let old = marks.iter().take_while(|(made, _)| now.duration_since(*made) >= KEPT);
        old.last().is_some_and(|(_, newest)| revision < *newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revision_is_too_old_once_it_was_followed_by_others_longer_ago_than_is_kept() {
        let (ages, start) = (Ages::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!ages.is_too_old(at(0), 1));
        for second in 0..400 {
            ages.note(at(second), 10 + second);
        }
        assert!(!ages.is_too_old(at(299), 0), "nothing was noted so long ago");
        assert!(ages.is_too_old(at(400), 109) && !ages.is_too_old(at(400), 110));
        // Nothing is written any more: the newest stays, however old it is.
        assert!(ages.is_too_old(at(9000), 408) && !ages.is_too_old(at(9000), 409));
    }

    #[test]
    fn marks_that_say_nothing_are_dropped() {
        let (ages, start) = (Ages::default(), Instant::now());
        for tenth in 0..20_000 {
            ages.note(start + Duration::from_millis(tenth * 100), tenth);
        }
        assert!(ages.0.lock().len() <= 302, "{}", ages.0.lock().len());
    }
}
