//! Time and chance, passed in so that tests can decide both.

use std::sync::Arc;
use std::time::SystemTime;

use jiff::{SignedDuration, Timestamp};

use crate::gate::{Clock, NewId};

/// The letters of generated names, as upstream has them: none that form words or look alike.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX: usize = 5;

/// Where time, ids and chance come from.
#[derive(Clone)]
pub struct Ids {
    /// The time.
    pub clock: Clock,
    /// UIDs of objects.
    pub uid: NewId,
    /// Random numbers.
    pub random: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Default for Ids {
    fn default() -> Self {
        Self { clock: Arc::new(SystemTime::now), uid: Arc::new(random_id), random: Arc::new(rand::random) }
    }
}

/// A random UUID. Its bits come from the generator of the thread, not each time from the kernel.
pub(crate) fn random_id() -> String {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string()
}

impl std::fmt::Debug for Ids {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ids").finish_non_exhaustive()
    }
}

impl Ids {
    /// A new UID.
    pub fn uid(&self) -> String {
        (self.uid)()
    }

    /// The time, to the second: what objects carry.
    pub fn now(&self) -> Timestamp {
        let now = Timestamp::try_from((self.clock)()).unwrap_or(Timestamp::UNIX_EPOCH);
        Timestamp::from_second(now.as_second()).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// The time as objects carry it (RFC 3339, seconds).
    pub fn now_text(&self) -> String {
        self.now().to_string()
    }

    /// The time in so many seconds, which end at the latest that can be written.
    pub fn text_after(&self, seconds: i64) -> String {
        self.now().saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX).to_string()
    }

    /// The end of a generated name.
    pub fn suffix(&self) -> String {
        let mut chance = (self.random)();
        let mut letter = || {
            let at = (chance % LETTERS.len() as u64) as usize;
            chance /= LETTERS.len() as u64;
            char::from(LETTERS[at])
        };
        (0..SUFFIX).map(|_| letter()).collect()
    }

    /// A random number below `limit`, which is not 0.
    pub fn below(&self, limit: u64) -> u64 {
        (self.random)() % limit
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn times_are_written_to_the_second() {
        let ids = Ids {
            clock: Arc::new(|| UNIX_EPOCH + Duration::from_millis(1_700_000_000_900)),
            ..Ids::default()
        };
        assert_eq!(ids.now_text(), "2023-11-14T22:13:20Z");
        assert_eq!(ids.text_after(30), "2023-11-14T22:13:50Z");
    }

    #[test]
    fn suffixes_have_five_letters() {
        let ids = Ids { random: Arc::new(|| u64::MAX), ..Ids::default() };
        assert_eq!(ids.suffix().len(), 5);
        assert!(ids.suffix().bytes().all(|byte| LETTERS.contains(&byte)));
    }
}
