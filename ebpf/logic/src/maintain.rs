//! Upkeep of a flow, about once a second while it has packets and whenever the epoch was raised. Owns the resolution of
//! the next hop and the tie between the two directions' entries; not on the hot path.
//!
//! The partner is told that it is used: both directions of a connection stay in the table together even when packets go one
//! way only. A partner that has given way is put back; when its key belongs to another connection by then, this flow has
//! lost its place and ends. So does one that is half-open when its partner is gone: it is what a flood of them takes.

use skep_abi::backend::STATE_GONE;
use skep_abi::config::Config;
use skep_abi::counters::Reason;
use skep_abi::flow::{
    ANNOUNCED, EGRESS_NEIGHBOUR, EGRESS_POD, EGRESS_POD_SKB, EGRESS_REMOTE, EGRESS_STACK, EGRESS_UNRESOLVED,
    FLOW_HALF_OPEN, FLOW_REPLY, Flow, FlowKey, STATE_CLOSED, STATE_NEW,
};
use skep_abi::has_connections;
use skep_abi::local::LOCAL_XDP_REDIRECT;

use crate::decide::Question;
use crate::family::Family;
use crate::parse::{ACK, RST, SYN};
use crate::tables::{Existing, InsertError, Route, Side, Tables};
use crate::track;

/// What upkeep came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upkeep {
    /// The flow is in order.
    Done,
    /// There is no route.
    Unroutable,
    /// The flow's translated tuple belongs to another connection now.
    Lost,
    /// The packet answers nothing that the backend has sent.
    WrongAnswer,
    /// The flow's partner has given way.
    Alone,
    /// The flow's backend is gone.
    Gone,
}

/// The key of the partner of `flow`, which has `key`.
#[inline(always)]
pub fn partner_key<F: Family>(config: &Config, flow: &Flow<F::Address>, key: &FlowKey) -> FlowKey {
    let pair = F::pair(config.seed, &flow.new_destination, &flow.new_source);
    FlowKey::new(pair, flow.new_destination_port, flow.new_source_port, key.protocol)
}

/// Makes the partner of `flow`, which has `key`: the opposite direction, its next hop still to be resolved. A function of its
/// own, which knows that the two are apart: inlined, it puts the partner together on the stack first.
#[inline(never)]
pub fn write_partner<F: Family>(flow: &Flow<F::Address>, key: &FlowKey, partner: &mut Flow<F::Address>) {
    *partner = Flow {
        source: flow.new_destination,
        destination: flow.new_source,
        new_source: flow.destination,
        new_destination: flow.source,
        source_port: flow.new_destination_port,
        destination_port: flow.new_source_port,
        new_source_port: key.destination_port,
        new_destination_port: key.source_port,
        backend: flow.backend,
        generation: flow.generation,
        service: flow.service,
        last_seen: flow.last_seen,
        checked: flow.checked,
        state: flow.state,
        flags: flow.flags ^ FLOW_REPLY,
        protocol: key.protocol,
        answers: flow.answers,
        ..Flow::default()
    };
}

/// Whether `other`, found under the key of the partner of `flow`, is that partner.
#[inline(always)]
pub fn is_partner<F: Family>(flow: &Flow<F::Address>, key: &FlowKey, other: &Flow<F::Address>) -> bool {
    let addresses = F::difference(&other.new_source, &flow.destination)
        | F::difference(&other.new_destination, &flow.source);
    let ports = (other.new_source_port.raw() ^ key.destination_port.raw())
        | (other.new_destination_port.raw() ^ key.source_port.raw());
    addresses | u64::from(ports) == 0
}

/// Whether the flow's backend, in the life that the flow knows, is not gone.
#[inline(always)]
pub fn is_alive<F: Family, T: Tables<F>>(tables: &T, flow: &Flow<F::Address>) -> bool {
    if flow.backend == ANNOUNCED {
        return is_in_place(tables, flow);
    }
    let state = tables.backend_state(flow.backend).unwrap_or_default();
    state.generation == flow.generation && state.state != STATE_GONE
}

/// Whether the backend of a flow that was announced is where it was ([`ANNOUNCED`]).
#[inline(always)]
pub fn is_in_place<F: Family, T: Tables<F>>(tables: &T, flow: &Flow<F::Address>) -> bool {
    tables.local(&flow.source).map_or(0, |local| local.ifindex) == flow.generation
}

/// Ticks after which a flow is checked again: 2^26 ns * 15, about a second.
const CHECK_TICKS: u32 = 15;

/// Whether the flow is to be checked, or its next hop to be found again, whatever the packet is.
#[inline(always)]
pub fn is_due<A>(flow: &Flow<A>, config: &Config, now: u32) -> bool {
    let since = now.wrapping_sub(flow.checked);
    flow.epoch != config.epoch || since > CHECK_TICKS || flow.egress == EGRESS_UNRESOLVED
}

/// Brings the flow of `question` up to date, and its partner with it. One after the other, each part has the stack to itself.
#[inline(always)]
pub fn maintain<F: Family, T: Tables<F>>(tables: &T, question: &Question<'_, F::Address>) -> Upkeep {
    if end::<F, T>(tables, question) {
        return Upkeep::Gone;
    }
    let refreshed = refresh::<F, T>(tables, question);
    let upkeep = match refreshed {
        Refreshed::Unroutable => return Upkeep::Unroutable,
        Refreshed::Lost => Upkeep::Lost,
        _ => match couple::<F, T>(tables, question, refreshed == Refreshed::Due) {
            Upkeep::Alone => match restore::<F, T>(tables, question) {
                // A full table ends nothing that is established: the next time there may be a place.
                Upkeep::Alone => Upkeep::Done,
                other => other,
            },
            other => other,
        },
    };
    if matches!(upkeep, Upkeep::Lost) {
        tables.remove_flow(&question.key);
    }
    upkeep
}

/// Ends the connection of a client whose backend is gone, in both directions' entries, and says whether it is one: the client
/// is told so now, and nothing more comes to it.
#[inline(never)]
fn end<F: Family, T: Tables<F>>(tables: &T, question: &Question<'_, F::Address>) -> bool {
    let Question { config, key, .. } = question;
    let ended = tables.flow(
        key,
        #[inline(always)]
        |flow| {
            let forward = flow.flags & FLOW_REPLY == 0 && has_connections(key.protocol);
            if !forward || is_alive::<F, T>(tables, flow) {
                return false;
            }
            flow.state = STATE_CLOSED;
            let partner_key = partner_key::<F>(config, flow, key);
            tables.flow(
                &partner_key,
                #[inline(always)]
                |other| {
                    if is_partner::<F>(flow, key, other) {
                        other.state = STATE_CLOSED;
                    }
                },
            );
            true
        },
    );
    ended == Some(true)
}

/// What [`refresh`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refreshed {
    /// There was nothing to do.
    Fresh,
    /// It was due, and done.
    Due,
    /// There is no route.
    Unroutable,
    /// The flow went away in between.
    Lost,
}

/// Finds out anew where the flow's packets go, if that is due.
#[inline(never)]
pub(crate) fn refresh<F: Family, T: Tables<F>>(tables: &T, question: &Question<'_, F::Address>) -> Refreshed {
    let Question { config, key, packet, now, .. } = question;
    let refreshed = tables.flow(
        key,
        #[inline(always)]
        |flow| {
            if !is_due(flow, config, *now) {
                return Refreshed::Fresh;
            }
            flow.checked = *now;
            flow.epoch = config.epoch;
            if !resolve(tables, config, flow, packet.network.length) {
                flow.epoch = 0;
                return Refreshed::Unroutable;
            }
            Refreshed::Due
        },
    );
    refreshed.unwrap_or(Refreshed::Lost)
}

/// Notes what the packet says, in both directions' entries; when it was `due`, the partner must be there.
#[inline(never)]
fn couple<F: Family, T: Tables<F>>(tables: &T, question: &Question<'_, F::Address>, due: bool) -> Upkeep {
    let Question { config, key, packet, .. } = question;
    let upkeep = tables.flow(
        key,
        #[inline(always)]
        |flow| {
            // Written before anything is inserted: this very entry could give way, and its memory would be another's.
            flow.state = track::next(flow.state, key.protocol, packet.flags, flow.flags);
            if flow.backend == ANNOUNCED {
                tables.settle(key, flow);
                return Upkeep::Done;
            }
            let partner_key = partner_key::<F>(config, flow, key);
            let backend = flow.flags & FLOW_REPLY != 0;
            let half_open = flow.flags & FLOW_HALF_OPEN != 0;
            // What a client acknowledges that has got it: a SYN takes one sequence number (RFC 9293 section 3.4.1).
            if backend
                && half_open
                && packet.flags & (SYN | RST | ACK) == SYN | ACK
                && let Some([sequence, _]) = tables.numbers(packet)
            {
                let answer = sequence.wrapping_add(1);
                let [_, last] = flow.answers;
                if last != answer {
                    flow.answers = [last, answer];
                }
            }
            let ours = tables.flow(
                &partner_key,
                #[inline(always)]
                |other| {
                    let ours = is_partner::<F>(flow, key, other);
                    if ours {
                        tell(flow, other, question, backend);
                        tables.settle(&partner_key, other);
                    }
                    ours
                },
            );
            tables.settle(key, flow);
            match ours {
                Some(true) => Upkeep::Done,
                // Only to be told something.
                _ if !due => Upkeep::Done,
                Some(false) => Upkeep::Lost,
                None if half_open => Upkeep::Lost,
                None => Upkeep::Alone,
            }
        },
    );
    // An entry that went away in between is a flow that was lost.
    upkeep.unwrap_or(Upkeep::Lost)
}

/// Tells the partner what the packet of `question`, in the direction of `flow`, means for both.
#[inline(always)]
fn tell<A>(flow: &mut Flow<A>, partner: &mut Flow<A>, question: &Question<'_, A>, backend: bool) {
    // Who asks whether the tuple is still needed may see the direction that has no packets.
    partner.last_seen = question.now;
    if !has_connections(flow.protocol) {
        if flow.state != STATE_NEW {
            partner.state = flow.state;
        }
        return;
    }
    if flow.flags & FLOW_HALF_OPEN != 0 && backend {
        partner.answers = flow.answers;
    }
    if let Some(state) = track::joint(partner.state, question.packet.flags, backend) {
        flow.state = state;
        partner.state = state;
    }
}

/// Puts back the partner of the flow of `question`.
#[inline(never)]
pub(crate) fn restore<F: Family, T: Tables<F>>(tables: &T, question: &Question<'_, F::Address>) -> Upkeep {
    let Question { config, key, packet, .. } = question;
    let entered = tables.flow(
        key,
        #[inline(always)]
        |flow| {
            tables.scratch(
                #[inline(always)]
                |scratch| {
                    write_partner::<F>(flow, key, &mut scratch.partner);
                    let partner_key = partner_key::<F>(config, flow, key);
                    tables.insert_flow(&partner_key, Side::Partner, &scratch.partner, Existing::Keep)
                },
            )
        },
    );
    match entered {
        Some(Some(Ok(()))) => {
            tables.count(Reason::FlowRepaired, packet.network.length);
            Upkeep::Done
        }
        Some(Some(Err(InsertError::Failed))) => Upkeep::Alone,
        _ => Upkeep::Lost,
    }
}

/// Finds out where the flow's packets go. Returns whether there is a way.
#[inline(always)]
pub(crate) fn resolve<F: Family, T: Tables<F>>(
    tables: &T,
    config: &Config,
    flow: &mut Flow<F::Address>,
    length: u32,
) -> bool {
    if let Some(local) = tables.local(&flow.new_destination) {
        let redirect = local.flags & LOCAL_XDP_REDIRECT != 0;
        flow.egress = if redirect { EGRESS_POD } else { EGRESS_POD_SKB };
        flow.ifindex = local.ifindex;
        flow.destination_mac = local.pod_mac;
        flow.source_mac = local.host_mac;
        return true;
    }
    match tables.route(&flow.new_source, &flow.new_destination, length) {
        Route::Local => flow.egress = EGRESS_STACK,
        Route::Remote { ifindex, destination_mac, source_mac } => {
            flow.egress = EGRESS_REMOTE;
            flow.ifindex = ifindex;
            flow.destination_mac = destination_mac;
            flow.source_mac = source_mac;
        }
        Route::Neighbour { ifindex } => {
            flow.egress = EGRESS_NEIGHBOUR;
            flow.ifindex = if ifindex == 0 { config.uplink } else { ifindex };
        }
        Route::None => return false,
    }
    let neighbour = flow.egress == EGRESS_NEIGHBOUR;
    tables.count(if neighbour { Reason::NoNeighbour } else { Reason::HopResolved }, length);
    true
}
