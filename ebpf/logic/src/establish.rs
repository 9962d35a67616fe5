//! Makes a flow for the first packet of a connection to a service: chooses the backend, finds a free tuple towards it,
//! and enters both directions. Owns the choice of the translated source; not on the hot path.
//!
//! The tuple that the backend sees is entered first, and only if nobody has it: that insertion is what makes source
//! ports collision-free between processors, without a lock or a bitmap. One port serves many connections as long as
//! they go to different backends.

use skep_abi::affinity::{AffinityKey, CLIENT_ADDRESS};
use skep_abi::backend::{BACKEND_LOCAL, Backend, BackendState, STATE_GONE};
use skep_abi::counters::Reason;
use skep_abi::flow::{FLOW_INTERNAL, FLOW_SNAT, Flow, FlowKey, STATE_CLOSED, STATE_CLOSING};
use skep_abi::service::{
    FLAG_ALWAYS_SNAT, FLAG_DROP_WHEN_EMPTY, FLAG_SOURCE_RANGES, SCOPE_INTERNAL, ServiceKey, ServiceValue,
};
use skep_abi::{Be16, has_connections};

use crate::affinity;
use crate::choose::{self, Inputs};
use crate::decide::Question;
use crate::family::Family;
use crate::maintain::{partner_key, resolve, write_partner};
use crate::parse::Packet;
use crate::tables::{Existing, InsertError, Scratch, ServiceEvent, Tables};
use crate::track;

/// What became of the attempt, as one number: a function of the kernel's virtual machine returns one register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Established(u32);

impl Established {
    /// Both entries are there.
    pub const DONE: Self = Self(0);
    /// The packet is for no service.
    pub const NOT_A_SERVICE: Self = Self(1);
    const REFUSED: u32 = 0x100;
    const DROPPED: u32 = 0x200;

    /// To be answered with a refusal.
    pub const fn refused(reason: Reason) -> Self {
        Self(Self::REFUSED | reason.index())
    }

    /// To be dropped.
    pub const fn dropped(reason: Reason) -> Self {
        Self(Self::DROPPED | reason.index())
    }

    /// Whether it is a refusal.
    #[inline(always)]
    pub const fn is_refusal(self) -> bool {
        self.0 & Self::REFUSED != 0
    }

    /// Why it is a refusal or a drop.
    #[inline(always)]
    pub fn reason(self) -> Reason {
        Reason::from_index(self.0 & 0xff).unwrap_or(Reason::FlowTableFull)
    }
}

/// Ports tried in search of a free one.
const SNAT_TRIES: u32 = 8;
/// Ports tried after that in search of one whose connection is over, before source translation is given up as exhausted.
const TAKEOVER_TRIES: u32 = 4;
/// Slots tried when a slice names backends that are gone, as it may for an instant during an update.
const CHOICE_TRIES: u32 = 4;
/// Every node must choose alike, or a connection that a router moves to another node ends at another backend. So this is
/// not the node's own seed. Who knows it can aim at a backend, as anyone can by trying ports; the flow tables, where
/// collisions could do harm, are keyed with the node's own.
const CHOICE_SEED: u64 = 0x9e37_79b9_7f4a_7c15;
/// Ticks without a packet after which a closing connection's tuple may be taken over: about 30 s.
const CLOSING_TICKS: u32 = 450;
const _: () = assert!(STATE_CLOSING + 1 == STATE_CLOSED, "`take_over` adds to the state");

/// Makes a flow for the packet of `question`.
#[inline(never)]
pub fn establish<F: Family, T: Tables<F>>(tables: &T, question: &Question<'_, F::Address>) -> Established {
    let Question { packet, hook, now, .. } = question;
    let network = &packet.network;
    let scope = hook.scope();
    let service_key = ServiceKey {
        address: network.destination,
        port: packet.destination_port,
        protocol: network.protocol,
        scope,
    };
    let Some(service) = tables.service(&service_key) else { return Established::NOT_A_SERVICE };
    // Before anything is answered: who may not ask learns nothing.
    if service.flags & FLAG_SOURCE_RANGES != 0 && !tables.in_source_ranges(service.id, &network.source) {
        return Established::dropped(Reason::SourceNotAllowed);
    }
    if service.count == 0 {
        tables.count_service(service.id, ServiceEvent::Refused);
        return if service.flags & FLAG_DROP_WHEN_EMPTY != 0 {
            Established::dropped(Reason::NoLocalEndpoints)
        } else {
            Established::refused(Reason::NoEndpoints)
        };
    }
    if has_connections(network.protocol) && !track::opens(packet.flags) {
        return Established::refused(Reason::NoFlow);
    }
    let Some((backend, state)) = client_backend(tables, &service, question) else {
        return Established::dropped(Reason::BadSlot);
    };
    let flags = if scope == SCOPE_INTERNAL { FLOW_INTERNAL } else { 0 };
    let entered = tables.scratch(|scratch| {
        scratch.flow = Flow {
            source: network.source,
            destination: network.destination,
            new_source: network.source,
            new_destination: F::backend(&backend.address),
            new_source_port: packet.source_port,
            new_destination_port: backend.port,
            backend: backend.id,
            generation: state.generation,
            service: service.id,
            last_seen: *now,
            checked: *now,
            flags,
            ..Flow::default()
        };
        let local = backend.flags & BACKEND_LOCAL != 0;
        match reserve::<F, T>(tables, question, scratch, local, service.flags) {
            Ok(()) => enter_forward::<F, T>(tables, question, &mut scratch.flow),
            Err(reason) => Established::dropped(reason),
        }
    });
    entered.unwrap_or(Established::dropped(Reason::FlowTableFull))
}

/// Enters the forward direction, its next hop resolved; takes the reply direction out again when that fails.
#[inline(always)]
fn enter_forward<F: Family, T: Tables<F>>(
    tables: &T,
    question: &Question<'_, F::Address>,
    flow: &mut Flow<F::Address>,
) -> Established {
    let Question { config, key, packet, .. } = question;
    let length = packet.network.length;
    let routed = resolve::<F, T>(tables, config, flow, length);
    flow.epoch = config.epoch;
    let moved = !has_connections(packet.network.protocol) && tables.flow(key, |_| ()).is_some();
    if !routed || tables.insert_flow(key, flow, Existing::Replace).is_err() {
        let reply_key = partner_key::<F>(config, flow, key);
        tables.remove_flow(&reply_key);
        return Established::dropped(if routed { Reason::FlowTableFull } else { Reason::NoRoute });
    }
    tables.count_service(flow.service, ServiceEvent::Connection);
    tables.count(if moved { Reason::FlowMoved } else { Reason::FlowCreated }, length);
    Established::DONE
}

/// The backend for the client of `question`: the one it had before, where the service has affinity.
#[inline(always)]
fn client_backend<F: Family, T: Tables<F>>(
    tables: &T,
    service: &ServiceValue,
    question: &Question<'_, F::Address>,
) -> Option<(Backend, BackendState)> {
    if !affinity::applies(service) {
        return choose_backend(tables, service, question);
    }
    let client = F::shared(&question.packet.network.source);
    let key = AffinityKey { client, service: service.id, kind: CLIENT_ADDRESS };
    if let Some(kept) = affinity::remembered(tables, service, &key, question.now) {
        return Some(kept);
    }
    let chosen = choose_backend(tables, service, question)?;
    affinity::remember(tables, &key, chosen, question.now);
    Some(chosen)
}

/// What the choice by hash goes by. A function of its own, since its words would not fit on the stack of its caller's.
#[inline(never)]
fn tuple<F: Family>(packet: &Packet<F::Address>) -> u32 {
    let [client, frontend] = F::pair(CHOICE_SEED, &packet.network.source, &packet.network.destination);
    let ports = u32::from(packet.source_port.raw()) | u32::from(packet.destination_port.raw()) << 16;
    choose::scramble(client) ^ frontend ^ ports.rotate_left(11) ^ u32::from(packet.network.protocol)
}

/// A backend of the service that is not gone, with its state.
#[inline(always)]
fn choose_backend<F: Family, T: Tables<F>>(
    tables: &T,
    service: &ServiceValue,
    question: &Question<'_, F::Address>,
) -> Option<(Backend, BackendState)> {
    let inputs = Inputs { random: tables.random(), tuple: tuple::<F>(question.packet) };
    let mut position = choose::position(service, inputs)?;
    let mut tries = 0;
    while tries < CHOICE_TRIES {
        let backend = tables.backend(service.slice.wrapping_add(position))?;
        match tables.backend_state(backend.id) {
            Some(state) if state.state != STATE_GONE => return Some((backend, state)),
            _ => {}
        }
        position = if position + 1 < service.count { position + 1 } else { 0 };
        tries += 1;
    }
    None
}

/// Enters the reply direction under a tuple that nobody has, translating the source where it must be.
#[inline(always)]
fn reserve<F: Family, T: Tables<F>>(
    tables: &T,
    question: &Question<'_, F::Address>,
    scratch: &mut Scratch<F::Address>,
    local: bool,
    service_flags: u16,
) -> Result<(), Reason> {
    let config = question.config;
    let Scratch { flow, partner } = scratch;
    write_partner::<F>(flow, &question.key, partner);
    let mut reply_key = partner_key::<F>(config, flow, &question.key);
    let external = flow.flags & FLOW_INTERNAL == 0;
    let to_itself = flow.new_destination == flow.source;
    if (!external || local) && !to_itself && service_flags & FLAG_ALWAYS_SNAT == 0 {
        let entered = match tables.insert_flow(&reply_key, partner, Existing::Keep) {
            Err(InsertError::Exists) => take_over::<F, T>(tables, &reply_key, partner, question.now),
            other => other,
        };
        match entered {
            Ok(()) => return Ok(()),
            Err(InsertError::Failed) => return Err(Reason::FlowTableFull),
            // Two frontends, one client port, one backend: the second connection gets another source.
            Err(InsertError::Exists) => {}
        }
    }
    flow.new_source = F::node(config);
    flow.flags |= FLOW_SNAT;
    partner.destination = flow.new_source;
    partner.flags |= FLOW_SNAT;
    reply_key.pair = F::pair(config.seed, &flow.new_destination, &flow.new_source);
    let first = u32::from(config.snat_first.get());
    let last = u32::from(config.snat_last.get());
    if F::is_unspecified(&flow.new_source) || last < first {
        return Err(Reason::SnatUnconfigured);
    }
    let range = last - first + 1;
    let mut tries = 0;
    while tries < SNAT_TRIES + TAKEOVER_TRIES {
        // Drawn afresh each time: the verifier then sees the same state at the start of every round.
        let port = first + choose::scale(tables.random(), range);
        reply_key.destination_port = Be16::new(port as u16);
        let entered = if tries < SNAT_TRIES {
            tables.insert_flow(&reply_key, partner, Existing::Keep)
        } else {
            take_over::<F, T>(tables, &reply_key, partner, question.now)
        };
        match entered {
            Ok(()) => {
                flow.new_source_port = reply_key.destination_port;
                return Ok(());
            }
            Err(InsertError::Failed) => return Err(Reason::FlowTableFull),
            Err(InsertError::Exists) => {}
        }
        tries += 1;
    }
    Err(Reason::SnatExhausted)
}

/// Enters the reply direction where there is an entry that nobody needs any more.
#[inline(always)]
fn take_over<F: Family, T: Tables<F>>(
    tables: &T,
    reply_key: &FlowKey,
    reply: &Flow<F::Address>,
    now: u32,
) -> Result<(), InsertError> {
    let taken = tables.flow(reply_key, |other| {
        // Arithmetic instead of comparisons: each of those would be a branch that the verifier follows once per try.
        let difference = F::difference(&other.new_destination, &reply.new_destination)
            | F::difference(&other.new_source, &reply.new_source)
            | u32::from(other.new_destination_port.raw() ^ reply.new_destination_port.raw())
            | u32::from(other.new_source_port.raw() ^ reply.new_source_port.raw());
        let idle = CLOSING_TICKS.wrapping_sub(now.wrapping_sub(other.last_seen)) >> 31;
        // Closed, or closing and idle.
        let over = u32::from(other.state) + idle >= u32::from(STATE_CLOSED);
        difference != 0 && !over && !is_dead(tables.backend_state(other.backend), other)
    });
    if taken == Some(true) {
        return Err(InsertError::Exists);
    }
    tables.insert_flow(reply_key, reply, Existing::Replace)
}

/// Whether the flow's backend is gone.
#[inline(always)]
fn is_dead<A>(state: Option<BackendState>, flow: &Flow<A>) -> bool {
    let state = state.unwrap_or_default();
    state.generation != flow.generation || state.state == STATE_GONE
}
