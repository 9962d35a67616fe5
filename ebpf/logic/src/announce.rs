//! Replies that go straight to the client: how a node that took a client's packet tells the backend's node which frontend
//! it was sent to, and what that node makes of it. Owns the announcement's form and when it is sent; writing it into
//! packets and taking it out is the programs' part.
//!
//! With [`skep_abi::service::FLAG_DIRECT`] a packet to a backend elsewhere keeps its source. The backend's node must then
//! translate the replies, so it must know the frontend. The first packets of a flow carry that beside their own headers:
//!
//! | | carried in | bytes |
//! |---|---|---|
//! | IPv4 | an option of the experimental type 158 (RFC 4727): type, length, port, address | 8 |
//! | IPv6 | a destination options header with one option of the experimental type 0x1e: port, two zeroes, address | 24 |
//!
//! Every SYN is announced, and of all others the first few of each flow and every 64th, so that a node that lost what it
//! knew learns it again. Nothing longer than [`LONGEST`] is: the announcement then fits into any path's MTU (RFC 8200
//! section 5), so that clients need not be told of a smaller one. What is longer comes later in its connection, and a flow
//! whose first packet is that long, or a fragment, has its source translated instead.
//!
//! The backend's node takes the announcement out, delivers the packet, and keeps a reply entry without a partner
//! ([`skep_abi::flow::ANNOUNCED`]). What comes without one needs nothing of it: it is addressed to the pod. Only frontends
//! that this node has itself with the same flag are believed: by their address or, since a NodePort's is another node's
//! own, by their port. A TCP entry is half-open until the pod sends something else than a SYN or a reset, which its kernel
//! does only for a client that has answered it.

use skep_abi::counters::Reason;
use skep_abi::flow::{
    ANNOUNCED, FLOW_DIRECT, FLOW_HALF_OPEN, FLOW_REPLY, FLOW_TRUSTED, Flow, FlowKey, STATE_CLOSING, STATE_NEW,
};
use skep_abi::service::{FLAG_DIRECT, SCOPE_EXTERNAL, ServiceKey};
use skep_abi::{Be16, TCP, UDP};

use crate::bytes::Bytes;
use crate::family::Family;
use crate::parse::{Packet, Ports, TcpHeader};
use crate::tables::{Existing, Side, Tables};
use crate::track;

/// Longest packet, with its announcement, that is announced: the least MTU of IPv6.
pub const LONGEST: u32 = 1280;
/// Packets of a flow that are announced at its beginning.
const FIRST: u64 = 8;
/// Of the others one in so many, less one: a mask.
const LATER: u64 = 63;

/// Length of an announcement.
#[inline(always)]
pub const fn length<F: Family>() -> u32 {
    if F::IS_V4 { 8 } else { 24 }
}

/// Type and length of the IPv4 option.
pub const OPTION_V4: [u8; 2] = [0x9e, 8];
/// Number of the destination options header among IPv6's headers.
pub const HEADER_V6: u8 = 60;
/// Length of that header in units of 8 bytes beyond the first 8.
pub const LENGTH_V6: u8 = 2;
/// Type and length of the IPv6 option.
pub const OPTION_V6: [u8; 2] = [0x1e, 20];

/// Whether a flow may be direct that begins with this packet.
#[inline(always)]
pub fn fits<F: Family>(packet: &Packet<F::Address>) -> bool {
    let network = &packet.network;
    network.header_length as usize == F::HEADER
        && network.length + length::<F>() <= LONGEST
        && matches!(network.protocol, TCP | UDP)
}

/// Whether this packet of the flow is to carry an announcement. `again` says that XDP may have counted the packet and left
/// it for this reason: then it is to be announced too.
#[inline(always)]
pub fn is_due<F: Family>(flow: &Flow<F::Address>, packet: &Packet<F::Address>, again: bool) -> bool {
    if flow.flags & (FLOW_DIRECT | FLOW_REPLY) != FLOW_DIRECT {
        return false;
    }
    let turn = |packets: u64| packets <= FIRST || packets & LATER == 0;
    let turn = turn(flow.packets) || (again && turn(flow.packets.wrapping_sub(1)));
    (turn || track::opens(packet.flags)) && fits::<F>(packet)
}

/// What an announced packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Announcement<A> {
    /// The client.
    pub client: A,
    /// The backend.
    pub backend: A,
    /// The frontend that the client used.
    pub frontend: A,
    /// Its port.
    pub port: Be16,
    /// The client's port.
    pub client_port: Be16,
    /// The backend's port.
    pub backend_port: Be16,
    /// TCP flags; 0 for UDP.
    pub flags: u8,
    /// [`TCP`] or [`UDP`].
    pub protocol: u8,
    /// Length of the packet.
    pub length: u32,
}

/// The IPv4 option.
#[derive(Clone, Copy)]
#[repr(C)]
struct OptionV4 {
    kind: [u8; 2],
    port: Be16,
}

/// The IPv6 header up to the address.
#[derive(Clone, Copy)]
#[repr(C)]
struct HeaderV6 {
    next: u8,
    length: u8,
    kind: [u8; 2],
    port: Be16,
    zero: u16,
}

// SAFETY: `repr(C)` over integers, without padding (sizes asserted below).
unsafe impl skep_abi::Plain for OptionV4 {}
// SAFETY: as above.
unsafe impl skep_abi::Plain for HeaderV6 {}
const _: () = {
    assert!(size_of::<OptionV4>() == 4);
    assert!(size_of::<HeaderV6>() == 8);
};

/// Reads an announced packet whose network header is at `l3`; nothing when it is none. The announcement is the only option,
/// or extension header, that such a packet has.
#[inline(always)]
pub fn read<F: Family, B: Bytes + ?Sized>(bytes: &B, l3: usize) -> Option<Announcement<F::Address>> {
    let network = F::network(bytes, l3).ok()?;
    if network.header_length != F::HEADER as u32 + length::<F>() {
        return None;
    }
    let at = l3 + F::HEADER;
    let port = if F::IS_V4 {
        let option: OptionV4 = bytes.load(at)?;
        if option.kind != OPTION_V4 {
            return None;
        }
        option.port
    } else {
        let header: HeaderV6 = bytes.load(at)?;
        let next: Be16 = bytes.load(l3 + 6)?;
        if (next.get() >> 8) as u8 != HEADER_V6 || header.length != LENGTH_V6 || header.kind != OPTION_V6 {
            return None;
        }
        header.port
    };
    let frontend: F::Address = bytes.load(at + if F::IS_V4 { 4 } else { 8 })?;
    let l4 = at + length::<F>() as usize;
    let (ports, flags): (Ports, u8) = match network.protocol {
        TCP => {
            let tcp: TcpHeader = bytes.load(l4)?;
            (tcp.ports, tcp.flags)
        }
        UDP => (bytes.load(l4)?, 0),
        _ => return None,
    };
    Some(Announcement {
        client: network.source,
        backend: network.destination,
        frontend,
        port,
        client_port: ports.source,
        backend_port: ports.destination,
        flags,
        protocol: network.protocol,
        length: network.length,
    })
}

/// What is to be done with an announced packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Learned {
    /// Leave it as it is: there is no such frontend.
    Foreign = 0,
    /// Take the announcement out and deliver it.
    Known = 1,
    /// Drop it: the backend has another connection with that client's port.
    Collision = 2,
}

/// Learns from an announcement.
#[inline(always)]
pub fn learn<F: Family, T: Tables<F>>(tables: &T, told: &Announcement<F::Address>) -> Learned {
    let Some(config) = tables.config() else { return Learned::Foreign };
    let Some(service) = service::<F, T>(tables, told) else { return Learned::Foreign };
    let pair = F::pair(config.seed, &told.backend, &told.client);
    let key = FlowKey::new(pair, told.backend_port, told.client_port, told.protocol);
    let now = tables.now();
    // Which life of the address this is: a pod's interface is never another's.
    let place = tables.local(&told.backend).map_or(0, |local| local.ifindex);
    let opens = track::opens(told.flags);
    let known = tables.flow(
        &key,
        #[inline(always)]
        |flow| {
            let same = flow.new_source == told.frontend
                && flow.new_source_port == told.port
                && flow.backend == ANNOUNCED
                && flow.generation == place;
            if same {
                flow.last_seen = now;
                if opens && flow.state >= STATE_CLOSING {
                    flow.state = STATE_NEW;
                    tables.settle(&key, flow);
                }
                return Some(Learned::Known);
            }
            // Whose client has the address and port again: the old one is over.
            let over =
                flow.state >= STATE_CLOSING || flow.flags & FLOW_HALF_OPEN != 0 || flow.generation != place;
            if over || flow.backend != ANNOUNCED { None } else { Some(Learned::Collision) }
        },
    );
    if let Some(Some(learned)) = known {
        return learned;
    }
    // The backend's packets count, whatever they acknowledge.
    let half_open = if told.protocol == TCP { FLOW_HALF_OPEN | FLOW_TRUSTED } else { 0 };
    let entered = tables.scratch(|scratch| {
        scratch.flow = Flow {
            source: told.backend,
            destination: told.client,
            new_source: told.frontend,
            new_destination: told.client,
            source_port: told.backend_port,
            destination_port: told.client_port,
            new_source_port: told.port,
            new_destination_port: told.client_port,
            backend: ANNOUNCED,
            generation: place,
            service,
            last_seen: now,
            checked: now,
            flags: FLOW_REPLY | FLOW_DIRECT | half_open,
            protocol: told.protocol,
            ..Flow::default()
        };
        tables.insert_flow(&key, Side::Flow, &scratch.flow, Existing::Replace)
    });
    if entered == Some(Ok(())) {
        tables.count(Reason::FlowAnnounced, told.length);
    }
    // Without an entry the reply goes out as the pod's; the next announcement tries again.
    Learned::Known
}

/// The number of the service whose frontend is told of, if this node has it and it is one of direct replies.
#[inline(always)]
fn service<F: Family, T: Tables<F>>(tables: &T, told: &Announcement<F::Address>) -> Option<u32> {
    let config = tables.config()?;
    let key =
        |address| ServiceKey { address, port: told.port, protocol: told.protocol, scope: SCOPE_EXTERNAL };
    let found = tables.service(&key(told.frontend)).or_else(
        #[inline(always)]
        || tables.service(&key(F::node(config))),
    )?;
    if found.flags & FLAG_DIRECT != 0 { Some(found.id) } else { None }
}
