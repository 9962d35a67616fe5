//! Upkeep of a flow, about once a second while it has packets and whenever the epoch was raised. Owns the resolution of
//! the next hop and the tie between the two directions' entries; not on the hot path.
//!
//! The partner is looked up so that the kernel does not count it as unused: both directions of a connection stay in the
//! table together even when packets go one way only. A partner that was evicted is put back; when its key belongs to
//! another connection by then, this flow has lost its place and ends. So does one that is half-open when its partner is
//! gone: it is what a flood of them takes.

use skep_abi::backend::STATE_GONE;
use skep_abi::config::Config;
use skep_abi::counters::Reason;
use skep_abi::flow::{
    ANNOUNCED, EGRESS_NEIGHBOUR, EGRESS_POD, EGRESS_POD_SKB, EGRESS_REMOTE, EGRESS_STACK, EGRESS_UNRESOLVED,
    FLOW_HALF_OPEN, FLOW_REPLY, Flow, FlowKey,
};
use skep_abi::has_connections;
use skep_abi::local::LOCAL_XDP_REDIRECT;

use crate::decide::Question;
use crate::family::Family;
use crate::tables::{Existing, Route, Stage, Tables};
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
}

/// The key of the partner of `flow`, which has `key`.
#[inline(always)]
pub fn partner_key<F: Family>(config: &Config, flow: &Flow<F::Address>, key: &FlowKey) -> FlowKey {
    let pair = F::pair(config.seed, &flow.new_destination, &flow.new_source);
    FlowKey::new(pair, flow.new_destination_port, flow.new_source_port, key.protocol)
}

/// Makes the partner of `flow`, which has `key`: the opposite direction, its next hop still to be resolved.
#[inline(always)]
pub fn write_partner<F: Family>(flow: &Flow<F::Address>, key: &FlowKey, partner: &mut Flow<F::Address>) {
    *partner = Flow {
        source: flow.new_destination,
        destination: flow.new_source,
        new_source: flow.destination,
        new_destination: flow.source,
        new_source_port: key.destination_port,
        new_destination_port: key.source_port,
        backend: flow.backend,
        generation: flow.generation,
        service: flow.service,
        last_seen: flow.last_seen,
        checked: flow.checked,
        state: flow.state,
        flags: flow.flags ^ FLOW_REPLY,
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
    addresses | u32::from(ports) == 0
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

/// Brings the flow of `question` up to date.
#[inline(always)]
pub fn maintain<F: Family, T: Tables<F>>(tables: &T, question: &Question<'_, F::Address>) -> Upkeep {
    let Question { config, key, packet, now, .. } = question;
    let length = packet.network.length;
    let upkeep = tables.flow(
        key,
        #[inline(always)]
        |flow| {
            let due = is_due(flow, config, *now);
            if has_connections(key.protocol) {
                flow.state = track::tcp(flow.state, packet.flags);
            }
            // Written before anything is inserted: that could evict this very entry, and its memory would be another's.
            if due {
                flow.checked = *now;
                flow.epoch = config.epoch;
            }
            if due && !resolve(tables, config, flow, length) {
                flow.epoch = 0;
                return Upkeep::Unroutable;
            }
            if flow.backend == ANNOUNCED {
                return Upkeep::Done;
            }
            let partner_key = partner_key::<F>(config, flow, key);
            let backend = flow.flags & FLOW_REPLY != 0;
            let ours = tables.flow(&partner_key, |other| {
                let ours = is_partner::<F>(flow, key, other);
                if ours {
                    // Who asks whether the tuple is still needed may see the direction that has no packets.
                    other.last_seen = *now;
                    if let Some(state) = track::joint(other.state, packet.flags, backend) {
                        flow.state = state;
                        other.state = state;
                    }
                }
                ours
            });
            match ours {
                Some(true) => Upkeep::Done,
                // Only to be told how the connection ends.
                _ if !due => Upkeep::Done,
                Some(false) => Upkeep::Lost,
                None if flow.flags & FLOW_HALF_OPEN != 0 => Upkeep::Lost,
                None => {
                    let entered = tables.scratch(|scratch| {
                        write_partner::<F>(flow, key, &mut scratch.partner);
                        tables.insert_flow(&partner_key, &scratch.partner, Existing::Keep)
                    });
                    if entered != Some(Ok(())) {
                        return Upkeep::Lost;
                    }
                    tables.count(Reason::FlowRepaired, length);
                    Upkeep::Done
                }
            }
        },
    );
    // An entry that went away in between is a flow that was lost.
    let upkeep = upkeep.unwrap_or(Upkeep::Lost);
    if matches!(upkeep, Upkeep::Lost) {
        tables.remove_flow(Stage::HalfOpen, key);
        tables.remove_flow(Stage::Open, key);
    }
    upkeep
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
