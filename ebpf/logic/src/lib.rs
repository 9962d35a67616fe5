//! The datapath's decisions, free of the kernel: parse, look up, choose, track, translate, refuse.
//!
//! Everything is generic over the address family ([`family::Family`]) and over where the tables are
//! ([`tables::Tables`]), so that the same code is compiled for the kernel and tested on the host. It owns no map, calls
//! no kernel helper and touches no packet beyond reading it: [`decide`] says what should happen, and the programs do it.
//!
//! The way of a packet: [`parse`] finds the tuple; [`decide::decide`] looks for a known flow. What is to be done before
//! there is one that may carry the packet is [`prepare`]d: made ([`establish`]) when the packet starts a connection to a
//! service ([`assign`] says to which backend), moved ([`open`]) when it shows that the client of a half-open one is there, or brought up to date
//! ([`maintain`]). The outcome is a [`decide::Outcome`]. [`quote`] is the same for ICMP errors about flows, [`fragment`] says
//! what packet a fragment is part of, and [`announce`] how replies may go straight from a backend's node to the client.
//! [`checksum`] says how the checksums change, [`sctp`] how SCTP's does, [`reject`] builds the answer to a refused packet, and
//! [`socket`] is the same for the socket hooks.
//!
//! # What a packet costs
//!
//! From `cargo xtask bench datapath` (`tests/bench/src/datapath.rs`), XDP in the kernel's test run on Linux 6.18, as a
//! multiple of a program that only returns a verdict in the same run (21.5 ns, on a quiet machine of two cores; the bare
//! verdict has been seen at 6.9 ns on an idle one, so compare the ratios, and those with care):
//!
//! | packet | IPv4 | IPv6 | aim |
//! |---|---|---|---|
//! | for no service | 2.2 | 2.4 | 3 |
//! | known flow, 2 flows | 4.2 | 4.8 | 7 |
//! | known flow, 1K flows in random order | 4.5 | 5.0 | 9 |
//! | known flow, 32K flows in random order | 8.9 | 10.0 | 17 |
//!
//! IPv6 is to cost 1.3 times IPv4 at most, and costs 1.09 to 1.14 times that. What made the difference was not its longer
//! hash but how its addresses came to memory: as part of a returned value they went by the stack, two bytes at a time, and
//! what was written in pieces had to be waited for where it was read whole. So they are read, kept, compared and written in
//! halves ([`skep_abi::V6::halves`]), and a flow knows by what its packets' checksum changes.
//!
//! What misses the caches depends on the machine, so it is held against the kernel's own map that evicts, filled to the same
//! size: a new flow with a full table is two entries, and costs 0.54 (IPv4, 390 ns) and 0.51 (IPv6, 490 ns) of two such
//! there, where the aim of 250 ns was 0.68 of two. Its next hop is the one that the processor found last for the same
//! addresses, if that was less than a tick ago; one that is looked up costs some
//! 90 ns (IPv4) and 170 ns (IPv6) more. A flow that a full table refuses
//! costs 360 and 440 ns.
//!
//! # What a `connect()` costs
//!
//! From `cargo xtask bench connect`, beside one to the backend without hooks (16.2 us over TCP, 1.07 us for a UDP socket that
//! exists): 1.02 times that over TCP with ten services of ten endpoints, 1.09 with 100,000; over UDP 1.14 and 1.7 to 1.8. The
//! aim of 1.03 is met where the tables are in the processor's caches. With 100,000 services nobody has asked for lately the
//! hash's bucket, its entry and the backend's slot come from memory, one after the other, each behind a page walk: 0.7 us,
//! and 1.5 where the handshake has taken the caches for itself. A UDP `connect()` cannot reach the aim: hooks that find no
//! service already cost 1.05.
#![cfg_attr(not(test), no_std)]
#![allow(unsafe_code)]

pub mod affinity;
pub mod announce;
pub mod assign;
pub mod bytes;
pub mod checksum;
pub mod choose;
pub mod decide;
pub mod establish;
pub mod family;
pub mod fragment;
pub mod lifetime;
pub mod maintain;
pub mod open;
pub mod parse;
pub mod prepare;
pub mod quote;
pub mod reject;
pub mod sctp;
pub mod socket;
pub mod tables;
pub mod track;

#[cfg(test)]
mod tests;

pub use family::{Family, Ipv4, Ipv6};
