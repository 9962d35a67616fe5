//! The backend that a client of a service with session affinity is given, over tables in ordinary memory.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use skep_abi::affinity::{Affinity, AffinityKey, ticks};
use skep_abi::backend::{Backend, BackendState, STATE_ACTIVE};
use skep_abi::config::Config;
use skep_abi::counters::Reason;
use skep_abi::flow::{Flow, FlowKey};
use skep_abi::fragment::{FragmentKey, FragmentPorts};
use skep_abi::fronts::Bit;
use skep_abi::local::LocalEndpoint;
use skep_abi::service::{FLAG_AFFINITY, FLAG_HASHED, ServiceKey, ServiceValue};
use skep_abi::{Be16, TCP, UDP, V4};

use crate::Ipv4;
use crate::affinity::remember;
use crate::assign::client_backend;
use crate::decide::Question;
use crate::parse::{Network, Packet};
use crate::prepare::{Prepared, Task};
use crate::tables::{Existing, InsertError, Route, Scratch, ServiceEvent, Side, Tables};

const SECONDS: u32 = 2;
const BACKENDS: u32 = 4;
const SERVICE: ServiceValue = ServiceValue {
    id: 7,
    slice: 0,
    count: BACKENDS,
    flags: FLAG_AFFINITY | FLAG_HASHED,
    affinity_seconds: SECONDS,
    kind: 0,
    reserved: 0,
};

/// What a choice asks for, and nothing else. There is one client.
#[derive(Default)]
struct Memory {
    entry: RefCell<Option<(AffinityKey, Affinity)>>,
    random: Cell<u32>,
}

impl Tables<Ipv4> for Memory {
    fn random(&self) -> u32 {
        self.random.set(self.random.get().wrapping_add(0x9e37_79b9));
        self.random.get()
    }
    fn backend(&self, slot: u32) -> Option<Backend> {
        (slot < BACKENDS).then(|| Backend { id: slot + 1, ..Backend::default() })
    }
    fn backend_state(&self, _: u32) -> Option<BackendState> {
        Some(BackendState { state: STATE_ACTIVE, generation: 1 })
    }
    fn affinity<R>(&self, key: &AffinityKey, work: impl FnOnce(&mut Affinity) -> R) -> Option<R> {
        let mut entry = self.entry.borrow_mut();
        entry.as_mut().filter(|(known, _)| known == key).map(|(_, value)| work(value))
    }
    fn insert_affinity(&self, key: &AffinityKey, affinity: &Affinity) {
        *self.entry.borrow_mut() = Some((*key, *affinity));
    }

    fn config(&self) -> Option<&Config> {
        unreachable!()
    }
    fn now(&self) -> u32 {
        unreachable!()
    }
    fn numbers(&self, _: &Packet<V4>) -> Option<[u32; 2]> {
        unreachable!()
    }
    fn front(&self, _: Bit) -> bool {
        unreachable!()
    }
    fn service(&self, _: &ServiceKey<V4>) -> Option<ServiceValue> {
        unreachable!()
    }
    fn in_source_ranges(&self, _: u32, _: &V4) -> bool {
        unreachable!()
    }
    fn fragment(&self, _: &FragmentKey<V4>) -> Option<FragmentPorts> {
        unreachable!()
    }
    fn insert_fragment(&self, _: &FragmentKey<V4>, _: &FragmentPorts) {
        unreachable!()
    }
    fn local(&self, _: &V4) -> Option<LocalEndpoint> {
        unreachable!()
    }
    fn flow<R>(&self, _: &FlowKey, _: impl FnOnce(&mut Flow<V4>) -> R) -> Option<R> {
        unreachable!()
    }
    fn settle(&self, _: &FlowKey, _: &Flow<V4>) {
        unreachable!()
    }
    fn scratch<R>(&self, _: impl FnOnce(&mut Scratch<V4>) -> R) -> Option<R> {
        unreachable!()
    }
    fn insert_flow(&self, _: &FlowKey, _: Side, _: &Flow<V4>, _: Existing) -> Result<(), InsertError> {
        unreachable!()
    }
    fn remove_flow(&self, _: &FlowKey) {
        unreachable!()
    }
    fn recall(&self, _: &mut Flow<V4>, _: u32) -> bool {
        unreachable!()
    }
    fn remember(&self, _: &Flow<V4>, _: u32) {
        unreachable!()
    }
    fn route(&self, _: &V4, _: &V4, _: u32) -> Route {
        unreachable!()
    }
    fn prepare(&self, _: &Question<'_, V4>, _: Task) -> Prepared {
        unreachable!()
    }
    fn count(&self, _: Reason, _: u32) {
        unreachable!()
    }
    fn count_service(&self, _: u32, _: ServiceEvent) {
        unreachable!()
    }
}

/// The number of the backend that a first packet from the client's `port` is given, and whether it is the one kept.
fn first_packet(memory: &Memory, protocol: u8, port: u16, now: u32) -> (u32, bool) {
    let (client, node) = (V4::from(Ipv4Addr::new(192, 0, 2, 9)), V4::from(Ipv4Addr::new(192, 0, 2, 1)));
    let network =
        Network { source: client, destination: node, protocol, hops: 64, length: 60, header_length: 20 };
    let (source_port, destination_port) = (Be16::new(port), Be16::new(30080));
    let packet = Packet { network, source_port, destination_port, flags: 0, l3: 14, l4: 34 };
    let key = FlowKey::new([client.0, node.0], source_port, destination_port, protocol);
    let question = Question { config: &Config::default(), key, packet: &packet, scope: 0, whole: true, now };
    let (backend, _, kept) = client_backend::<Ipv4, _>(memory, &SERVICE, &question).unwrap();
    (backend.id, kept)
}

/// A connection that is made at once; the handshake of one has its backend written down, as [`crate::open`] does.
fn connect(memory: &Memory, protocol: u8, port: u16, now: u32) -> (u32, bool) {
    let (id, kept) = first_packet(memory, protocol, port, now);
    if protocol == TCP && !kept {
        let key = AffinityKey {
            client: skep_abi::V6::from_first(V4::from(Ipv4Addr::new(192, 0, 2, 9))),
            service: SERVICE.id,
            kind: skep_abi::affinity::CLIENT_ADDRESS,
        };
        let chosen = (memory.backend(id - 1).unwrap(), BackendState { state: STATE_ACTIVE, generation: 1 });
        remember::<Ipv4, _>(memory, &key, chosen, now);
    }
    (id, kept)
}

#[test]
fn client_whose_time_is_out_meets_other_backends_over_a_few_expiries() {
    for protocol in [TCP, UDP] {
        let memory = Memory::default();
        let met: BTreeSet<u32> = (0..12)
            .map(|round| {
                let (id, kept) = connect(&memory, protocol, 40000 + round, 1000 + u32::from(round) * 60);
                assert!(!kept, "{protocol}: 60 ticks are four seconds, the time-out is two");
                id
            })
            .collect();
        assert_eq!(met.len(), BACKENDS as usize, "{protocol}: 12 expiries, met {met:?}");
    }
}

#[test]
fn connections_that_are_not_made_yet_meet_one_backend_after_any_expiry() {
    let memory = Memory::default();
    for round in 0..12 {
        let now = 1000 + round * 60;
        // Not only at the same instant: the handshake of the first may take a while.
        let met: BTreeSet<(u32, bool)> =
            (0..20).map(|at| first_packet(&memory, TCP, 40000 + at, now + u32::from(at))).collect();
        assert_eq!(met.len(), 1, "round {round}: {met:?}");
        let made = connect(&memory, TCP, 50000, now + 20);
        assert!(met.contains(&made), "round {round}: {made:?} is not of {met:?}");
        assert_eq!(first_packet(&memory, TCP, 50001, now + 20), (made.0, true), "round {round}");
    }
}

#[test]
fn entry_whose_time_is_not_out_is_kept_and_renewed() {
    for protocol in [TCP, UDP] {
        let memory = Memory::default();
        let mut now = u32::MAX - 100;
        let (first, _) = connect(&memory, protocol, 40000, now);
        for port in 40001..40030 {
            now = now.wrapping_add(ticks(SECONDS) - 1);
            assert_eq!(connect(&memory, protocol, port, now), (first, true), "{protocol} {port}");
        }
    }
}
