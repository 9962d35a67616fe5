//! `LOCAL_V4`, `LOCAL_V6`: pod address -> the interface it is behind.
//!
//! Hash maps without preallocation. Writer: the agent's network part, before the pod starts and again on start-up for
//! every pod that is there; it deletes the entry with the interface. Readers: XDP and TC programs, when a flow resolves its
//! next hop (raise [`crate::config::Config::epoch`] after a change). It is a short cut only: a backend that is not here is
//! delivered by the network stack. When a map is full the agent's write fails, and that pod takes the stack's way.

/// Name of the IPv4 map: [`crate::V4`] -> [`LocalEndpoint`].
pub const LOCAL_V4: &str = "LOCAL_V4";
/// Name of the IPv6 map: [`crate::V6`] -> [`LocalEndpoint`].
pub const LOCAL_V6: &str = "LOCAL_V6";
/// Default capacity of each.
pub const LOCAL_CAPACITY: u32 = 4096;

/// XDP may redirect to the interface: the pod's end of the veth has an XDP program or GRO on, without which the kernel
/// drops what is redirected to it. Otherwise XDP hands the translated packet to the stack.
pub const LOCAL_XDP_REDIRECT: u32 = 1 << 0;

/// Where a pod is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct LocalEndpoint {
    /// The node's end of the pod's veth.
    pub ifindex: u32,
    /// `LOCAL_*`.
    pub flags: u32,
    /// MAC address of the pod's end.
    pub pod_mac: [u8; 6],
    /// MAC address of the node's end.
    pub host_mac: [u8; 6],
}

crate::plain!(LocalEndpoint);

const _: () = assert!(size_of::<LocalEndpoint>() == 20 && align_of::<LocalEndpoint>() == 4);
