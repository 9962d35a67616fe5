//! The wall clock, passed in so that tests decide what time it is.

use std::sync::Arc;

use jiff::{Timestamp, Unit};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Tells the time. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Arc::new(Timestamp::now))
    }

    /// A clock of the caller's.
    pub fn from_fn(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Now, to the nanosecond.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }

    /// Now in whole seconds, which is what the API stores (`metav1.Time`).
    pub fn time(&self) -> Time {
        Time(whole_seconds(self.now()))
    }
}

/// Cuts the fraction of a second off, as `metav1.Time` does when it is written.
pub fn whole_seconds(at: Timestamp) -> Timestamp {
    let rounding = jiff::TimestampRound::new().smallest(Unit::Second).mode(jiff::RoundMode::Trunc);
    at.round(rounding).unwrap_or(at)
}

/// `at` plus seconds, saturating at the ends of time.
pub fn plus_seconds(at: Timestamp, seconds: i64) -> Timestamp {
    at.saturating_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

/// How long from `now` until `then`; zero when it is past.
pub fn until(now: Timestamp, then: Timestamp) -> std::time::Duration {
    std::time::Duration::try_from(then.duration_since(now)).unwrap_or_default()
}
