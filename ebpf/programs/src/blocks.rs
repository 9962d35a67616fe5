//! The building blocks that benchmarks hold the datapath against: what the kernel's own maps cost for work of the same
//! kind. Not part of the datapath; an object of its own.
//!
//! Each program makes one entry under a random key in a map that evicts the least recently used, whose keys and values are
//! as large as those of the flow tables. With the map full, every run evicts.
#![no_std]
#![no_main]

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::bindings::xdp_action::XDP_PASS;
use aya_ebpf::btf_maps::{Array, LruHashMap};
use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use skep_abi::flow::{FLOW_ENTRIES, Flow, FlowKey};
use skep_abi::{Be16, TCP, V4, V6};

/// As many entries as a flow table has by default; the loader may choose another number.
const CAPACITY: usize = FLOW_ENTRIES as usize;

#[btf_map]
static EVICTING_V4: LruHashMap<FlowKey, Flow<V4>, CAPACITY> = LruHashMap::new();
#[btf_map]
static EVICTING_V6: LruHashMap<FlowKey, Flow<V6>, CAPACITY> = LruHashMap::new();
/// What is inserted: too long for the stack.
#[btf_map]
static VALUE_V4: Array<Flow<V4>, 1> = Array::new();
#[btf_map]
static VALUE_V6: Array<Flow<V6>, 1> = Array::new();

macro_rules! insert {
    ($name:ident, $value:ident, $map:ident) => {
        /// One insertion.
        #[xdp]
        pub fn $name(_: XdpContext) -> u32 {
            // SAFETY: the helper takes no argument.
            let pair = unsafe { [bpf_get_prandom_u32(), bpf_get_prandom_u32()] };
            let key = FlowKey::new(pair, Be16::new(40_000), Be16::new(80), TCP);
            if let Some(value) = $value.get(0) {
                // One that fails is told by the number of entries.
                let _ = $map.insert(&key, value, u64::from(BPF_ANY));
            }
            XDP_PASS
        }
    };
}

insert!(insert_v4, VALUE_V4, EVICTING_V4);
insert!(insert_v6, VALUE_V6, EVICTING_V6);

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
