//! The programs in the object: names, where each is attached, and their index in [`crate::counters::PROGRAM_STATS`].
//!
//! Names fit the kernel's 15 characters. Programs are independent: any subset can be attached, and what a missing one
//! would have done falls to the next hook that a packet meets.

/// XDP on the uplink. Attach natively, else in generic mode; both fragments-aware and not are accepted.
pub const XDP_UPLINK: &str = "xdp_uplink";
/// TC ingress on the uplink: what XDP cannot take, and replies to this node's pods.
pub const TC_UPLINK_IN: &str = "tc_uplink_in";
/// TC egress on the uplink: replies of host-network backends, rejections for the node's own processes.
pub const TC_UPLINK_OUT: &str = "tc_uplink_out";
/// TC ingress on the node's end of each pod's veth: what the pod sends.
pub const TC_FROM_POD: &str = "tc_from_pod";
/// cgroup/connect4.
pub const SOCK_CONNECT4: &str = "sock_connect4";
/// cgroup/connect6.
pub const SOCK_CONNECT6: &str = "sock_connect6";
/// cgroup/sendmsg4.
pub const SOCK_SENDMSG4: &str = "sock_sendmsg4";
/// cgroup/sendmsg6.
pub const SOCK_SENDMSG6: &str = "sock_sendmsg6";
/// cgroup/recvmsg4.
pub const SOCK_RECVMSG4: &str = "sock_recvmsg4";
/// cgroup/recvmsg6.
pub const SOCK_RECVMSG6: &str = "sock_recvmsg6";
/// cgroup/getpeername4.
pub const SOCK_PEERNAME4: &str = "sock_peername4";
/// cgroup/getpeername6.
pub const SOCK_PEERNAME6: &str = "sock_peername6";
/// XDP that passes everything. For the other end of a veth that serves as an uplink, which the kernel wants to have an
/// XDP program before it takes what is sent back natively. Counts nothing.
pub const XDP_PASS: &str = "xdp_pass";

/// Every program that counts, in the order of their indexes.
pub const PROGRAMS: [&str; 12] = [
    XDP_UPLINK,
    TC_UPLINK_IN,
    TC_UPLINK_OUT,
    TC_FROM_POD,
    SOCK_CONNECT4,
    SOCK_CONNECT6,
    SOCK_SENDMSG4,
    SOCK_SENDMSG6,
    SOCK_RECVMSG4,
    SOCK_RECVMSG6,
    SOCK_PEERNAME4,
    SOCK_PEERNAME6,
];

/// A program's index: its place in [`PROGRAMS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum Program {
    XdpUplink = 0,
    TcUplinkIn = 1,
    TcUplinkOut = 2,
    TcFromPod = 3,
    SockConnect4 = 4,
    SockConnect6 = 5,
    SockSendmsg4 = 6,
    SockSendmsg6 = 7,
    SockRecvmsg4 = 8,
    SockRecvmsg6 = 9,
    SockPeername4 = 10,
    SockPeername6 = 11,
}
