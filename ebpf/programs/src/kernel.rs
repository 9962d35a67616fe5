//! `skep-logic`'s tables on the kernel's maps and helpers.

use core::arch::asm;
use core::ffi::c_void;

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::helpers::generated::{
    bpf_fib_lookup, bpf_get_netns_cookie, bpf_get_prandom_u32, bpf_get_socket_cookie, bpf_ktime_get_coarse_ns,
};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::{TcContext, XdpContext};
use skep_abi::ABI_VERSION;
use skep_abi::affinity::{Affinity, AffinityKey};
use skep_abi::backend::{Backend, BackendState};
use skep_abi::config::Config;
use skep_abi::counters::Reason;
use skep_abi::flow::{EGRESS_REMOTE, Flow, FlowKey, TICK_SHIFT};
use skep_abi::fragment::{FragmentKey, FragmentPorts};
use skep_abi::fronts::Bit;
use skep_abi::local::LocalEndpoint;
use skep_abi::ranges::RangeKey;
use skep_abi::service::{ServiceKey, ServiceValue};
use skep_abi::sets;
use skep_abi::socket::{self, Connected, Peer, Pick, SocketKey};
use skep_logic::decide::Question;
use skep_logic::parse::{self, Packet};
use skep_logic::prepare::{Prepared, Task};
use skep_logic::socket::Sockets;
use skep_logic::tables::{Existing, InsertError, Route, Scratch, ServiceEvent, Side, Tables};

use crate::direct::Direct;
use crate::maps::{AFFINITY, BACKEND_STATES, BACKENDS, CONFIG, FRONTS, MapFamily};
use crate::{flows, prepare, stats};

/// The tables as seen by one run of a program.
#[derive(Clone, Copy)]
pub struct Kernel {
    /// The program's context.
    context: *mut c_void,
    /// Interface that the packet is on; 0 for sockets.
    ifindex: u32,
    /// What kind of program it is.
    kind: Kind,
}

/// Kinds of programs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Xdp,
    Tc,
    Socket,
}

impl Kernel {
    /// For XDP.
    #[inline(always)]
    pub const fn xdp(context: *mut c_void, ifindex: u32) -> Self {
        Self { context, ifindex, kind: Kind::Xdp }
    }

    /// For TC.
    #[inline(always)]
    pub const fn tc(context: *mut c_void, ifindex: u32) -> Self {
        Self { context, ifindex, kind: Kind::Tc }
    }

    /// For socket hooks.
    #[inline(always)]
    pub const fn socket(context: *mut c_void) -> Self {
        Self { context, ifindex: 0, kind: Kind::Socket }
    }
}

/// This node's settings, if they are of this ABI version.
#[inline(always)]
pub fn config() -> Option<&'static Config> {
    let config = CONFIG.get(0)?;
    if config.version == ABI_VERSION { Some(config) } else { None }
}

/// Now, in ticks.
#[inline(always)]
pub fn now() -> u32 {
    // SAFETY: the helper takes no argument.
    (unsafe { bpf_ktime_get_coarse_ns() } >> TICK_SHIFT) as u32
}

/// Where the routing helper's parameters are put together: the stack takes aligned writes only.
#[btf_map]
static FIB: PerCpuArray<Fib, 1> = PerCpuArray::new();

/// Parameters of the routing helper (`struct bpf_fib_lookup` of the kernel's interface).
#[repr(C)]
struct Fib {
    family: u8,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
    length: u16,
    ifindex: u32,
    flow: u32,
    source: [u32; 4],
    destination: [u32; 4],
    vlan: u32,
    source_mac: [u8; 6],
    destination_mac: [u8; 6],
}

const _: () = assert!(size_of::<Fib>() == 64);

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// The helper's answers (`BPF_FIB_LKUP_RET_*`).
const FIB_SUCCESS: i64 = 0;
const FIB_PROHIBIT: i64 = 3;
const FIB_NOT_FORWARDED: i64 = 4;
/// The output interface is known, the neighbour on it is not (the interface is told since Linux 5.13).
const FIB_NO_NEIGHBOUR: i64 = 7;

/// Ways that are kept, of each family.
pub const HOPS: u32 = 64;

/// A way to another machine, as XDP has found it. Asking the routing table is a tenth of what a new connection costs, and most
/// go where another went a moment ago. It is forgotten with the tick in which it was found, and with the epoch: a flow keeps
/// its own for longer.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Hop<A> {
    source: A,
    destination: A,
    epoch: u32,
    tick: u32,
    /// Interface that the packet came by.
    from: u32,
    /// Length of that packet: a longer one may not fit.
    length: u32,
    ifindex: u32,
    destination_mac: [u8; 6],
    source_mac: [u8; 6],
}

/// Where a way to `destination` is kept.
#[inline(always)]
fn hop<F: MapFamily>(destination: &F::Address) -> Option<*mut Hop<F::Address>> {
    let folded = F::sum(destination).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    F::hops().get_ptr_mut((folded >> 58) as u32 & (HOPS - 1))
}

/// Gives `flow` the way that another was given, if a packet of `length` bytes from the interface `from` could take it. A function
/// of its own, as [`remember`] is: the stack of their caller's is full.
#[inline(never)]
fn recall<F: MapFamily>(flow: &mut Flow<F::Address>, from: u32, length: u32) -> bool {
    let Some(hop) = hop::<F>(&flow.new_destination) else { return false };
    // SAFETY: the pointer is to this processor's live entry, and XDP programs do not interrupt each other.
    let hop = unsafe { &*hop };
    let other = F::difference(&hop.source, &flow.new_source)
        | F::difference(&hop.destination, &flow.new_destination)
        | u64::from(hop.epoch ^ flow.epoch)
        | u64::from(hop.from ^ from)
        | u64::from(hop.tick ^ now());
    if other != 0 || length > hop.length {
        return false;
    }
    flow.egress = EGRESS_REMOTE;
    flow.ifindex = hop.ifindex;
    flow.destination_mac = hop.destination_mac;
    flow.source_mac = hop.source_mac;
    true
}

/// Keeps the way of `flow`, found for a packet of `length` bytes from the interface `from`.
#[inline(never)]
fn remember<F: MapFamily>(flow: &Flow<F::Address>, from: u32, length: u32) {
    let Some(hop) = hop::<F>(&flow.new_destination) else { return };
    // SAFETY: as in `recall`.
    let hop = unsafe { &mut *hop };
    hop.source = flow.new_source;
    hop.destination = flow.new_destination;
    hop.epoch = flow.epoch;
    hop.tick = now();
    hop.from = from;
    hop.length = length;
    hop.ifindex = flow.ifindex;
    hop.destination_mac = flow.destination_mac;
    hop.source_mac = flow.source_mac;
}

#[inline(always)]
fn pack(words: [u16; 8]) -> [u32; 4] {
    let mut packed = [0; 4];
    let mut at = 0;
    while at < 4 {
        packed[at] = words[at * 2] as u32 | (words[at * 2 + 1] as u32) << 16;
        at += 1;
    }
    packed
}

impl<F: MapFamily> Tables<F> for Kernel {
    #[inline(always)]
    fn config(&self) -> Option<&Config> {
        config()
    }

    #[inline(always)]
    fn now(&self) -> u32 {
        now()
    }

    #[inline(always)]
    fn numbers(&self, packet: &Packet<F::Address>) -> Option<[u32; 2]> {
        let direct = match self.kind {
            Kind::Xdp => Direct::xdp(&XdpContext::new(self.context.cast())),
            Kind::Tc => Direct::skb(&TcContext::new(self.context.cast())),
            Kind::Socket => return None,
        };
        parse::numbers(&direct, packet)
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: the helper takes no argument.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn front(&self, bit: Bit) -> bool {
        FRONTS.get(bit.word).is_some_and(|word| word & bit.mask != 0)
    }

    #[inline(always)]
    fn service(&self, key: &ServiceKey<F::Address>) -> Option<ServiceValue> {
        // SAFETY: entries are replaced, never changed in place, and live until the program ends.
        unsafe { F::services().get(key) }.copied()
    }

    #[inline(always)]
    fn in_source_ranges(&self, service: u32, client: &F::Address) -> bool {
        let key = RangeKey::whole(service, *client);
        // SAFETY: the trie's key type is a packed form of this one, without padding in either; made as this one it is
        // aligned, which the stack asks for.
        let key = unsafe { &*core::ptr::from_ref(&key).cast() };
        F::ranges().get(key).is_some()
    }

    #[inline(always)]
    fn backend(&self, slot: u32) -> Option<Backend> {
        BACKENDS.get(slot).copied()
    }

    #[inline(always)]
    fn backend_state(&self, id: u32) -> Option<BackendState> {
        let word = BACKEND_STATES.get_ptr(id)?;
        // SAFETY: the pointer is to a live, aligned word; user space stores it whole.
        Some(BackendState::from_word(unsafe { word.read_volatile() }))
    }

    #[inline(always)]
    fn affinity<R>(&self, key: &AffinityKey, work: impl FnOnce(&mut Affinity) -> R) -> Option<R> {
        let entry = AFFINITY.get_ptr_mut(key)?;
        // SAFETY: the memory of the entry lives as long as the map; only its time stamp is ever changed in place.
        Some(work(unsafe { &mut *entry }))
    }

    #[inline(always)]
    fn insert_affinity(&self, key: &AffinityKey, affinity: &Affinity) {
        // Without the entry the client chooses again: not worth refusing the connection.
        let _ = AFFINITY.insert(key, affinity, u64::from(BPF_ANY));
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey<F::Address>) -> Option<FragmentPorts> {
        // SAFETY: a value read while it is replaced would be another one of the same datagram's.
        unsafe { F::fragments().get(key) }.copied()
    }

    #[inline(always)]
    fn insert_fragment(&self, key: &FragmentKey<F::Address>, ports: &FragmentPorts) {
        let _ = F::fragments().insert(key, ports, u64::from(BPF_ANY));
    }

    #[inline(always)]
    fn local(&self, address: &F::Address) -> Option<LocalEndpoint> {
        // SAFETY: entries are replaced, never changed in place, and live until the program ends.
        unsafe { F::locals().get(address) }.copied()
    }

    #[inline(always)]
    fn flow<R>(&self, key: &FlowKey, work: impl FnOnce(&mut Flow<F::Address>) -> R) -> Option<R> {
        let flow = F::flow_entries().get_ptr_mut(F::find(key))?;
        // SAFETY: the memory of the entry lives as long as the map. Other processors may write the same plain integers;
        // packets of one flow are mostly handled by one processor, and a lost update costs a count or a time stamp.
        Some(work(unsafe { &mut *flow }))
    }

    #[inline(always)]
    fn settle(&self, key: &FlowKey, flow: &Flow<F::Address>) {
        F::settle(key, sets::class_of(flow));
    }

    #[inline(always)]
    fn scratch<R>(&self, work: impl FnOnce(&mut Scratch<F::Address>) -> R) -> Option<R> {
        let scratch = F::scratch().get_ptr_mut(0)?;
        // SAFETY: the pointer is to this processor's live entry. XDP and TC programs run with bottom halves disabled, so
        // that no other one comes in between, and the decision does not nest its use.
        Some(work(unsafe { &mut *scratch }))
    }

    #[inline(always)]
    fn insert_flow(
        &self,
        key: &FlowKey,
        side: Side,
        flow: &Flow<F::Address>,
        existing: Existing,
    ) -> Result<(), InsertError> {
        // It is read by another function, by a pointer of its own: everything is to be written by now. Without an instruction
        // the kernel would refuse the object ("Invalid line_info[1738].insn_off:4526", Linux 6.18).
        let written = core::ptr::from_ref(flow);
        // SAFETY: it moves a register to itself.
        unsafe { asm!("{0} = {0}", inout(reg) written => _, options(nostack, preserves_flags)) };
        match F::enter(key, flows::request(side, existing)) {
            flows::ENTERED => Ok(()),
            flows::EXISTS => Err(InsertError::Exists),
            _ => Err(InsertError::Failed),
        }
    }

    #[inline(always)]
    fn remove_flow(&self, key: &FlowKey) {
        F::remove(key);
    }

    #[inline(always)]
    fn recall(&self, flow: &mut Flow<F::Address>, length: u32) -> bool {
        self.kind == Kind::Xdp && recall::<F>(flow, self.ifindex, length)
    }

    #[inline(always)]
    fn remember(&self, flow: &Flow<F::Address>, length: u32) {
        if self.kind == Kind::Xdp {
            remember::<F>(flow, self.ifindex, length);
        }
    }

    #[inline(always)]
    fn route(&self, source: &F::Address, destination: &F::Address, length: u32) -> Route {
        let Some(fib) = FIB.get_ptr_mut(0) else { return Route::None };
        // SAFETY: the pointer is to this processor's live scratch entry; XDP and TC programs do not interrupt each other.
        let fib = unsafe { &mut *fib };
        *fib = Fib {
            family: if F::IS_V4 { AF_INET } else { AF_INET6 },
            protocol: 0,
            source_port: 0,
            destination_port: 0,
            // In TC the kernel knows the length better: the packet may be many segments in one.
            length: if self.kind == Kind::Xdp { length as u16 } else { 0 },
            ifindex: self.ifindex,
            flow: 0,
            source: pack(F::words(source)),
            destination: pack(F::words(destination)),
            vlan: 0,
            source_mac: [0; 6],
            destination_mac: [0; 6],
        };
        // SAFETY: the context is this program's own, the parameters are of the kernel's size and layout.
        let result = unsafe {
            bpf_fib_lookup(self.context, core::ptr::from_mut(fib).cast(), size_of::<Fib>() as i32, 0)
        };
        match result {
            FIB_SUCCESS => Route::Remote {
                ifindex: fib.ifindex,
                destination_mac: fib.destination_mac,
                source_mac: fib.source_mac,
            },
            1..=FIB_PROHIBIT => Route::None,
            FIB_NOT_FORWARDED => Route::Local,
            // Which need not be the uplink: a bridge with pods, beside another network.
            FIB_NO_NEIGHBOUR => Route::Neighbour { ifindex: fib.ifindex },
            // Too long, forwarding disabled, a tunnel: the stack may still find a way.
            _ => Route::Neighbour { ifindex: 0 },
        }
    }

    #[inline(always)]
    fn prepare(&self, question: &Question<'_, F::Address>, task: Task) -> Prepared {
        prepare::ask::<F>(self.kind, self.context, question, task)
    }

    #[inline(always)]
    fn count(&self, reason: Reason, bytes: u32) {
        stats::count(reason, bytes);
    }

    #[inline(always)]
    fn count_service(&self, service: u32, event: ServiceEvent) {
        stats::service(service, event);
    }
}

impl<F: MapFamily> Sockets<F> for Kernel {
    #[inline(always)]
    fn cookie(&self) -> u64 {
        // SAFETY: the context is this socket hook's own.
        unsafe { bpf_get_socket_cookie(self.context) }
    }

    #[inline(always)]
    fn client(&self) -> u64 {
        // SAFETY: the context is this socket hook's own.
        unsafe { bpf_get_netns_cookie(self.context) }
    }

    #[inline(always)]
    fn connected(&self, cookie: u64, protocol: u8) -> Option<Connected<F::Address>> {
        let place = F::connections().get_ptr(socket::place(cookie, protocol))?;
        // SAFETY: the pointer is to a live entry of plain integers, and what is read while it is written is found not to be
        // whole. Volatile so that it is read once.
        Some(unsafe { place.read_volatile() })
    }

    #[inline(always)]
    fn set_connected(&self, connected: &Connected<F::Address>) {
        if let Some(place) = F::connections().get_ptr_mut(socket::place(connected.cookie, connected.protocol))
        {
            // SAFETY: the pointer is to a live entry of plain integers; what two write at once is found not to be whole.
            unsafe { *place = *connected }
        }
    }

    #[inline(always)]
    fn peer(&self, key: &SocketKey<F::Address>) -> Option<Peer<F::Address>> {
        // SAFETY: a value read while it is replaced would be another one of the same socket; sockets are not shared
        // between the processors that translate for them at the same instant but by their own program's choice.
        unsafe { F::peers().get(key) }.copied()
    }

    #[inline(always)]
    fn insert_peer(&self, key: &SocketKey<F::Address>, peer: &Peer<F::Address>) {
        // Without the entry the socket shows the backend's address: not worth refusing the connection.
        let _ = F::peers().insert(key, peer, u64::from(BPF_ANY));
    }

    #[inline(always)]
    fn pick(&self, key: &SocketKey<F::Address>) -> Option<Pick<F::Address>> {
        // SAFETY: as in `peer`.
        unsafe { F::picks().get(key) }.copied()
    }

    #[inline(always)]
    fn insert_pick(&self, key: &SocketKey<F::Address>, pick: &Pick<F::Address>) {
        // Without the entry the next datagram may go elsewhere: not worth refusing this one.
        let _ = F::picks().insert(key, pick, u64::from(BPF_ANY));
    }
}
