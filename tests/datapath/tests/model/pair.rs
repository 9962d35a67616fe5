//! The model and the kernel side by side: each step is done to both, and what the kernel says is held against the model.

use std::net::SocketAddr;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use skep_abi::backend::{BACKEND_LOCAL, BACKENDS, Backend as Slot, STATE_ACTIVE, STATE_DRAINING, STATE_GONE};
use skep_abi::service::{FLAG_DROP_WHEN_EMPTY, FLAG_HASHED, SCOPE_EXTERNAL, ServiceValue};
use skep_abi::{Be16, V6};
use skep_datapath_tests::fixture::{Change, Fixture, packet};
use skep_datapath_tests::model::{Backend, Condition, Expected, Model, Service};
use skep_datapath_tests::packet::{ACK, Packet, RST, TCP, UDP};
use skep_datapath_tests::world::{self, Family, set_state};

use crate::{BACKENDS_EACH, Step};

/// XDP's answers, then TC's.
const DROP: u32 = 1;
const PASS: u32 = 2;
const TX: u32 = 3;
const REDIRECT: u32 = 4;
const NEXT: u32 = u32::MAX;
const TC_REDIRECT: u32 = 7;

/// The model and the kernel side by side.
pub(super) struct Pair<'a> {
    fixture: &'a Fixture,
    family: Family,
    hashed: bool,
    model: Model,
    /// First slot of the next slice.
    slice: u32,
}

impl<'a> Pair<'a> {
    pub(super) fn new(fixture: &'a Fixture, family: Family, hashed: bool) -> Self {
        let fronts =
            [(family.node(), 30080, TCP), (family.node(), 30080, UDP), (family.cluster_ip(), 80, TCP)];
        let services = (0..).zip(fronts).map(|(at, (address, port, protocol))| {
            let backend = |number: usize| {
                let pod = if number < 2 { family.local_pod() } else { family.remote_pod() };
                let address = SocketAddr::new(pod, 8000 + 100 * at + number as u16);
                Backend { address, condition: Condition::Gone, life: 0 }
            };
            Service {
                frontend: SocketAddr::new(address, port),
                protocol,
                present: true,
                drops_when_empty: at == 2,
                backends: (0..BACKENDS_EACH).map(backend).collect(),
            }
        });
        Self { fixture, family, hashed, model: Model::new(services.collect()), slice: 1000 }
    }

    fn client(&self, service: usize, client: u16) -> SocketAddr {
        SocketAddr::new(self.family.client(), 40000 + service as u16 * 100 + client)
    }

    fn id(service: usize, backend: usize) -> u32 {
        (service * BACKENDS_EACH + backend + 1) as u32
    }

    /// Writes a service's states, a fresh slice and its value, in the order that the ABI asks for.
    pub(super) fn write(&mut self, service: usize) {
        let loaded = self.fixture.loaded();
        let planned = &self.model.services[service];
        let state = |at: usize, backend: &Backend| {
            let state = match backend.condition {
                Condition::Active => STATE_ACTIVE,
                Condition::Draining => STATE_DRAINING,
                Condition::Gone => STATE_GONE,
            };
            set_state(loaded, Self::id(service, at), state, backend.life).unwrap();
        };
        let active = planned.active();
        active.iter().for_each(|at| state(*at, &planned.backends[*at]));
        let slice = self.slice;
        for (slot, at) in (slice..).zip(&active) {
            let backend = &planned.backends[*at];
            let address = match backend.address.ip() {
                std::net::IpAddr::V4(address) => V6::from_first(address.into()),
                std::net::IpAddr::V6(address) => address.into(),
            };
            let flags = if *at < 2 { BACKEND_LOCAL } else { 0 };
            let port = Be16::new(backend.address.port());
            loaded.set(BACKENDS, &slot, &Slot { address, port, flags, id: Self::id(service, *at) }).unwrap();
        }
        self.slice += active.len() as u32;
        let drops = if planned.drops_when_empty { FLAG_DROP_WHEN_EMPTY } else { 0 };
        let hashed = if self.hashed { FLAG_HASHED } else { 0 };
        let value = ServiceValue {
            id: service as u32 + 1,
            slice,
            count: active.len() as u32,
            flags: drops | hashed,
            ..ServiceValue::default()
        };
        let value = planned.present.then_some(value);
        world::set_service(loaded, planned.frontend, planned.protocol, SCOPE_EXTERNAL, value.as_ref())
            .unwrap();
        planned.backends.iter().enumerate().for_each(|(at, backend)| state(at, backend));
    }

    pub(super) fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Use { service, backends, at_once } => {
                for (backend, used) in self.model.services[service].backends.iter_mut().zip(backends) {
                    backend.condition = match (backend.condition, used) {
                        (Condition::Gone, true) => {
                            backend.life += 1;
                            Condition::Active
                        }
                        (_, true) => Condition::Active,
                        (Condition::Active, false) if at_once => Condition::Gone,
                        (Condition::Active, false) => Condition::Draining,
                        (other, false) => other,
                    };
                }
                self.write(service);
            }
            Step::End { service } => {
                for backend in &mut self.model.services[service].backends {
                    if backend.condition == Condition::Draining {
                        backend.condition = Condition::Gone;
                    }
                }
                self.write(service);
            }
            Step::Toggle { service } => {
                let present = !self.model.services[service].present;
                self.model.services[service].present = present;
                self.write(service);
            }
            Step::Client { service, client, flags } => return self.client_sends(service, client, flags),
            Step::Backend { service, client, flags } => {
                if let Some((source, backend)) = self.model.seen(self.client(service, client), service) {
                    return self.backend_sends(service, backend, source, flags);
                }
            }
            Step::Unasked { service, backend, port } => {
                let backend = self.model.services[service].backends[backend].address;
                let node = SocketAddr::new(self.family.node(), port);
                return self.backend_sends(service, backend, node, ACK);
            }
        }
        Ok(())
    }

    fn packet(&self, service: usize, source: SocketAddr, destination: SocketAddr, flags: u8) -> Packet {
        match self.model.services[service].protocol {
            TCP => Packet::tcp(source, destination, flags),
            _ => Packet::udp(source, destination),
        }
    }

    fn client_sends(&mut self, service: usize, client: u16, flags: u8) -> Result<(), TestCaseError> {
        let client = self.client(service, client);
        let sent = self.packet(service, client, self.model.services[service].frontend, flags);
        let change = self.fixture.xdp(&sent.build()).unwrap();
        let expected = self.model.from_client(client, service, sent.flags);
        let told = format!("{sent:?} {expected:?} {change:?}");
        let count = |name: &str| change.counters.get(name).copied().unwrap_or(0);
        match expected {
            Expected::Translated { source, destination, opens } => {
                prop_assert_eq!(count("flow_opened"), u64::from(opens), "{}", told);
                self.check_sent(&sent, &change, source, destination, [TX, REDIRECT])?;
            }
            Expected::New { backends, moved } => {
                prop_assert_eq!(count(if moved { "flow_moved" } else { "flow_created" }), 1, "{}", told);
                let out = packet(&change);
                prop_assert!(self.model.addresses(service, &backends).contains(&out.destination), "{}", told);
                let local = out.destination.ip() == self.family.local_pod();
                prop_assert_eq!(local, out.source == client, "{}", told);
                prop_assert!(local || out.source.ip() == self.family.node() && out.source.port() >= 61000);
                self.check_sent(&sent, &change, out.source, out.destination, [TX, REDIRECT])?;
                let taken = self.model.chosen(client, service, out.source, out.destination);
                prop_assert_eq!(taken, Ok(()), "{}", told);
            }
            Expected::Passed => {
                prop_assert_eq!((change.action, &change.frame), (PASS, &sent.build()), "{}", told);
            }
            Expected::Dropped(reason) => {
                prop_assert_eq!((change.action, count(reason)), (DROP, 1), "{}", told);
            }
            Expected::Refused(reason) => {
                let action = if sent.flags & RST != 0 { DROP } else { TX };
                prop_assert_eq!((change.action, count(reason)), (action, 1), "{}", told);
                if action == TX && sent.protocol == TCP {
                    let answer = packet(&change);
                    prop_assert_eq!((answer.source, answer.destination), (sent.destination, client));
                    prop_assert!(answer.flags & RST != 0, "{}", told);
                }
            }
        }
        Ok(())
    }

    fn backend_sends(
        &mut self,
        service: usize,
        backend: SocketAddr,
        to: SocketAddr,
        flags: u8,
    ) -> Result<(), TestCaseError> {
        let sent = self.packet(service, backend, to, flags);
        let local = backend.ip() == self.family.local_pod();
        let frame = sent.build();
        let change = if local { self.fixture.from_pod(&frame) } else { self.fixture.xdp(&frame) };
        let change = change.unwrap();
        match self.model.from_backend(backend, to, sent.protocol, sent.flags) {
            Expected::Translated { source, destination, .. } => {
                let action = if local { TC_REDIRECT } else { TX };
                self.check_sent(&sent, &change, source, destination, [action, action])
            }
            _ => {
                let action = if local { NEXT } else { PASS };
                prop_assert_eq!((change.action, &change.frame), (action, &frame), "{:?}", sent);
                Ok(())
            }
        }
    }

    /// The packet left with these ends, and is otherwise as it was but for the hop.
    fn check_sent(
        &self,
        sent: &Packet,
        change: &Change,
        source: SocketAddr,
        destination: SocketAddr,
        [remote, local]: [u32; 2],
    ) -> Result<(), TestCaseError> {
        let action = if destination.ip() == self.family.local_pod() { local } else { remote };
        let out = packet(change);
        let expected = Packet {
            source,
            destination,
            destination_mac: out.destination_mac,
            source_mac: out.source_mac,
            hops: 63,
            ..sent.clone()
        };
        prop_assert_eq!((change.action, out), (action, expected), "{:?} {:?}", sent, change.counters);
        Ok(())
    }
}
