//! How long a container that keeps failing, or an image that cannot be pulled, is left alone.
//!
//! The numbers are upstream's: 10 s, doubled with every failure up to 5 min, forgotten after 10 min of success.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

const INITIAL: SignedDuration = SignedDuration::from_secs(10);
const MAXIMUM: SignedDuration = SignedDuration::from_secs(300);
const FORGET_AFTER: SignedDuration = SignedDuration::from_secs(600);

#[derive(Clone, Copy, Debug)]
struct Entry {
    delay: SignedDuration,
    updated: Timestamp,
}

/// Delays by key (a container's name, an image).
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    entries: HashMap<String, Entry>,
}

impl Backoff {
    /// When the next try may be made after a failure at `failed_at`, and the delay; `None` for at once.
    pub fn until(&self, key: &str, failed_at: Timestamp) -> Option<(Timestamp, SignedDuration)> {
        let entry = self.entries.get(key)?;
        if failed_at.duration_since(entry.updated) > FORGET_AFTER {
            return None;
        }
        Some((failed_at.saturating_add(entry.delay).unwrap_or(failed_at), entry.delay))
    }

    /// Notes that another try is made now, after a failure at `failed_at`.
    pub fn advance(&mut self, key: &str, failed_at: Timestamp, now: Timestamp) {
        let delay = match self.entries.get(key) {
            Some(entry) if failed_at.duration_since(entry.updated) <= FORGET_AFTER => {
                (entry.delay * 2).min(MAXIMUM)
            }
            _ => INITIAL,
        };
        self.entries.insert(key.to_owned(), Entry { delay, updated: now });
    }

    /// Takes up where an earlier agent left off: `tries` were made before, the last one ended at `failed_at`.
    pub fn resume(&mut self, key: &str, tries: u32, failed_at: Timestamp) {
        if tries > 0 && !self.entries.contains_key(key) {
            let delay = (INITIAL * (1_i32 << (tries - 1).min(5))).min(MAXIMUM);
            self.entries.insert(key.to_owned(), Entry { delay, updated: failed_at });
        }
    }

    /// Forgets a key after success.
    pub fn forget(&mut self, key: &str) {
        self.entries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn delay(backoff: &Backoff, second: i64) -> Option<i64> {
        backoff.until("a", at(second)).map(|(_, delay)| delay.as_secs())
    }

    #[test]
    fn delay_doubles_up_to_five_minutes() {
        let mut backoff = Backoff::default();
        assert_eq!(delay(&backoff, 0), None);
        let mut seen = Vec::new();
        for round in 0..7 {
            backoff.advance("a", at(round), at(round));
            seen.extend(delay(&backoff, round));
        }
        assert_eq!(seen, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(backoff.until("b", at(0)), None);
    }

    #[test]
    fn delay_is_forgotten_after_ten_good_minutes() {
        let mut backoff = Backoff::default();
        backoff.advance("a", at(0), at(0));
        assert_eq!(delay(&backoff, 600), Some(10));
        assert_eq!(delay(&backoff, 601), None);
        backoff.advance("a", at(601), at(601));
        assert_eq!(delay(&backoff, 602), Some(10));
    }

    #[test]
    fn resumed_delay_matches_the_tries_made() {
        let mut backoff = Backoff::default();
        backoff.resume("a", 3, at(0));
        assert_eq!(delay(&backoff, 1), Some(40));
        backoff.resume("a", 9, at(0));
        assert_eq!(delay(&backoff, 1), Some(40));
    }
}
