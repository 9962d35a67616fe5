//! The contract between the kernel programs and user space: every map's name, capacity, key and value.
//!
//! One module per map (or pair of maps for the two address families). Each says who writes it, who reads it, how long
//! an entry lives and what happens when it is full. It owns layouts and names, and no behaviour beyond constructors and
//! the hashes that both sides must compute alike (those of [`fronts`] and [`flow`]).
//!
//! # Rules for every type here
//!
//! `#[repr(C)]`, fixed widths, no `bool`, `Option`, `usize` or data-carrying enum, padding is a named field that the
//! constructor zeroes; size and offsets are asserted at compile time. So every value can be viewed as bytes, and any
//! bytes from the kernel can be viewed as a value. Addresses and ports are in network byte order ([`V4`], [`V6`],
//! [`Be16`]); everything else is in the machine's order. Any change of a layout must raise [`ABI_VERSION`].
//!
//! # What user space writes, and in which order
//!
//! Terms: a *frontend* is one (address, port, protocol) at which a service port can be reached; a *service port* is one
//! port of a Service in one address family, and has one [`service::ServiceValue::id`] which all its frontends share.
//!
//! - **ClusterIP**: one entry, key (ClusterIP, port, protocol, [`service::SCOPE_INTERNAL`]). Write the same frontend
//!   with [`service::SCOPE_EXTERNAL`] too only if machines outside may use ClusterIPs through this node.
//! - **NodePort**: for each of this node's addresses two entries with key (address, node port, protocol): one with
//!   `SCOPE_EXTERNAL` (packets that arrive on the uplink; `externalTrafficPolicy` decides which backends are in its
//!   slice) and one with `SCOPE_INTERNAL` (this node's own pods and processes; always all backends). Both may name the
//!   same slice when the contents are equal. For localhost NodePorts write (127.0.0.1, node port) with
//!   `SCOPE_INTERNAL`: only the socket hooks will ever match it, and only
//!   for sockets in [`config::Config::host`].
//! - **Host port** of a pod on this node: as NodePort, with the pod as the only backend, marked local.
//! - **External IP, load-balancer IP**: as NodePort, with that address and the service's port.
//! - **No endpoints**: the same keys with `count` 0. New connections are then rejected (TCP reset, ICMP port
//!   unreachable), or dropped silently where [`service::FLAG_DROP_WHEN_EMPTY`] is set, which is meant for a `Local`
//!   traffic policy whose service does have endpoints, only not on this node.
//! - **Every frontend with `SCOPE_EXTERNAL`** needs its bit in [`fronts`] set before the entry is written.
//! - **Session affinity**: set [`service::FLAG_AFFINITY`] and the time-out; clients are then remembered in
//!   [`affinity::AFFINITY`]. **Maglev**: set [`service::FLAG_HASHED`] and write the look-up table as the slice.
//!   **Weights**: repeat a backend in its slice.
//! - **Source ranges**: set [`service::FLAG_SOURCE_RANGES`] on the load balancer's frontends, both scopes, and write the
//!   prefixes into [`ranges`].
//! - **Direct replies**: set [`service::FLAG_DIRECT`] on frontends with `SCOPE_EXTERNAL`, on every node alike: the backend's
//!   node believes another's announcement only for a frontend that it has with that flag itself.
//!
//! An update of a service port is ordered so that a packet at any moment sees a complete old or a complete new state:
//!
//! 1. [`backend::BackendState`] of each new backend id: [`backend::STATE_ACTIVE`], with a generation that this id has
//!    not had before.
//! 2. A fresh slice in [`backend::BACKENDS`], in slots that no service value names (and none has named for at least
//!    [`backend::QUARANTINE_MILLIS`]).
//! 3. Bits in [`fronts::FRONTS`] for new external frontends.
//! 4. Source ranges that are new ([`ranges`]), then the service values (each write of a hash entry is atomic), then the
//!    removal of source ranges that are no more: a client in between is held against the old list, the new one or both.
//! 5. States of backends that left: [`backend::STATE_DRAINING`] while the endpoint still exists (terminating, or its
//!    service was deleted), [`backend::STATE_GONE`] once it does not.
//! 6. The old slice's slots go back to the allocator after the quarantine; ids of gone backends too, and are best
//!    reused last.
//!
//! Deleting a service: delete its keys (4), then 5 and 6. A bit in [`fronts`] may stay set for ever: it costs time only.
#![cfg_attr(not(test), no_std)]

pub mod address;
pub mod affinity;
pub mod backend;
pub mod config;
pub mod counters;
pub mod earlier;
pub mod flow;
pub mod fragment;
pub mod fronts;
pub mod local;
pub mod program;
pub mod ranges;
pub mod service;
pub mod sets;
pub mod socket;

pub use address::{Be16, V4, V6};

/// Raised with every change of any layout or meaning here. Pinned maps written by another version are migrated or
/// refused, never reinterpreted; [`config::Config::version`] carries it.
pub const ABI_VERSION: u32 = 8;

/// IANA protocol number of TCP.
pub const TCP: u8 = 6;
/// IANA protocol number of UDP.
pub const UDP: u8 = 17;
/// IANA protocol number of SCTP.
pub const SCTP: u8 = 132;

/// Whether packets of this protocol, one of the three above, belong to connections that are opened and closed: TCP and SCTP.
#[inline(always)]
pub const fn has_connections(protocol: u8) -> bool {
    protocol != UDP
}

/// Types that are plain bytes: `repr(C)`, no padding, every bit pattern valid.
///
/// # Safety
///
/// Never implemented outside this crate; implementations are backed by the size assertions beside each type.
#[allow(unsafe_code)]
pub unsafe trait Plain: Copy + 'static {}

/// The bytes of a value, as they lie in a map.
#[allow(unsafe_code)]
pub fn bytes_of<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: a `Plain` has no padding, so that each of its `size_of::<T>()` bytes is initialised.
    unsafe { core::slice::from_raw_parts(core::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// The value that `bytes`, read from a map, are; nothing when there are fewer than it has.
#[allow(unsafe_code)]
pub fn from_bytes<T: Plain>(bytes: &[u8]) -> Option<T> {
    let bytes = bytes.get(..size_of::<T>())?;
    // SAFETY: there are `size_of::<T>()` bytes, and every bit pattern is a valid `Plain`.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// Marks types as [`Plain`].
macro_rules! plain {
    ($($type:ty),+ $(,)?) => { $(
        // SAFETY: `repr(C)`/`repr(transparent)` over integers, without padding (asserted by size beside the type).
        #[allow(unsafe_code)]
        unsafe impl $crate::Plain for $type {}
    )+ };
}
pub(crate) use plain;

plain!(u16, u32, u64);
