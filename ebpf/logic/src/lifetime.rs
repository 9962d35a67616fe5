//! How long a connection keeps the tuple that its backend sees, and its place in a full table. Owns the time-outs;
//! who asks for a tuple is [`crate::establish`], for a place whoever enters another flow.
//!
//! | connection | gives way after so long without a packet |
//! |---|---|
//! | reset, or closed by both sides, the client first | to its own client at once: it has ended there; to others a tick, for the last packets under way |
//! | closed by both sides, the backend first | a minute; when there is no other tuple, a tick |
//! | closed by one side | 30 s |
//! | half-open | a tick |
//! | UDP, not answered | 30 s |
//! | UDP, answered | 120 s |
//! | any other | a day |
//!
//! A backend that closes first keeps the connection in `TIME_WAIT`, for a minute under Linux, and takes a SYN for a new one
//! only if its sequence number or time stamp is a later one. Those of one client go up for each pair of ends as the client
//! sees them, not from one service to the next.
//!
//! UDP's are those of Linux's connection tracking (`nf_conntrack_udp_timeout` and `..._stream`), the day is what kube-proxy
//! sets for established connections.

use skep_abi::flow::{
    FLOW_HALF_OPEN, Flow, STATE_CLOSED, STATE_CLOSING, STATE_NEW, STATE_TIME_WAIT, TICK_SHIFT,
};
use skep_abi::has_connections;

const fn seconds(seconds: u64) -> u32 {
    ((seconds * 1_000_000_000) >> TICK_SHIFT) as u32
}

/// Ticks for packets that are still under way, and for a client nearby to answer: 67 to 134 ms.
const MOMENT: u32 = 1;
const CLOSING: u32 = seconds(30);
const DATAGRAM: u32 = seconds(30);
const DATAGRAMS: u32 = seconds(120);
const WAITING: u32 = seconds(60);
const DAY: u32 = seconds(86_400);

/// Who asks for a connection's tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// Its own client.
    Own,
    /// Another client.
    Other,
    /// Another client, which has found no other tuple.
    Last,
}

/// Ticks without a packet that a connection of `protocol` outlasts.
#[inline(always)]
fn patience<A>(flow: &Flow<A>, protocol: u8, asker: Asker) -> u32 {
    if flow.flags & FLOW_HALF_OPEN != 0 && flow.state != STATE_CLOSED {
        return MOMENT;
    }
    if !has_connections(protocol) {
        return if flow.state == STATE_NEW { DATAGRAM } else { DATAGRAMS };
    }
    match flow.state {
        STATE_CLOSED if matches!(asker, Asker::Own) => 0,
        STATE_CLOSED => MOMENT,
        STATE_TIME_WAIT if matches!(asker, Asker::Last) => MOMENT,
        STATE_TIME_WAIT => WAITING,
        STATE_CLOSING => CLOSING,
        _ => DAY,
    }
}

/// Whether the connection has outlived its use at `now`.
#[inline(always)]
pub fn is_over<A>(flow: &Flow<A>, protocol: u8, asker: Asker, now: u32) -> bool {
    let age = now.wrapping_sub(flow.last_seen);
    let patience = patience(flow, protocol, asker);
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

    /// The first age at which it is over, for its own client, another one, and one without a choice.
    fn ends(flow: Flow<V4>, protocol: u8) -> [u32; 3] {
        [Asker::Own, Asker::Other, Asker::Last].map(|asker| {
            let over = |age: &u32| is_over(&flow, protocol, asker, flow.last_seen.wrapping_add(*age));
            let known = [0, MOMENT + 1, CLOSING + 1, WAITING + 1, DATAGRAMS + 1, DAY + 1];
            let first = known.into_iter().find(over).expect("everything ends");
            assert!(first == 0 || !over(&(first - 1)), "{flow:?} ends before {first}");
            first
        })
    }

    #[test]
    fn is_over_follows_the_table() {
        for protocol in [TCP, SCTP] {
            assert_eq!(ends(flow(STATE_CLOSED, 0), protocol), [0, MOMENT + 1, MOMENT + 1]);
            assert_eq!(ends(flow(STATE_CLOSED, FLOW_HALF_OPEN), protocol), [0, MOMENT + 1, MOMENT + 1]);
            assert_eq!(ends(flow(STATE_TIME_WAIT, 0), protocol), [WAITING + 1, WAITING + 1, MOMENT + 1]);
            assert_eq!(ends(flow(STATE_CLOSING, 0), protocol), [CLOSING + 1; 3]);
            assert_eq!(ends(flow(STATE_NEW, FLOW_HALF_OPEN), protocol), [MOMENT + 1; 3]);
            assert_eq!(ends(flow(STATE_ESTABLISHED, 0), protocol), [DAY + 1; 3]);
        }
        assert_eq!(ends(flow(STATE_NEW, 0), UDP), [DATAGRAM + 1; 3]);
        assert_eq!(ends(flow(STATE_ESTABLISHED, 0), UDP), [DATAGRAMS + 1; 3]);
    }

    #[test]
    fn is_over_across_the_clocks_wrap_counts_ticks() {
        let old = Flow { last_seen: u32::MAX - 10, ..flow(STATE_CLOSING, 0) };
        assert!(!is_over(&old, TCP, Asker::Other, CLOSING - 11));
        assert!(is_over(&old, TCP, Asker::Other, CLOSING));
    }
}
