//! XDP for the far end of a veth that stands in for a wire in a development cluster: passes everything.
//!
//! Native XDP on one end of a veth can only send frames back when the other end runs an XDP program too. Not part of
//! the datapath; an object of its own.
#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

/// Passes the frame.
#[xdp]
pub fn xdp_wire(_: XdpContext) -> u32 {
    XDP_PASS
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
