//! `CONFIG`: what the programs must know about this node. An array with one entry.
//!
//! Writer: the agent, at start and on change, always the whole value in one map update (never through memory mapping).
//! Readers: every program, on every packet. It lives as long as the map. With `version` 0 (a map that was never
//! written) the programs leave every packet alone.

use crate::{Be16, V4, V6, plain};

/// Name of the array.
pub const CONFIG: &str = "CONFIG";

/// Settings of one node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct Config {
    /// [`crate::ABI_VERSION`]. The programs do nothing unless it is theirs.
    pub version: u32,
    /// Raised by the agent whenever routes, neighbours or interfaces change: flows then resolve their next hop again.
    /// Starts at 1; 0 never matches.
    pub epoch: u32,
    /// Random key for the hashes over addresses. Must never change while the maps live, or IPv6 flows are lost.
    pub seed: u64,
    /// Interface towards other nodes and clients. Translated packets to elsewhere leave through what the routing table
    /// says; this one is used where no route was looked up. 0: none.
    pub uplink: u32,
    /// Source of translated IPv4 packets: this node's address. Zero disables translation of IPv4 sources (such new
    /// flows are then dropped and counted).
    pub node_v4: V4,
    /// Source of translated IPv6 packets.
    pub node_v6: V6,
    /// First port for translated sources. Keep the range away from the kernel's `ip_local_port_range` and from the
    /// NodePort range.
    pub snat_first: Be16,
    /// Last port for translated sources, inclusive.
    pub snat_last: Be16,
    /// Which debug messages to send to `AYA_LOGS`: 0 none, else aya-log's levels 1 (error) to 5 (trace).
    pub log_level: u32,
    /// Cookie of the node's own network namespace: loopback addresses lead to services only from there. 0: not known,
    /// then they do from everywhere.
    pub host: u64,
    /// Sets of [`crate::sets::FLOW_SETS_V4`], 2 at least; with fewer there is no room for a flow.
    pub flow_sets_v4: u32,
    /// Sets of [`crate::sets::FLOW_SETS_V6`].
    pub flow_sets_v6: u32,
    /// Services that are counted: the length of a CPU's row of [`crate::counters::SERVICE_COUNTS`].
    pub counted_services: u32,
    /// Zero.
    pub reserved: u32,
}

/// First port of the default source translation range: 20,000 ports, below the default range of NodePorts (30000-32767) and
/// Linux's default ephemeral ports (32768-60999).
pub const SNAT_FIRST: u16 = 10_000;
/// Last port of the default source translation range.
pub const SNAT_LAST: u16 = 29_999;

plain!(Config);

const _: () = {
    assert!(size_of::<Config>() == 72 && align_of::<Config>() == 8);
    assert!(core::mem::offset_of!(Config, node_v6) == 24);
    assert!(core::mem::offset_of!(Config, log_level) == 44);
};
