//! The datapath's decisions, free of the kernel: parse, look up, choose, track, translate, refuse.
//!
//! Everything is generic over the address family ([`family::Family`]) and over where the tables are
//! ([`tables::Tables`]), so that the same code is compiled for the kernel and tested on the host. It owns no map, calls
//! no kernel helper and touches no packet beyond reading it: [`decide`] says what should happen, and the programs do it.
//!
//! The way of a packet: [`parse`] finds the tuple; [`decide::decide`] looks for a known flow, makes one
//! ([`establish`]) when the packet starts a connection to a service, and keeps it in order ([`maintain`]); the outcome is
//! a [`decide::Outcome`]. [`checksum`] says how the checksums change, [`reject`] builds the answer to a refused packet,
//! and [`socket`] is the same for the socket hooks.
#![cfg_attr(not(test), no_std)]
#![allow(unsafe_code)]

pub mod bytes;
pub mod checksum;
pub mod choose;
pub mod decide;
pub mod establish;
pub mod family;
pub mod maintain;
pub mod parse;
pub mod reject;
pub mod socket;
pub mod tables;
pub mod track;

#[cfg(test)]
mod tests;

pub use family::{Family, Ipv4, Ipv6};
