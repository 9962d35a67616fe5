//! Which backend the first packet of a connection to a service is given. Owns what the choice goes by; the slot that comes
//! of it is [`choose`]'s, and whether a client keeps what it had is [`affinity`]'s.
//!
//! With session affinity the choice is a function of the client and of its entry, if it has one that does not count any
//! more. A connection's backend is written down only when the connection is made, so others that the client opens until then
//! find the same entry, or none, and meet the same backend. What is written down then has another time: when affinity ends
//! again, the choice is another one.

use skep_abi::affinity::{AffinityKey, CLIENT_ADDRESS};
use skep_abi::backend::{Backend, BackendState, STATE_GONE};
use skep_abi::has_connections;
use skep_abi::service::ServiceValue;

use crate::affinity;
use crate::choose::{self, Inputs};
use crate::decide::Question;
use crate::family::Family;
use crate::parse::{Network, Packet};
use crate::tables::Tables;

/// Slots tried when a slice names backends that are gone, as it may for an instant during an update.
const CHOICE_TRIES: u32 = 4;
/// Every node must choose alike, or a connection that a router moves to another node ends at another backend. So this is
/// not the node's own seed. Who knows it can aim at a backend, as anyone can by trying ports; the flow tables, where
/// collisions could do harm, are keyed with the node's own.
const CHOICE_SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// The backend for the client of `question`, and whether it is the one it had before, where the service has affinity.
#[inline(always)]
pub fn client_backend<F: Family, T: Tables<F>>(
    tables: &T,
    service: &ServiceValue,
    question: &Question<'_, F::Address>,
) -> Option<(Backend, BackendState, bool)> {
    let mut inputs = Inputs { random: tables.random(), tuple: 0 };
    if !affinity::applies(service) {
        inputs.tuple = tuple::<F>(question.packet);
        let (backend, state) = choose_backend(tables, service, inputs)?;
        return Some((backend, state, false));
    }
    let network = &question.packet.network;
    let client = F::shared(&network.source);
    let key = AffinityKey { client, service: service.id, kind: CLIENT_ADDRESS };
    let ended = match affinity::remembered(tables, service, &key, question.now) {
        Ok((backend, state)) => return Some((backend, state, true)),
        Err(ended) => ended,
    };
    // By nothing that differs between the client's connections: the next may come before this one is made and written down.
    inputs.tuple = client_of::<F>(network) ^ service.id ^ ended;
    let (backend, state) = choose_backend(tables, service, inputs)?;
    if !has_connections(network.protocol) {
        affinity::remember(tables, &key, (backend, state), question.now);
    }
    Some((backend, state, false))
}

/// What the choice for a client with affinity goes by.
#[inline(never)]
fn client_of<F: Family>(network: &Network<F::Address>) -> u32 {
    let [one, other] = F::pair(CHOICE_SEED, &network.source, &network.source);
    choose::scramble(one) ^ other.rotate_left(7)
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
    inputs: Inputs,
) -> Option<(Backend, BackendState)> {
    let mut position = choose::position(service, inputs, affinity::applies(service))?;
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
