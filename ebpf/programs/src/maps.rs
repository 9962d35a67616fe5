//! The maps, defined in BTF so that aya and libbpf both load them. What they hold is documented in `skep-abi`.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray};
use aya_ebpf::macros::btf_map;
use skep_abi::affinity::{AFFINITY_CAPACITY, Affinity, AffinityKey};
use skep_abi::backend::{BACKEND_STATES_CAPACITY, BACKENDS_CAPACITY, Backend};
use skep_abi::config::Config;
use skep_abi::counters::{
    COUNTERS_CAPACITY, Counter, PROGRAM_STATS_CAPACITY, SERVICE_COUNTS_CAPACITY, ServiceStats,
};
use skep_abi::flow::{FLOW_ENTRIES, Flow, FlowKey};
use skep_abi::fragment::{FRAGMENTS_CAPACITY, FragmentKey, FragmentPorts};
use skep_abi::fronts::FRONTS_WORDS;
use skep_abi::local::{LOCAL_CAPACITY, LocalEndpoint};
use skep_abi::ranges::SOURCE_RANGES_CAPACITY;
use skep_abi::service::{SERVICES_CAPACITY, ServiceKey, ServiceValue};
use skep_abi::sets::{FLOW_SETS, FlowSet, numbers};
use skep_abi::socket::{CONNECTED_CAPACITY, Connected, Peer, Pick, SOCKETS_CAPACITY, SocketKey};
use skep_abi::{V4, V6};
use skep_logic::announce::Announcement;
use skep_logic::fragment::Piece;
use skep_logic::prepare::Case;
use skep_logic::quote::Quote;
use skep_logic::reject::Answer;
use skep_logic::tables::Scratch;
use skep_logic::{Family, Ipv4, Ipv6};

use crate::flows;
use crate::kernel::{HOPS, Hop};

const GROW: usize = BPF_F_NO_PREALLOC as usize;
const MAPPED: usize = BPF_F_MMAPABLE as usize;

/// Map of frontends.
pub type Services<A> = HashMap<ServiceKey<A>, ServiceValue, { SERVICES_CAPACITY as usize }, GROW>;
/// Where flows lie. Mapped, so that each set is one cache line.
pub type FlowSets = Array<FlowSet, { FLOW_SETS as usize }, MAPPED>;
/// Flows.
pub type FlowEntries<A> = Array<Flow<A>, { FLOW_ENTRIES as usize }, MAPPED>;
/// Trie of source ranges. Its keys are `RangeKey<A>`: the prefix length that the crate puts in front, then this.
pub type Ranges<A> = LpmTrie<RangeData<A>, u32, { SOURCE_RANGES_CAPACITY as usize }>;
/// Map of fragmented datagrams' ports.
pub type Fragments<A> = LruHashMap<FragmentKey<A>, FragmentPorts, { FRAGMENTS_CAPACITY as usize }>;
/// Map of this node's pods.
pub type Locals<A> = HashMap<A, LocalEndpoint, { LOCAL_CAPACITY as usize }, GROW>;
/// What sockets were connected to.
pub type Connections<A> = Array<Connected<A>, { CONNECTED_CAPACITY as usize }, MAPPED>;
/// Map of what unconnected sockets' backends stand for.
pub type Peers<A> = LruHashMap<SocketKey<A>, Peer<A>, { SOCKETS_CAPACITY as usize }>;
/// Map of unconnected sockets' backends.
pub type Picks<A> = LruHashMap<SocketKey<A>, Pick<A>, { SOCKETS_CAPACITY as usize }>;

/// What follows the prefix length in a `RangeKey<A>`.
#[repr(C)]
pub struct RangeData<A> {
    service: u32,
    address: A,
}

#[btf_map]
pub static CONFIG: Array<Config, 1> = Array::new();
#[btf_map]
pub static SERVICES_V4: Services<V4> = Services::new();
#[btf_map]
pub static SERVICES_V6: Services<V6> = Services::new();
#[btf_map]
pub static SOURCE_RANGES_V4: Ranges<V4> = Ranges::new();
#[btf_map]
pub static SOURCE_RANGES_V6: Ranges<V6> = Ranges::new();
#[btf_map]
pub static BACKENDS: Array<Backend, { BACKENDS_CAPACITY as usize }, MAPPED> = Array::new();
/// Words of `BackendState`, so that user space and programs agree on one atomic unit.
#[btf_map]
pub static BACKEND_STATES: Array<u64, { BACKEND_STATES_CAPACITY as usize }, MAPPED> = Array::new();
#[btf_map]
pub static FLOW_SETS_V4: FlowSets = FlowSets::new();
#[btf_map]
pub static FLOW_SETS_V6: FlowSets = FlowSets::new();
#[btf_map]
pub static FLOW_ENTRIES_V4: FlowEntries<V4> = FlowEntries::new();
#[btf_map]
pub static FLOW_ENTRIES_V6: FlowEntries<V6> = FlowEntries::new();
#[btf_map]
pub static FRONTS: Array<u64, { FRONTS_WORDS as usize }, MAPPED> = Array::new();
#[btf_map]
pub static LOCAL_V4: Locals<V4> = Locals::new();
#[btf_map]
pub static LOCAL_V6: Locals<V6> = Locals::new();
#[btf_map]
pub static CONNECTED_V4: Connections<V4> = Connections::new();
#[btf_map]
pub static CONNECTED_V6: Connections<V6> = Connections::new();
#[btf_map]
pub static PEERS_V4: Peers<V4> = Peers::new();
#[btf_map]
pub static PEERS_V6: Peers<V6> = Peers::new();
#[btf_map]
pub static PICKS_V4: Picks<V4> = Picks::new();
#[btf_map]
pub static PICKS_V6: Picks<V6> = Picks::new();
#[btf_map]
pub static AFFINITY: LruHashMap<AffinityKey, Affinity, { AFFINITY_CAPACITY as usize }> = LruHashMap::new();
#[btf_map]
pub static COUNTERS: PerCpuArray<Counter, { COUNTERS_CAPACITY as usize }> = PerCpuArray::new();
#[btf_map]
pub static PROGRAM_STATS: PerCpuArray<u64, { PROGRAM_STATS_CAPACITY as usize }> = PerCpuArray::new();
#[btf_map]
pub static SERVICE_COUNTS: Array<ServiceStats, { SERVICE_COUNTS_CAPACITY as usize }, MAPPED> = Array::new();
/// Where the answer to a refused packet is put together: it is too long for the stack.
#[btf_map]
pub static ANSWER: PerCpuArray<Answer, 1> = PerCpuArray::new();

/// Where a new connection is put together: its two directions are too long for the stack.
#[btf_map]
pub static SCRATCH_V4: PerCpuArray<Scratch<V4>, 1> = PerCpuArray::new();
/// As [`SCRATCH_V4`].
#[btf_map]
pub static SCRATCH_V6: PerCpuArray<Scratch<V6>, 1> = PerCpuArray::new();

/// Where what an ICMP error quotes is kept while it is dealt with.
#[btf_map]
pub static QUOTE_V4: PerCpuArray<Quote<V4>, 1> = PerCpuArray::new();
/// As [`QUOTE_V4`].
#[btf_map]
pub static QUOTE_V6: PerCpuArray<Quote<V6>, 1> = PerCpuArray::new();

/// Where a fragment is kept while it is dealt with.
#[btf_map]
pub static PIECE_V4: PerCpuArray<Piece<V4>, 1> = PerCpuArray::new();
/// As [`PIECE_V4`].
#[btf_map]
pub static PIECE_V6: PerCpuArray<Piece<V6>, 1> = PerCpuArray::new();
#[btf_map]
pub static FRAGMENTS_V4: Fragments<V4> = Fragments::new();
#[btf_map]
pub static FRAGMENTS_V6: Fragments<V6> = Fragments::new();

/// What is asked of the preparations.
#[btf_map]
pub static CASE_V4: PerCpuArray<Case<V4>, 1> = PerCpuArray::new();
/// As [`CASE_V4`].
#[btf_map]
pub static CASE_V6: PerCpuArray<Case<V6>, 1> = PerCpuArray::new();

/// Ways that were found a moment ago.
#[btf_map]
pub static HOPS_V4: PerCpuArray<Hop<V4>, { HOPS as usize }> = PerCpuArray::new();
/// As [`HOPS_V4`].
#[btf_map]
pub static HOPS_V6: PerCpuArray<Hop<V6>, { HOPS as usize }> = PerCpuArray::new();

/// Where what an announcement says is kept while it is dealt with.
#[btf_map]
pub static TOLD_V4: PerCpuArray<Announcement<V4>, 1> = PerCpuArray::new();
/// As [`TOLD_V4`].
#[btf_map]
pub static TOLD_V6: PerCpuArray<Announcement<V6>, 1> = PerCpuArray::new();

/// The maps of one address family.
pub trait MapFamily: Family {
    /// Frontends.
    fn services() -> &'static Services<Self::Address>;
    /// Source ranges.
    fn ranges() -> &'static Ranges<Self::Address>;
    /// Where flows lie.
    fn flow_sets() -> &'static FlowSets;
    /// Flows.
    fn flow_entries() -> &'static FlowEntries<Self::Address>;
    /// The number of the entry of a key, see [`crate::flows`].
    fn find(key: &FlowKey) -> u32;
    /// Has the index know what class the entry of a key is of.
    fn settle(key: &FlowKey, class: u64);
    /// Takes out the entry of a key.
    fn remove(key: &FlowKey);
    /// Enters what is in scratch memory under a key.
    fn enter(key: &FlowKey, request: u32) -> u32;
    /// This node's pods.
    fn locals() -> &'static Locals<Self::Address>;
    /// What sockets were connected to.
    fn connections() -> &'static Connections<Self::Address>;
    /// What unconnected sockets' backends stand for.
    fn peers() -> &'static Peers<Self::Address>;
    /// Unconnected sockets' backends.
    fn picks() -> &'static Picks<Self::Address>;
    /// Scratch memory.
    fn scratch() -> &'static PerCpuArray<Scratch<Self::Address>, 1>;
    /// What an ICMP error quotes.
    fn quote() -> &'static PerCpuArray<Quote<Self::Address>, 1>;
    /// A fragment.
    fn piece() -> &'static PerCpuArray<Piece<Self::Address>, 1>;
    /// What is asked of the preparations.
    fn case() -> &'static PerCpuArray<Case<Self::Address>, 1>;
    /// Ways that were found a moment ago.
    fn hops() -> &'static PerCpuArray<Hop<Self::Address>, { HOPS as usize }>;
    /// What an announcement says.
    fn told() -> &'static PerCpuArray<Announcement<Self::Address>, 1>;
    /// Fragmented datagrams' ports.
    fn fragments() -> &'static Fragments<Self::Address>;
}

macro_rules! map_family {
    ($family:ty, $services:ident, $ranges:ident, $flow_sets:ident, $flow_entries:ident, $find:ident, $settle:ident, $remove:ident, $enter:ident, $locals:ident, $connections:ident, $peers:ident, $picks:ident, $scratch:ident, $quote:ident, $piece:ident, $case:ident, $hops:ident, $told:ident, $fragments:ident) => {
        impl MapFamily for $family {
            #[inline(always)]
            fn services() -> &'static Services<Self::Address> {
                &$services
            }
            #[inline(always)]
            fn ranges() -> &'static Ranges<Self::Address> {
                &$ranges
            }
            #[inline(always)]
            fn flow_sets() -> &'static FlowSets {
                &$flow_sets
            }
            #[inline(always)]
            fn flow_entries() -> &'static FlowEntries<Self::Address> {
                &$flow_entries
            }
            #[inline(always)]
            fn find(key: &FlowKey) -> u32 {
                let [pair, rest] = numbers(key);
                flows::$find(pair, rest)
            }
            #[inline(always)]
            fn settle(key: &FlowKey, class: u64) {
                let [pair, rest] = numbers(key);
                flows::$settle(pair, rest, class);
            }
            #[inline(always)]
            fn remove(key: &FlowKey) {
                let [pair, rest] = numbers(key);
                flows::$remove(pair, rest);
            }
            #[inline(always)]
            fn enter(key: &FlowKey, request: u32) -> u32 {
                let [pair, rest] = numbers(key);
                flows::$enter(pair, rest, request)
            }
            #[inline(always)]
            fn locals() -> &'static Locals<Self::Address> {
                &$locals
            }
            #[inline(always)]
            fn connections() -> &'static Connections<Self::Address> {
                &$connections
            }
            #[inline(always)]
            fn peers() -> &'static Peers<Self::Address> {
                &$peers
            }
            #[inline(always)]
            fn picks() -> &'static Picks<Self::Address> {
                &$picks
            }
            #[inline(always)]
            fn scratch() -> &'static PerCpuArray<Scratch<Self::Address>, 1> {
                &$scratch
            }
            #[inline(always)]
            fn quote() -> &'static PerCpuArray<Quote<Self::Address>, 1> {
                &$quote
            }
            #[inline(always)]
            fn piece() -> &'static PerCpuArray<Piece<Self::Address>, 1> {
                &$piece
            }
            #[inline(always)]
            fn case() -> &'static PerCpuArray<Case<Self::Address>, 1> {
                &$case
            }
            #[inline(always)]
            fn hops() -> &'static PerCpuArray<Hop<Self::Address>, { HOPS as usize }> {
                &$hops
            }
            #[inline(always)]
            fn told() -> &'static PerCpuArray<Announcement<Self::Address>, 1> {
                &$told
            }
            #[inline(always)]
            fn fragments() -> &'static Fragments<Self::Address> {
                &$fragments
            }
        }
    };
}

map_family!(
    Ipv4,
    SERVICES_V4,
    SOURCE_RANGES_V4,
    FLOW_SETS_V4,
    FLOW_ENTRIES_V4,
    find_flow_v4,
    settle_flow_v4,
    remove_flow_v4,
    enter_flow_v4,
    LOCAL_V4,
    CONNECTED_V4,
    PEERS_V4,
    PICKS_V4,
    SCRATCH_V4,
    QUOTE_V4,
    PIECE_V4,
    CASE_V4,
    HOPS_V4,
    TOLD_V4,
    FRAGMENTS_V4
);
map_family!(
    Ipv6,
    SERVICES_V6,
    SOURCE_RANGES_V6,
    FLOW_SETS_V6,
    FLOW_ENTRIES_V6,
    find_flow_v6,
    settle_flow_v6,
    remove_flow_v6,
    enter_flow_v6,
    LOCAL_V6,
    CONNECTED_V6,
    PEERS_V6,
    PICKS_V6,
    SCRATCH_V6,
    QUOTE_V6,
    PIECE_V6,
    CASE_V6,
    HOPS_V6,
    TOLD_V6,
    FRAGMENTS_V6
);
