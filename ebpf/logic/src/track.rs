//! How far a connection has come, as seen in one direction. The table of transitions is at
//! [`skep_abi::flow::STATE_NEW`].

use skep_abi::flow::{
    FLOW_REPLY, STATE_CLOSED, STATE_CLOSING, STATE_ESTABLISHED, STATE_NEW, STATE_TIME_WAIT,
};
use skep_abi::has_connections;

use crate::parse::{ACK, FIN, RST, SYN};

/// State after a TCP packet with `flags`.
#[inline(always)]
pub const fn tcp(state: u8, flags: u8) -> u8 {
    if flags & RST != 0 {
        STATE_CLOSED
    } else if flags & FIN != 0 {
        if state < STATE_CLOSING { STATE_CLOSING } else { state }
    } else if state == STATE_NEW && flags & SYN == 0 {
        STATE_ESTABLISHED
    } else {
        state
    }
}

/// Whether a packet answers for the first time what the client sent over UDP, which both directions are to know.
#[inline(always)]
pub const fn answers(state: u8, protocol: u8, flags: u8) -> bool {
    !has_connections(protocol) && state == STATE_NEW && flags & FLOW_REPLY != 0
}

/// State after a packet of a flow that has `flags`.
#[inline(always)]
pub const fn next(state: u8, protocol: u8, packet: u8, flags: u8) -> u8 {
    if has_connections(protocol) {
        tcp(state, packet)
    } else if flags & FLOW_REPLY != 0 {
        STATE_ESTABLISHED
    } else {
        state
    }
}

/// Whether a TCP packet asks for a connection: SYN, and none of ACK, RST, FIN.
#[inline(always)]
pub const fn opens(flags: u8) -> bool {
    flags & (SYN | ACK | RST | FIN) == SYN
}

/// Whether a packet with `flags` brings a connection in this state nearer to its end.
#[inline(always)]
pub const fn ends(state: u8, flags: u8) -> bool {
    flags & (FIN | RST) != 0 && tcp(state, flags) != state
}

/// The state of both directions after a packet with `flags` in one, when the other has `other`: over when it is a reset, or
/// when both sides have closed; nothing when it is neither. `backend` says that the packet is the backend's.
#[inline(always)]
pub const fn joint(other: u8, flags: u8, backend: bool) -> Option<u8> {
    if flags & RST != 0 {
        Some(STATE_CLOSED)
    } else if flags & FIN == 0 || other < STATE_CLOSING {
        None
    } else if backend {
        Some(STATE_CLOSED)
    } else {
        Some(STATE_TIME_WAIT)
    }
}
