//! Makes a flow for the first packet of a connection to a service: has a backend assigned ([`crate::assign`]), finds a free
//! tuple towards it, and enters both directions, half-open ones where there is a handshake to come. Owns the choice of the
//! translated source; not on the hot path.
//!
//! The tuple that the backend sees is entered first, and only if nobody has it: that insertion is what makes source
//! ports collision-free between processors, without a lock or a bitmap. One port serves many connections as long as
//! they go to different backends.

use skep_abi::backend::BACKEND_LOCAL;
use skep_abi::counters::Reason;
use skep_abi::flow::{
    EGRESS_REMOTE, FLOW_DIRECT, FLOW_HALF_OPEN, FLOW_INTERNAL, FLOW_LOCAL, FLOW_REMEMBER, FLOW_REPLY,
    FLOW_SNAT, FLOW_TRUSTED, Flow, FlowKey,
};
use skep_abi::service::{
    FLAG_ALWAYS_SNAT, FLAG_DIRECT, FLAG_DROP_WHEN_EMPTY, FLAG_SOURCE_RANGES, SCOPE_INTERNAL, ServiceKey,
};
use skep_abi::{Be16, has_connections};

use crate::affinity;
use crate::announce;
use crate::assign::client_backend;
use crate::choose;
use crate::decide::Question;
use crate::family::Family;
use crate::lifetime::{self, Asker};
use crate::maintain::{is_alive, partner_key, resolve, write_partner};
use crate::prepare::Prepared;
use crate::tables::{Existing, InsertError, Scratch, ServiceEvent, Side, Tables};
use crate::track;

/// Ports tried in search of a free one.
const SNAT_TRIES: u32 = 64;
/// Ports tried after that when a minute of `TIME_WAIT` does not count, before source translation is given up as exhausted.
const TAKEOVER_TRIES: u32 = 16;
/// Ports for a source that keeps its address: all but those that are privileged.
const CLIENT_PORTS: (u32, u32) = (1024, 65535);

/// Finds the service that the packet of `question` is for, holds it against who may ask for it, and writes it into scratch
/// memory, for [`choose`]. `replaces` says that there is a flow of the same tuple, which is over.
#[inline(never)]
pub fn admit<F: Family, T: Tables<F>>(
    tables: &T,
    question: &Question<'_, F::Address>,
    replaces: bool,
) -> Prepared {
    let Question { packet, scope, .. } = question;
    let network = &packet.network;
    let service_key = ServiceKey {
        address: network.destination,
        port: packet.destination_port,
        protocol: network.protocol,
        scope: *scope,
    };
    let Some(service) = tables.service(&service_key) else { return Prepared::NOT_A_SERVICE };
    // Before anything is answered: who may not ask learns nothing.
    if service.flags & FLAG_SOURCE_RANGES != 0 && !tables.in_source_ranges(service.id, &network.source) {
        return Prepared::dropped(Reason::SourceNotAllowed);
    }
    if service.count == 0 {
        tables.count_service(service.id, ServiceEvent::Refused);
        return if service.flags & FLAG_DROP_WHEN_EMPTY != 0 {
            Prepared::dropped(Reason::NoLocalEndpoints)
        } else {
            Prepared::refused(Reason::NoEndpoints)
        };
    }
    if has_connections(network.protocol) && !track::opens(packet.flags) {
        return Prepared::refused(Reason::NoFlow);
    }
    let written = tables.scratch(|scratch| {
        scratch.service = service;
        scratch.replaces = u32::from(replaces);
    });
    if written.is_some() { Prepared::DONE } else { Prepared::dropped(Reason::FlowTableFull) }
}

/// Chooses the backend, and writes the flow into scratch memory, for [`reserve`].
#[inline(never)]
pub fn choose<F: Family, T: Tables<F>>(tables: &T, question: &Question<'_, F::Address>) -> Prepared {
    let Question { packet, scope, now, .. } = question;
    let network = &packet.network;
    let chosen = tables.scratch(|scratch| {
        let Scratch { flow, service, .. } = scratch;
        let Some((backend, state, kept)) = client_backend(tables, service, question) else { return false };
        let mut flags = if *scope == SCOPE_INTERNAL { FLOW_INTERNAL } else { 0 };
        if has_connections(network.protocol) {
            flags |= FLOW_HALF_OPEN;
            if affinity::applies(service) && !kept {
                flags |= FLOW_REMEMBER;
            }
        }
        if backend.flags & BACKEND_LOCAL != 0 {
            flags |= FLOW_LOCAL;
        }
        *flow = Flow {
            source: network.source,
            destination: network.destination,
            new_source: network.source,
            new_destination: F::backend(&backend.address),
            source_port: packet.source_port,
            destination_port: packet.destination_port,
            new_source_port: packet.source_port,
            new_destination_port: backend.port,
            backend: backend.id,
            generation: state.generation,
            service: service.id,
            last_seen: *now,
            checked: *now,
            flags,
            protocol: network.protocol,
            answers: [tables.random(); 2],
            ..Flow::default()
        };
        true
    });
    if chosen == Some(true) { Prepared::DONE } else { Prepared::dropped(Reason::BadSlot) }
}

/// Enters the reply direction of the flow that [`choose`] has written. Apart from it and from [`enter`], so that each has the
/// stack to itself.
#[inline(never)]
pub fn reserve<F: Family, T: Tables<F>>(tables: &T, question: &Question<'_, F::Address>) -> Prepared {
    let reserved = tables.scratch(
        #[inline(always)]
        |scratch| reserve_in::<F, T>(tables, question, scratch),
    );
    match reserved {
        Some(Ok(())) => Prepared::DONE,
        Some(Err(reason)) => Prepared::dropped(reason),
        None => Prepared::dropped(Reason::FlowTableFull),
    }
}

/// Enters the forward direction, its next hop resolved; takes the reply direction out again when that fails.
#[inline(never)]
pub fn enter<F: Family, T: Tables<F>>(tables: &T, question: &Question<'_, F::Address>) -> Prepared {
    let entered = tables.scratch(
        #[inline(always)]
        |scratch| enter_forward::<F, T>(tables, question, scratch),
    );
    entered.unwrap_or(Prepared::dropped(Reason::FlowTableFull))
}

#[inline(always)]
fn enter_forward<F: Family, T: Tables<F>>(
    tables: &T,
    question: &Question<'_, F::Address>,
    scratch: &mut Scratch<F::Address>,
) -> Prepared {
    let Question { config, key, packet, .. } = question;
    let Scratch { flow, replaces, .. } = scratch;
    let length = packet.network.length;
    let half_open = flow.flags & FLOW_HALF_OPEN != 0;
    flow.epoch = config.epoch;
    let recalled = tables.recall(flow, length);
    let routed = recalled || resolve::<F, T>(tables, config, flow, length);
    if recalled {
        tables.count(Reason::HopResolved, length);
    } else if flow.egress == EGRESS_REMOTE {
        tables.remember(flow, length);
    }
    let reply_key = partner_key::<F>(config, flow, key);
    if !routed || tables.insert_flow(key, Side::Flow, flow, Existing::Replace).is_err() {
        tables.remove_flow(&reply_key);
        return Prepared::dropped(if routed { Reason::FlowTableFull } else { Reason::NoRoute });
    }
    // In a table full of others the most willing to give way may have been the reply direction.
    if tables.flow(&reply_key, |_| ()).is_none() {
        tables.remove_flow(key);
        return Prepared::dropped(Reason::FlowTableFull);
    }
    tables.count_service(flow.service, ServiceEvent::Connection);
    let moved = !half_open && *replaces != 0;
    tables.count(if moved { Reason::FlowMoved } else { Reason::FlowCreated }, length);
    Prepared::DONE
}

/// Enters the reply direction under a tuple that nobody has, translating the source where it must be.
#[inline(always)]
fn reserve_in<F: Family, T: Tables<F>>(
    tables: &T,
    question: &Question<'_, F::Address>,
    scratch: &mut Scratch<F::Address>,
) -> Result<(), Reason> {
    let config = question.config;
    let Scratch { flow, partner, service, .. } = scratch;
    write_partner::<F>(flow, &question.key, partner);
    let mut reply_key = partner_key::<F>(config, flow, &question.key);
    let external = flow.flags & FLOW_INTERNAL == 0;
    let local = flow.flags & FLOW_LOCAL != 0;
    let to_itself = flow.new_destination == flow.source;
    let allowed = service.flags & FLAG_DIRECT != 0 && question.whole;
    let direct = external && !local && allowed && announce::fits::<F>(question.packet);
    let stays = (!external || local || direct) && !to_itself && service.flags & FLAG_ALWAYS_SNAT == 0;
    if stays {
        // What the backend answers does not come by here.
        let trusted = if flow.flags & FLOW_HALF_OPEN != 0 { FLOW_TRUSTED } else { 0 };
        let flag = if direct { FLOW_DIRECT | trusted } else { 0 };
        flow.flags |= flag;
        partner.flags |= flag;
        match claim::<F, T>(tables, &reply_key, partner, question.now, Asker::Other) {
            Ok(()) => return Ok(()),
            Err(InsertError::Failed) => return Err(Reason::FlowTableFull),
            // Two frontends, one client port, one backend: the second connection gets another source.
            Err(InsertError::Exists) => {}
        }
    }
    // The address stays where it can, and a backend here sees its client. Ports of this node's are to be kept apart from
    // those that its own processes use.
    let (mut first, mut last) = CLIENT_PORTS;
    if !stays || direct {
        flow.new_source = F::node(config);
        first = u32::from(config.snat_first.get());
        last = u32::from(config.snat_last.get());
    }
    flow.flags = flow.flags & !(FLOW_DIRECT | FLOW_TRUSTED) | FLOW_SNAT;
    partner.destination = flow.new_source;
    partner.flags = flow.flags ^ FLOW_REPLY;
    reply_key.pair = F::pair(config.seed, &flow.new_destination, &flow.new_source);
    if F::is_unspecified(&flow.new_source) || last < first {
        return Err(Reason::SnatUnconfigured);
    }
    let range = last - first + 1;
    let mut tries = 0;
    while tries < SNAT_TRIES + TAKEOVER_TRIES {
        // Drawn afresh each time: the verifier then sees the same state at the start of every round.
        let port = first + choose::scale(tables.random(), range);
        reply_key.destination_port = Be16::new(port as u16);
        partner.destination_port = reply_key.destination_port;
        let asker = if tries < SNAT_TRIES { Asker::Other } else { Asker::Last };
        match claim::<F, T>(tables, &reply_key, partner, question.now, asker) {
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

/// Enters the reply direction under its key unless somebody needs that ([`lifetime`]).
///
/// # Errors
///
/// Somebody does, or the map takes no new entry.
#[inline(always)]
fn claim<F: Family, T: Tables<F>>(
    tables: &T,
    reply_key: &FlowKey,
    reply: &Flow<F::Address>,
    now: u32,
    asker: Asker,
) -> Result<(), InsertError> {
    // Mostly nobody has had it, so that is tried before anything is looked up.
    match tables.insert_flow(reply_key, Side::Partner, reply, Existing::Keep) {
        Err(InsertError::Exists) => {}
        done => return done,
    }
    let needed = tables.flow(
        reply_key,
        #[inline(always)]
        |other| is_needed::<F, T>(tables, reply_key, other, reply, now, asker),
    );
    if needed == Some(true) {
        return Err(InsertError::Exists);
    }
    // What is over is replaced; where there was nothing, nothing is that came meanwhile.
    let existing = if needed.is_some() { Existing::Replace } else { Existing::Keep };
    tables.insert_flow(reply_key, Side::Partner, reply, existing)
}

/// Whether `other`, which has the tuple that `reply` asks for, still needs it.
#[inline(always)]
fn is_needed<F: Family, T: Tables<F>>(
    tables: &T,
    key: &FlowKey,
    other: &Flow<F::Address>,
    reply: &Flow<F::Address>,
    now: u32,
    asker: Asker,
) -> bool {
    // Arithmetic instead of comparisons: each of those would be a branch that the verifier follows once per try.
    let client = F::difference(&other.new_destination, &reply.new_destination)
        | u64::from(other.new_destination_port.raw() ^ reply.new_destination_port.raw());
    let frontend = F::difference(&other.new_source, &reply.new_source)
        | u64::from(other.new_source_port.raw() ^ reply.new_source_port.raw());
    let asker = if client == 0 { Asker::Own } else { asker };
    client | frontend != 0
        && !lifetime::is_over(other, key.protocol, asker, now)
        && is_alive::<F, T>(tables, other)
}
