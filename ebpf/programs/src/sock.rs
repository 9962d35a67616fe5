//! Socket hooks: services for this node's pods and processes, translated once at `connect()` or `sendmsg()`.
//!
//! An IPv6 socket may use IPv4-mapped addresses; the kernel then runs the IPv6 hooks, and these do IPv4's work.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use skep_abi::counters::Verdict;
use skep_abi::program::Program;
use skep_abi::{Be16, TCP, UDP, V4, V6};
use skep_logic::socket::{Endpoint, incoming, outgoing};
use skep_logic::{Ipv4, Ipv6};

use crate::kernel::Kernel;
use crate::stats;

/// Go on with the system call.
const ALLOW: i32 = 1;

/// What the hook is to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    Connect,
    Send,
    /// `recvmsg` and `getpeername`.
    Show,
}

#[cgroup_sock_addr(connect4)]
pub fn sock_connect4(context: SockAddrContext) -> i32 {
    v4(&context, Act::Connect, Program::SockConnect4)
}

#[cgroup_sock_addr(connect6)]
pub fn sock_connect6(context: SockAddrContext) -> i32 {
    v6(&context, Act::Connect, Program::SockConnect6)
}

#[cgroup_sock_addr(sendmsg4)]
pub fn sock_sendmsg4(context: SockAddrContext) -> i32 {
    v4(&context, Act::Send, Program::SockSendmsg4)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sock_sendmsg6(context: SockAddrContext) -> i32 {
    v6(&context, Act::Send, Program::SockSendmsg6)
}

#[cgroup_sock_addr(recvmsg4)]
pub fn sock_recvmsg4(context: SockAddrContext) -> i32 {
    v4(&context, Act::Show, Program::SockRecvmsg4)
}

#[cgroup_sock_addr(recvmsg6)]
pub fn sock_recvmsg6(context: SockAddrContext) -> i32 {
    v6(&context, Act::Show, Program::SockRecvmsg6)
}

#[cgroup_sock_addr(getpeername4)]
pub fn sock_peername4(context: SockAddrContext) -> i32 {
    v4(&context, Act::Show, Program::SockPeername4)
}

#[cgroup_sock_addr(getpeername6)]
pub fn sock_peername6(context: SockAddrContext) -> i32 {
    v6(&context, Act::Show, Program::SockPeername6)
}

/// The port field: network order in the low half.
#[inline(always)]
fn port(address: *mut bpf_sock_addr) -> Be16 {
    // SAFETY: the context is this program's own; the kernel takes reads of this field whole.
    Be16::from_raw(unsafe { (&raw const (*address).user_port).read_volatile() } as u16)
}

#[inline(always)]
fn set_port(address: *mut bpf_sock_addr, port: Be16) {
    // SAFETY: as in `port`.
    unsafe { (&raw mut (*address).user_port).write_volatile(u32::from(port.raw())) }
}

#[inline(always)]
fn protocol(address: *mut bpf_sock_addr) -> u8 {
    // SAFETY: as in `port`.
    unsafe { (&raw const (*address).protocol).read_volatile() as u8 }
}

#[inline(always)]
fn v4(context: &SockAddrContext, act: Act, program: Program) -> i32 {
    let raw = context.sock_addr;
    // SAFETY: as in `port`.
    let address = V4(unsafe { (&raw const (*raw).user_ip4).read_volatile() });
    let found = translate_v4(context, Endpoint { address, port: port(raw) }, act);
    if let Some(endpoint) = found {
        // SAFETY: as in `port`.
        unsafe { (&raw mut (*raw).user_ip4).write_volatile(endpoint.address.0) };
        set_port(raw, endpoint.port);
    }
    stats::verdict(program, if found.is_some() { Verdict::Translated } else { Verdict::Pass });
    ALLOW
}

#[inline(always)]
fn v6(context: &SockAddrContext, act: Act, program: Program) -> i32 {
    let raw = context.sock_addr;
    // SAFETY: as in `port`; the kernel takes accesses to the four words one by one.
    let words = unsafe { (&raw mut (*raw).user_ip6).cast::<u32>() };
    // SAFETY: as above.
    let address = V6(unsafe {
        [
            words.read_volatile(),
            words.add(1).read_volatile(),
            words.add(2).read_volatile(),
            words.add(3).read_volatile(),
        ]
    });
    let endpoint = Endpoint { address, port: port(raw) };
    let found = match address.mapped() {
        Some(mapped) => translate_v4(context, Endpoint { address: mapped, port: endpoint.port }, act)
            .map(|found| Endpoint { address: V6::from_mapped(found.address), port: found.port }),
        None => translate_v6(context, endpoint, act),
    };
    if let Some(endpoint) = found {
        // SAFETY: as above.
        unsafe {
            words.write_volatile(endpoint.address.0[0]);
            words.add(1).write_volatile(endpoint.address.0[1]);
            words.add(2).write_volatile(endpoint.address.0[2]);
            words.add(3).write_volatile(endpoint.address.0[3]);
        }
        set_port(raw, endpoint.port);
    }
    stats::verdict(program, if found.is_some() { Verdict::Translated } else { Verdict::Pass });
    ALLOW
}

macro_rules! translate {
    ($name:ident, $family:ty, $address:ty) => {
        #[inline(always)]
        fn $name(
            context: &SockAddrContext,
            endpoint: Endpoint<$address>,
            act: Act,
        ) -> Option<Endpoint<$address>> {
            let protocol = protocol(context.sock_addr);
            if protocol != TCP && protocol != UDP {
                return None;
            }
            let kernel = Kernel::socket(context.as_ptr());
            match act {
                Act::Show => incoming::<$family, _>(&kernel, &endpoint, protocol),
                _ => outgoing::<$family, _>(&kernel, &endpoint, protocol, act == Act::Send),
            }
        }
    };
}

translate!(translate_v4, Ipv4, V4);
translate!(translate_v6, Ipv6, V6);
