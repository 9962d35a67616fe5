//! Session affinity: whether the backend that a client was given last is to be had again. Owns the rule and the order of
//! look-up and renewal; which backend a client gets otherwise is [`crate::assign`]'s.
//!
//! As upstream, the time-out runs from the client's last new connection to the service port, whatever its packets do.

use skep_abi::affinity::{Affinity, AffinityKey, ticks};
use skep_abi::backend::{BACKEND_LOCAL, Backend, BackendState, STATE_ACTIVE};
use skep_abi::service::{FLAG_AFFINITY, FLAG_DROP_WHEN_EMPTY, ServiceValue};

use crate::family::Family;
use crate::tables::Tables;

/// The backend that the client is to keep, its entry renewed.
///
/// # Errors
///
/// It is to keep none. The number is the time of the entry that does not count, 0 without one: it stays the same until the
/// client's next backend is written down.
#[inline(always)]
pub fn remembered<F: Family, T: Tables<F>>(
    tables: &T,
    service: &ServiceValue,
    key: &AffinityKey,
    now: u32,
) -> Result<(Backend, BackendState), u32> {
    let found = tables.affinity(key, |entry| match tables.backend_state(entry.backend.id) {
        Some(state) if follows(entry, service, state, now) => {
            entry.last_used = now;
            Ok((entry.backend, state))
        }
        _ => Err(entry.last_used),
    });
    found.unwrap_or(Err(0))
}

/// Writes down what the client was given.
#[inline(always)]
pub fn remember<F: Family, T: Tables<F>>(
    tables: &T,
    key: &AffinityKey,
    (backend, state): (Backend, BackendState),
    now: u32,
) {
    tables.insert_affinity(key, &Affinity { backend, generation: state.generation, last_used: now });
}

/// Whether the service's clients keep their backends.
#[inline(always)]
pub const fn applies(service: &ServiceValue) -> bool {
    service.flags & FLAG_AFFINITY != 0
}

/// Whether the entry counts. A frontend of a `Local` traffic policy, which shares its number with others of the service,
/// takes only a backend on this node.
#[inline(always)]
const fn follows(entry: &Affinity, service: &ServiceValue, state: BackendState, now: u32) -> bool {
    let fresh = now.wrapping_sub(entry.last_used) < ticks(service.affinity_seconds);
    let same = state.state == STATE_ACTIVE && state.generation == entry.generation;
    let local_only = service.flags & FLAG_DROP_WHEN_EMPTY != 0;
    fresh && same && (!local_only || entry.backend.flags & BACKEND_LOCAL != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_abi::backend::{STATE_DRAINING, STATE_GONE};

    fn check(age: u32, state: u32, generation: u32, flags: u16, local: bool) -> bool {
        let flag = if local { BACKEND_LOCAL } else { 0 };
        let backend = Backend { id: 7, flags: flag, ..Backend::default() };
        let last_used = u32::MAX - 5;
        let entry = Affinity { backend, generation: 3, last_used };
        let service = ServiceValue { flags, affinity_seconds: 10, ..ServiceValue::default() };
        follows(&entry, &service, BackendState { state, generation }, last_used.wrapping_add(age))
    }

    #[test]
    fn entry_counts_until_its_time_is_out_also_across_the_clocks_wrap() {
        assert_eq!(ticks(10), 149);
        assert!(check(0, STATE_ACTIVE, 3, FLAG_AFFINITY, false));
        assert!(check(148, STATE_ACTIVE, 3, FLAG_AFFINITY, false));
        assert!(!check(149, STATE_ACTIVE, 3, FLAG_AFFINITY, false));
    }

    #[test]
    fn entry_of_a_backend_that_left_or_lives_again_does_not_count() {
        assert!(!check(0, STATE_DRAINING, 3, FLAG_AFFINITY, false));
        assert!(!check(0, STATE_GONE, 3, FLAG_AFFINITY, false));
        assert!(!check(0, STATE_ACTIVE, 4, FLAG_AFFINITY, false));
    }

    #[test]
    fn entry_of_a_backend_elsewhere_does_not_count_for_a_local_policy() {
        let flags = FLAG_AFFINITY | FLAG_DROP_WHEN_EMPTY;
        assert!(!check(0, STATE_ACTIVE, 3, flags, false));
        assert!(check(0, STATE_ACTIVE, 3, flags, true));
    }

    #[test]
    fn longest_time_out_of_the_api_fits() {
        assert_eq!(ticks(86_400), 1_287_460);
    }
}
