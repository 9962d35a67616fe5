//! What becomes of one packet. Owns the order of look-ups and the outcomes; making a flow is [`crate::establish`], its
//! upkeep is [`crate::maintain`], doing what the outcome says is the programs' part.
//!
//! A packet of a known flow costs one look-up of the flow and one of its backend's state. Only when there is no flow is
//! the service table asked. Packets from the uplink are first held against the filter of frontends, so that what is
//! for no service passes at the cost of one array look-up.

use skep_abi::backend::{STATE_ACTIVE, STATE_GONE};
use skep_abi::config::Config;
use skep_abi::counters::Reason;
use skep_abi::flow::{ANNOUNCED, FLOW_HALF_OPEN, FLOW_REPLY, Flow, FlowKey, STATE_CLOSED, STATE_CLOSING};
use skep_abi::service::{SCOPE_EXTERNAL, SCOPE_INTERNAL};
use skep_abi::{Be16, TCP, has_connections};

use crate::family::Family;
use crate::maintain;
use crate::parse::{ACK, Packet, RST, SYN};
use crate::prepare::{Prepared, Task};
use crate::tables::{ServiceEvent, Tables};
use crate::track;

/// Where the packet is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// XDP on the uplink.
    XdpUplink,
    /// TC ingress on the uplink.
    TcUplinkIn,
    /// TC egress on the uplink.
    TcUplinkOut,
    /// TC ingress on a pod's veth.
    TcFromPod,
}

impl Hook {
    /// Which frontends count here.
    #[inline(always)]
    pub const fn scope(self) -> u8 {
        match self {
            Self::XdpUplink | Self::TcUplinkIn => SCOPE_EXTERNAL,
            Self::TcUplinkOut | Self::TcFromPod => SCOPE_INTERNAL,
        }
    }
}

/// One packet on its way through the decision. Passed on by reference, since a function of the kernel's virtual machine
/// takes five arguments at most.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a, A> {
    /// This node's settings.
    pub config: &'a Config,
    /// What the packet is known by.
    pub key: FlowKey,
    /// The packet.
    pub packet: &'a Packet<A>,
    /// [`Hook::scope`] of where it was met.
    pub scope: u8,
    /// Whether it is no fragment.
    pub whole: bool,
    /// Now, in ticks.
    pub now: u32,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<R> {
    /// It is to be left alone.
    Pass,
    /// It belongs to a flow, and this is what was done with it.
    Carried(R),
    /// It is to be answered with a refusal, counted under this reason.
    Reject(Reason),
    /// It is to be dropped, counted under this reason.
    Drop(Reason),
}

/// What a look-up of the flow came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    /// There is none.
    No,
    Carried,
    /// Its upkeep is due first.
    Due,
    /// It is half-open, and this packet may show that its client is there.
    Answered,
    /// It must not be used: choose again.
    Stale,
    /// Its backend is gone, which the other direction is to know.
    Gone,
    /// Another flow has its key.
    Collision,
}

/// The key that `packet` is known by.
#[inline(always)]
pub fn key<F: Family>(config: &Config, packet: &Packet<F::Address>) -> FlowKey {
    let pair = F::pair_in_memory(config.seed, &packet.network.source, &packet.network.destination);
    FlowKey::new(pair, packet.source_port, packet.destination_port, packet.network.protocol)
}

/// Decides about `packet`. When it belongs to a flow, or makes one, `carry` is called with that flow to do what it says:
/// in place, since a copy of it would be too much for a stack of the kernel's virtual machine, and too slow. `whole` says
/// that the packet is no fragment.
#[inline(always)]
pub fn decide<F: Family, T: Tables<F>, R: Default>(
    tables: &T,
    packet: &Packet<F::Address>,
    hook: Hook,
    whole: bool,
    carry: impl Fn(&Flow<F::Address>) -> R,
) -> Outcome<R> {
    let Some(config) = tables.config() else { return Outcome::Pass };
    let frontend = is_candidate::<F, T>(tables, packet, hook);
    if matches!(hook, Hook::XdpUplink) && !frontend && !is_translated_port(config, packet.destination_port) {
        return Outcome::Pass;
    }
    let question = Question {
        config,
        key: key::<F>(config, packet),
        packet,
        scope: hook.scope(),
        whole,
        now: tables.now(),
    };
    let mut prepared = false;
    // Defined from the start: what is not until the packet is carried may be spilled to the stack before that ("R1 !read_ok",
    // Linux 6.18).
    let mut result = R::default();
    loop {
        let task = match known::<F, T, R>(tables, &question, prepared, &mut result, &carry) {
            Known::Carried => return Outcome::Carried(result),
            Known::Gone if prepared => return refuse(packet, Reason::BackendGone),
            Known::Collision => return Outcome::Drop(Reason::FlowCollision),
            Known::Due | Known::Gone => Task::Maintain,
            Known::Answered => Task::Open,
            Known::Stale => Task::Replace,
            Known::No => Task::Establish,
        };
        // Made, or kept up: found the second time.
        if prepared {
            return Outcome::Drop(Reason::FlowTableFull);
        }
        prepared = true;
        if matches!(task, Task::Establish | Task::Replace) && !frontend {
            return Outcome::Pass;
        }
        match tables.prepare(&question, task) {
            Prepared::DONE => {}
            Prepared::NOT_A_SERVICE => return Outcome::Pass,
            other if other.is_refusal() => return refuse(packet, other.reason()),
            other => return Outcome::Drop(other.reason()),
        }
    }
}

/// Whether the packet may be for a frontend.
#[inline(always)]
fn is_candidate<F: Family, T: Tables<F>>(tables: &T, packet: &Packet<F::Address>, hook: Hook) -> bool {
    match hook {
        Hook::XdpUplink | Hook::TcUplinkIn => {
            let bit = F::front(&packet.network.destination, packet.destination_port, packet.network.protocol);
            tables.front(bit)
        }
        Hook::TcUplinkOut | Hook::TcFromPod => true,
    }
}

/// Whether replies to translated sources come to this port.
#[inline(always)]
fn is_translated_port(config: &Config, port: Be16) -> bool {
    port.get() >= config.snat_first.get() && port.get() <= config.snat_last.get()
}

/// A reset is never answered with a reset (RFC 9293 section 3.10.7.1).
#[inline(always)]
fn refuse<A, R>(packet: &Packet<A>, reason: Reason) -> Outcome<R> {
    if packet.flags & RST != 0 { Outcome::Drop(reason) } else { Outcome::Reject(reason) }
}

#[inline(always)]
fn known<F: Family, T: Tables<F>, R>(
    tables: &T,
    question: &Question<'_, F::Address>,
    prepared: bool,
    result: &mut R,
    carry: &impl Fn(&Flow<F::Address>) -> R,
) -> Known {
    let Question { config, key, packet, now, .. } = question;
    let found = tables.flow(
        key,
        #[inline(always)]
        |flow| {
            if !is_of::<F>(flow, packet) {
                return Known::Collision;
            }
            match usable::<F, T>(tables, flow, packet, prepared) {
                Usable::Yes => {}
                Usable::Again => return Known::Stale,
                Usable::No => return Known::Gone,
            }
            // What the other direction is told as well, unless the packet has had its preparation: what it closes is then
            // known when the other side's packet closes too.
            let mut tells = track::ends(flow.state, packet.flags)
                || track::answers(flow.state, packet.network.protocol, flow.flags);
            if flow.flags & FLOW_HALF_OPEN != 0 {
                let flags = packet.flags & (SYN | RST | ACK);
                // The backend's own word counts where the client's packets do not come by.
                let forward = flow.flags & FLOW_REPLY == 0 || flow.backend == ANNOUNCED;
                if forward && flags == ACK {
                    return Known::Answered;
                }
                tells |= !forward && flags == SYN | ACK;
            }
            if tells && !prepared || maintain::is_due(flow, config, *now) {
                return Known::Due;
            }
            advance(flow, packet, *now);
            tables.count_service(flow.service, ServiceEvent::Packet(packet.network.length));
            *result = carry(flow);
            Known::Carried
        },
    );
    found.unwrap_or(Known::No)
}

/// Whether the flow, found by the packet's hash, is the packet's.
#[inline(always)]
pub(crate) fn is_of<F: Family>(flow: &Flow<F::Address>, packet: &Packet<F::Address>) -> bool {
    let addresses = F::difference(&flow.source, &packet.network.source)
        | F::difference(&flow.destination, &packet.network.destination);
    let ports = (flow.source_port.raw() ^ packet.source_port.raw())
        | (flow.destination_port.raw() ^ packet.destination_port.raw());
    addresses | u64::from(ports) | u64::from(flow.protocol ^ packet.network.protocol) == 0
}

/// Whether a flow's backend may still be used by this packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Usable {
    Yes,
    Again,
    No,
}

/// The table of [`skep_abi::backend`], and connections that are opened anew.
#[inline(always)]
fn usable<F: Family, T: Tables<F>>(
    tables: &T,
    flow: &mut Flow<F::Address>,
    packet: &Packet<F::Address>,
    prepared: bool,
) -> Usable {
    if flow.backend == ANNOUNCED {
        return if maintain::is_in_place(tables, flow) { Usable::Yes } else { Usable::Again };
    }
    let state = match tables.backend_state(flow.backend) {
        Some(state) if state.generation == flow.generation => state.state,
        _ => STATE_GONE,
    };
    let active = state == STATE_ACTIVE;
    if flow.flags & FLOW_REPLY != 0 {
        return if state == STATE_GONE { last_words(flow, packet, prepared) } else { Usable::Yes };
    }
    if !has_connections(packet.network.protocol) {
        return if active { Usable::Yes } else { Usable::Again };
    }
    if track::opens(packet.flags) && (flow.state >= STATE_CLOSING || !active) {
        return Usable::Again;
    }
    if state == STATE_GONE { Usable::No } else { Usable::Yes }
}

/// Whether a reply of a backend that is gone is still its client's. What was under way is: a client that only waits for it
/// sends nothing that could be refused, and would wait for good. That ends with the client's next packet, which is told that
/// the backend is gone, and with one that begins a connection: whoever has the address now, it is not the backend, and its
/// packets are its own. One that was `prepared` may itself have closed the connection.
#[inline(always)]
fn last_words<A>(flow: &mut Flow<A>, packet: &Packet<A>, prepared: bool) -> Usable {
    if packet.network.protocol != TCP || flow.state >= STATE_CLOSED && !prepared {
        return Usable::Again;
    }
    if packet.flags & SYN != 0 {
        flow.state = STATE_CLOSED;
        return Usable::Again;
    }
    Usable::Yes
}

/// Writes down that the packet was seen.
#[inline(always)]
fn advance<A>(flow: &mut Flow<A>, packet: &Packet<A>, now: u32) {
    flow.last_seen = now;
    flow.packets = flow.packets.wrapping_add(1);
    flow.bytes = flow.bytes.wrapping_add(u64::from(packet.network.length));
    let state = track::next(flow.state, packet.network.protocol, packet.flags, flow.flags);
    if state != flow.state {
        flow.state = state;
    }
}
