//! The kernel programs of Skep's network: maps and entry points. What they decide is in `skep-logic`, what the maps hold
//! is in `skep-abi`; here is only what needs the kernel: reading and rewriting packets, helpers, and attach points.
//!
//! - `xdp_uplink`: NodePort, external and load-balancer addresses for what arrives on the uplink, and the replies to
//!   connections whose source it translated. It sends packets back out of the interface they came in by, hands them to a
//!   pod's veth, or passes them on translated; whatever else would be needed it leaves, untouched, to:
//! - `tc_uplink_in`, `tc_uplink_out`, `tc_from_pod`: the same decisions with the helpers that packets in the stack need,
//!   so that any of them may carry a packet that XDP could not, or all of them when XDP is not attached.
//! - `sock_*`: services for the sockets of this node's pods and processes, at `connect()` and `sendmsg()`, without a cost
//!   per packet.
//!
//! ICMP errors about translated packets are translated back by whichever program meets them.
//!
//! Fragments, SCTP, and packets with IPv4 options or IPv6 extension headers are translated by TC alone. Packets whose headers are not whole are never translated. VLAN-tagged packets are translated by XDP
//! only when they go to the stack; TC on the VLAN interface carries the rest.
#![no_std]
#![no_main]
// Assembly for this target is not stable yet; aya-ebpf itself needs it too.
#![feature(asm_experimental_arch)]

mod announce;
mod direct;
mod flows;
mod fragment;
mod kernel;
mod log;
mod maps;
mod prepare;
mod quote;
mod refuse;
mod rewrite;
mod sock;
mod stats;
mod tc;
mod xdp;

/// Helpers that only GPL-compatible programs may call are used; the kernel reads the licence here.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
