//! A half-open connection becomes a made one: the client has answered the backend, or the backend, where the client's
//! packets come to another node, goes on as it does with one that has. Owns what changes then, in both directions' entries
//! ([`skep_abi::flow`]).

use skep_abi::TCP;
use skep_abi::affinity::{Affinity, AffinityKey, CLIENT_ADDRESS};
use skep_abi::backend::{BACKEND_LOCAL, Backend};
use skep_abi::counters::Reason;
use skep_abi::flow::{ANNOUNCED, FLOW_HALF_OPEN, FLOW_LOCAL, FLOW_REMEMBER, FLOW_TRUSTED, Flow};

use crate::decide::Question;
use crate::family::Family;
use crate::maintain::{Refreshed, Upkeep, is_partner, partner_key, refresh, restore};
use crate::parse::Packet;
use crate::tables::Tables;
use crate::track;

/// Makes the connection of `question`, whose packet may show that the client is there.
#[inline(always)]
pub fn open<F: Family, T: Tables<F>>(tables: &T, question: &Question<'_, F::Address>) -> Upkeep {
    let mut upkeep = match refresh::<F, T>(tables, question) {
        Refreshed::Unroutable => return Upkeep::Unroutable,
        Refreshed::Lost => return Upkeep::Lost,
        _ => connect::<F, T>(tables, question),
    };
    if matches!(upkeep, Upkeep::Alone) {
        upkeep = restore::<F, T>(tables, question);
    }
    match upkeep {
        Upkeep::Done => tables.count(Reason::FlowOpened, question.packet.network.length),
        Upkeep::Lost | Upkeep::Alone => tables.remove_flow(&question.key),
        Upkeep::Unroutable | Upkeep::WrongAnswer | Upkeep::Gone => {}
    }
    upkeep
}

/// Has both directions' entries say that it is made.
#[inline(never)]
fn connect<F: Family, T: Tables<F>>(tables: &T, question: &Question<'_, F::Address>) -> Upkeep {
    let Question { config, key, packet, now, .. } = question;
    let upkeep = tables.flow(
        key,
        #[inline(always)]
        |flow| {
            if !is_answer::<F, T>(tables, flow, packet) {
                return Upkeep::WrongAnswer;
            }
            flow.flags &= !(FLOW_HALF_OPEN | FLOW_TRUSTED);
            remember::<F, T>(tables, flow, *now);
            if flow.backend == ANNOUNCED {
                tables.settle(key, flow);
                return Upkeep::Done;
            }
            let partner_key = partner_key::<F>(config, flow, key);
            let ours = tables.flow(
                &partner_key,
                #[inline(always)]
                |other| {
                    let ours = is_partner::<F>(flow, key, other);
                    if ours {
                        other.flags &= !(FLOW_HALF_OPEN | FLOW_TRUSTED);
                        other.last_seen = *now;
                        // The backend's side may have closed before the client answered by closing as well.
                        if let Some(state) = track::joint(other.state, packet.flags, false) {
                            flow.state = state;
                            other.state = state;
                        }
                        tables.settle(&partner_key, other);
                    }
                    ours
                },
            );
            tables.settle(key, flow);
            match ours {
                Some(true) => Upkeep::Done,
                Some(false) => Upkeep::Lost,
                None => Upkeep::Alone,
            }
        },
    );
    upkeep.unwrap_or(Upkeep::Lost)
}

/// Whether the packet acknowledges what the backend of a half-open flow has sent. Whoever makes up the client's address does
/// not know that. SCTP's clients show it by the cookie that they return, which the backend looks at.
#[inline(always)]
fn is_answer<F: Family, T: Tables<F>>(
    tables: &T,
    flow: &Flow<F::Address>,
    packet: &Packet<F::Address>,
) -> bool {
    if flow.flags & FLOW_TRUSTED != 0 || flow.protocol != TCP {
        return true;
    }
    let Some([_, acknowledgment]) = tables.numbers(packet) else { return false };
    let [before, last] = flow.answers;
    acknowledgment == last || acknowledgment == before
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
