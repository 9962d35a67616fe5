//! Who leads, decided from the Lease that was read: pure.
//!
//! The rule is upstream's (client-go, `tools/leaderelection`): times in the record are never compared with this machine's
//! clock. A record counts as long as it was last seen to change less than its duration ago, by the monotonic clock.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// How long a record that does not change is respected.
pub(super) const DURATION: Duration = Duration::from_secs(15);
/// How long a leader that cannot renew goes on.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);
/// Longest wait for one attempt: another one may reach a member of the store that answers.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);
/// Time between two attempts.
pub(super) const RETRY: Duration = Duration::from_secs(2);

/// What to do with a Lease.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Somebody else leads.
    Wait,
    /// Write this, and lead if that succeeds.
    Write(LeaseSpec),
}

/// The next step of `identity`. `record` is what the Lease says, if it exists; it has not changed for `unchanged`.
pub(super) fn next(identity: &str, record: Option<&LeaseSpec>, unchanged: Duration, now: &MicroTime) -> Step {
    let old = record.cloned().unwrap_or_default();
    let holder = old.holder_identity.as_deref().unwrap_or_default();
    let whole = i32::try_from(DURATION.as_secs()).unwrap_or(i32::MAX);
    if holder == identity {
        let renewed = LeaseSpec { renew_time: Some(now.clone()), lease_duration_seconds: Some(whole), ..old };
        return Step::Write(renewed);
    }
    let respected = old.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    if !holder.is_empty() && unchanged < respected.map_or(DURATION, Duration::from_secs) {
        return Step::Wait;
    }
    Step::Write(LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(whole),
        acquire_time: Some(now.clone()),
        renew_time: Some(now.clone()),
        lease_transitions: Some(old.lease_transitions.map_or(0, |count| count.saturating_add(1))),
        ..old
    })
}

/// The record of a leader that goes of its own accord, so that the next one need not wait.
pub(super) fn release(record: &LeaseSpec, now: &MicroTime) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(String::new()),
        lease_duration_seconds: Some(1),
        renew_time: Some(now.clone()),
        ..record.clone()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn at(second: i64) -> MicroTime {
        MicroTime(Timestamp::from_second(second).unwrap())
    }

    fn held(holder: &str, seconds: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(seconds),
            acquire_time: Some(at(100)),
            renew_time: Some(at(200)),
            lease_transitions: Some(4),
            ..LeaseSpec::default()
        }
    }

    fn written(step: Step) -> LeaseSpec {
        match step {
            Step::Write(spec) => spec,
            Step::Wait => panic!("waits"),
        }
    }

    #[test]
    fn lease_that_is_not_there_is_taken() {
        let spec = written(next("me", None, Duration::ZERO, &at(300)));
        assert_eq!(spec.holder_identity.as_deref(), Some("me"));
        assert_eq!((spec.lease_duration_seconds, spec.lease_transitions), (Some(15), Some(0)));
    }

    #[test]
    fn own_lease_is_renewed_and_keeps_its_beginning() {
        let spec = written(next("me", Some(&held("me", 15)), Duration::ZERO, &at(300)));
        assert_eq!((spec.acquire_time, spec.renew_time), (Some(at(100)), Some(at(300))));
        assert_eq!(spec.lease_transitions, Some(4));
    }

    #[test]
    fn lease_of_another_is_respected_for_its_duration_only() {
        let other = held("other", 30);
        assert_eq!(next("me", Some(&other), Duration::from_secs(29), &at(9000)), Step::Wait);
        let spec = written(next("me", Some(&other), Duration::from_secs(30), &at(300)));
        assert_eq!((spec.acquire_time, spec.lease_transitions), (Some(at(300)), Some(5)));
    }

    #[test]
    fn released_lease_is_taken_at_once() {
        let free = release(&held("other", 15), &at(300));
        let spec = written(next("me", Some(&free), Duration::ZERO, &at(301)));
        assert_eq!(spec.holder_identity.as_deref(), Some("me"));
    }
}
