//! Layouts of earlier versions whose contents are taken over. Owns what is needed to read them, once.
//!
//! Up to version 5 flows were in hash maps that evict, connections without their client's answer in maps of their own. Up to
//! version 7 services were counted in a per-CPU array, which is still read where it is.

use crate::flow::{FLOW_HALF_OPEN, FLOW_TRUSTED, Flow, FlowKey};
use crate::{Be16, TCP, V4, V6, plain};

/// The maps of IPv4's flows, [`FlowKey`] -> [`EarlierFlow<V4>`].
pub const FLOWS_V4: [&str; 2] = ["FLOWS_V4", "HALF_OPEN_V4"];
/// The maps of IPv6's flows, [`FlowKey`] -> [`EarlierFlow<V6>`].
pub const FLOWS_V6: [&str; 2] = ["FLOWS_V6", "HALF_OPEN_V6"];
/// The per-CPU array of [`crate::counters::ServiceStats`], indexed by [`crate::service::ServiceValue::id`].
pub const SERVICE_STATS: &str = "SERVICE_STATS";
/// Size of the settings before they said how large the tables of flows are; what they had lies in the same places.
pub const CONFIG_SIZE: usize = 56;

/// A flow up to version 5. The fields are those of [`Flow`] with the same names.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct EarlierFlow<A> {
    source: A,
    destination: A,
    new_source: A,
    new_destination: A,
    new_source_port: Be16,
    new_destination_port: Be16,
    ifindex: u32,
    destination_mac: [u8; 6],
    source_mac: [u8; 6],
    epoch: u32,
    backend: u32,
    generation: u32,
    service: u32,
    last_seen: u32,
    checked: u32,
    state: u8,
    flags: u8,
    egress: u8,
    reserved: u8,
    packets: u64,
    bytes: u64,
}

impl<A: Copy> EarlierFlow<A> {
    /// The flow as it is now. What its backend has sent was not noted: whatever its client answers will do.
    pub const fn taken_over(&self, key: &FlowKey) -> Flow<A> {
        let unknown = self.flags & FLOW_HALF_OPEN != 0 && key.protocol == TCP;
        Flow {
            source: self.source,
            destination: self.destination,
            new_source: self.new_source,
            new_destination: self.new_destination,
            source_port: key.source_port,
            destination_port: key.destination_port,
            new_source_port: self.new_source_port,
            new_destination_port: self.new_destination_port,
            ifindex: self.ifindex,
            destination_mac: self.destination_mac,
            source_mac: self.source_mac,
            epoch: self.epoch,
            backend: self.backend,
            generation: self.generation,
            service: self.service,
            last_seen: self.last_seen,
            checked: self.checked,
            state: self.state,
            flags: if unknown { self.flags | FLOW_TRUSTED } else { self.flags },
            egress: self.egress,
            protocol: key.protocol,
            answers: [0; 2],
            change: 0,
            packets: self.packets,
            bytes: self.bytes,
        }
    }
}

plain!(EarlierFlow<V4>, EarlierFlow<V6>);

const _: () = assert!(size_of::<EarlierFlow<V4>>() == 80 && size_of::<EarlierFlow<V6>>() == 128);
