//! How long a connection keeps the tuple that its backend sees. Owns the time-outs; who asks for a tuple is
//! [`crate::establish`].
//!
//! | connection | gives way to another client | to the same client |
//! |---|---|---|
//! | reset, or both sides have closed | after a tick, for the last packets under way | at once: it has ended there |
//! | one side has closed | after 30 s without a packet | the same |
//! | half-open | after a tick | the same |
//! | UDP, not answered | after 30 s | the same |
//! | UDP, answered | after 120 s | the same |
//! | any other | after a day | the same |
//!
//! UDP's are those of Linux's connection tracking (`nf_conntrack_udp_timeout` and `..._stream`), the day is what kube-proxy
//! sets for established connections.

use skep_abi::flow::{FLOW_HALF_OPEN, Flow, STATE_CLOSED, STATE_CLOSING, STATE_NEW, TICK_SHIFT};
use skep_abi::has_connections;

const fn seconds(seconds: u64) -> u32 {
    ((seconds * 1_000_000_000) >> TICK_SHIFT) as u32
}

/// Ticks for packets that are still under way, and for a client nearby to answer: 67 to 134 ms.
const MOMENT: u32 = 1;
const CLOSING: u32 = seconds(30);
const DATAGRAM: u32 = seconds(30);
const DATAGRAMS: u32 = seconds(120);
const DAY: u32 = seconds(86_400);

/// Ticks without a packet that a connection of `protocol` outlasts. `kin` says that who asks is its own client. Without
/// comparisons of what is only known in the kernel: each would be a branch that the verifier follows once per port tried.
#[inline(always)]
pub fn patience<A>(flow: &Flow<A>, protocol: u8, kin: bool) -> u32 {
    if flow.flags & FLOW_HALF_OPEN != 0 && flow.state != STATE_CLOSED {
        return MOMENT;
    }
    if !has_connections(protocol) {
        return if flow.state == STATE_NEW { DATAGRAM } else { DATAGRAMS };
    }
    match flow.state {
        STATE_CLOSED if kin => 0,
        STATE_CLOSED => MOMENT,
        STATE_CLOSING => CLOSING,
        _ => DAY,
    }
}

/// Whether the connection has outlived its use at `now`.
#[inline(always)]
pub fn is_over<A>(flow: &Flow<A>, protocol: u8, kin: bool, now: u32) -> bool {
    let age = now.wrapping_sub(flow.last_seen);
    let patience = patience(flow, protocol, kin);
    patience == 0 || age > patience
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_abi::flow::STATE_ESTABLISHED;
    use skep_abi::{SCTP, TCP, UDP, V4};

    fn flow(state: u8, flags: u8) -> Flow<V4> {
        Flow { state, flags, last_seen: 1_000, ..Flow::default() }
    }

    /// The first age at which it is over, for another client and for its own.
    fn ends(flow: Flow<V4>, protocol: u8) -> [u32; 2] {
        [false, true].map(|kin| {
            let over = |age: &u32| is_over(&flow, protocol, kin, flow.last_seen.wrapping_add(*age));
            let known = [0, MOMENT + 1, CLOSING + 1, DATAGRAMS + 1, DAY + 1];
            let first = known.into_iter().find(over).expect("everything ends");
            assert!(first == 0 || !over(&(first - 1)), "{flow:?} ends before {first}");
            first
        })
    }

    #[test]
    fn is_over_follows_the_table() {
        for protocol in [TCP, SCTP] {
            assert_eq!(ends(flow(STATE_CLOSED, 0), protocol), [MOMENT + 1, 0]);
            assert_eq!(ends(flow(STATE_CLOSED, FLOW_HALF_OPEN), protocol), [MOMENT + 1, 0]);
            assert_eq!(ends(flow(STATE_CLOSING, 0), protocol), [CLOSING + 1; 2]);
            assert_eq!(ends(flow(STATE_NEW, FLOW_HALF_OPEN), protocol), [MOMENT + 1; 2]);
            assert_eq!(ends(flow(STATE_ESTABLISHED, 0), protocol), [DAY + 1; 2]);
        }
        assert_eq!(ends(flow(STATE_NEW, 0), UDP), [DATAGRAM + 1; 2]);
        assert_eq!(ends(flow(STATE_ESTABLISHED, 0), UDP), [DATAGRAMS + 1; 2]);
    }

    #[test]
    fn is_over_across_the_clocks_wrap_counts_ticks() {
        let old = Flow { last_seen: u32::MAX - 10, ..flow(STATE_CLOSING, 0) };
        assert!(!is_over(&old, TCP, false, CLOSING - 11));
        assert!(is_over(&old, TCP, false, CLOSING));
    }
}
