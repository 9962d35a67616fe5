//! A half-open connection becomes a made one: the client has answered the backend, or the backend, where the client's
//! packets come to another node, goes on as it does with one that has. Owns the move of both directions from
//! half-open to flows ([`skep_abi::flow`]), and the order of its steps.
//!
//! The tuple that the backend sees is one connection's alone. Who makes a flow enters it in half-open first and looks
//! into flows then; who moves it here enters it in flows first and looks into half-open then. Whatever two processors do
//! at once, at least one of them sees the other and gives way.

use skep_abi::affinity::{Affinity, AffinityKey, CLIENT_ADDRESS};
use skep_abi::backend::{BACKEND_LOCAL, Backend};
use skep_abi::counters::Reason;
use skep_abi::flow::{
    ANNOUNCED, EGRESS_UNRESOLVED, FLOW_HALF_OPEN, FLOW_LOCAL, FLOW_REMEMBER, Flow, FlowKey,
};

use crate::decide::Question;
use crate::family::Family;
use crate::maintain::{Upkeep, is_partner, partner_key, resolve, write_partner};
use crate::tables::{Existing, Scratch, Stage, Tables};

/// Moves the connection of `question`, whose packet shows that the client is there, to the table of those that are made.
#[inline(always)]
pub fn open<F: Family, T: Tables<F>>(tables: &T, question: &Question<'_, F::Address>) -> Upkeep {
    let Question { config, key, packet, now, .. } = question;
    let upkeep = tables.scratch(
        #[inline(always)]
        |scratch| {
            let Scratch { flow, partner, .. } = scratch;
            // A copy: the entry may be evicted, and its memory another's, at any time.
            if tables.flow_of(Stage::HalfOpen, key, |entry| *flow = *entry).is_none() {
                return Upkeep::Lost;
            }
            let partner_key = partner_key::<F>(config, flow, key);
            let due = flow.epoch != config.epoch || flow.egress == EGRESS_UNRESOLVED;
            flow.flags &= !FLOW_HALF_OPEN;
            flow.checked = *now;
            flow.epoch = config.epoch;
            if due && !resolve(tables, config, flow, packet.network.length) {
                return Upkeep::Unroutable;
            }
            if flow.backend == ANNOUNCED {
                if tables.insert_flow(key, flow, Existing::Replace).is_err() {
                    return Upkeep::Lost;
                }
                tables.count(Reason::FlowOpened, packet.network.length);
                return Upkeep::Done;
            }
            let found = tables.flow_of(Stage::HalfOpen, &partner_key, |entry| {
                *partner = *entry;
                is_partner::<F>(flow, key, entry)
            });
            match found {
                Some(true) => partner.flags &= !FLOW_HALF_OPEN,
                Some(false) => return Upkeep::Lost,
                None => write_partner::<F>(flow, key, partner),
            }
            if !enter::<F, T>(tables, flow, partner, key, &partner_key) {
                return Upkeep::Lost;
            }
            tables.remove_flow(Stage::HalfOpen, &partner_key);
            remember::<F, T>(tables, flow, *now);
            tables.count(Reason::FlowOpened, packet.network.length);
            Upkeep::Done
        },
    );
    let upkeep = upkeep.unwrap_or(Upkeep::Lost);
    if !matches!(upkeep, Upkeep::Unroutable) {
        tables.remove_flow(Stage::HalfOpen, key);
    }
    upkeep
}

/// Enters both directions in flows. Returns whether the tuple that the backend sees is this connection's.
#[inline(always)]
fn enter<F: Family, T: Tables<F>>(
    tables: &T,
    flow: &Flow<F::Address>,
    partner: &Flow<F::Address>,
    key: &FlowKey,
    partner_key: &FlowKey,
) -> bool {
    if tables.insert_flow(partner_key, partner, Existing::Keep).is_err() {
        // Another processor may have had another packet of this connection.
        let ours = tables.flow_of(Stage::Open, partner_key, |other| is_partner::<F>(flow, key, other));
        if ours != Some(true) {
            return false;
        }
    }
    let taken = tables.flow_of(Stage::HalfOpen, partner_key, |other| !is_partner::<F>(flow, key, other));
    if taken == Some(true) || tables.insert_flow(key, flow, Existing::Replace).is_err() {
        tables.remove_flow(Stage::Open, partner_key);
        return false;
    }
    true
}

/// Writes down the backend of a client that is to keep it.
#[inline(always)]
fn remember<F: Family, T: Tables<F>>(tables: &T, flow: &Flow<F::Address>, now: u32) {
    if flow.flags & FLOW_REMEMBER == 0 {
        return;
    }
    let key = AffinityKey { client: F::shared(&flow.source), service: flow.service, kind: CLIENT_ADDRESS };
    let local = if flow.flags & FLOW_LOCAL != 0 { BACKEND_LOCAL } else { 0 };
    let backend = Backend {
        address: F::shared(&flow.new_destination),
        port: flow.new_destination_port,
        flags: local,
        id: flow.backend,
    };
    tables.insert_affinity(&key, &Affinity { backend, generation: flow.generation, last_used: now });
}
