//! What differs between IPv4 and IPv6. Owns the network header's layout; the transport is [`crate::parse`]'s.

use skep_abi::config::Config;
use skep_abi::fronts::{Bit, bit_v4, bit_v6};
use skep_abi::{Be16, Plain, V4, V6};

use crate::bytes::Bytes;
use crate::fragment::Part;
use crate::parse::{Header, Network, Skip};

/// An address family.
pub trait Family: 'static {
    /// Address in network byte order.
    type Address: Plain + Default + PartialEq + Eq + core::fmt::Debug + core::hash::Hash + 'static;
    /// EtherType, in the machine's order.
    const ETHERTYPE: u16;
    /// IANA protocol number of the family's ICMP.
    const ICMP: u8;
    /// Length of the network header without options.
    const HEADER: usize;
    /// Whether this is IPv4.
    const IS_V4: bool;

    /// Whether this is the type of an ICMP error (not a message that asks or informs).
    fn is_error(kind: u8) -> bool;
    /// Reads the network header at `offset`.
    ///
    /// # Errors
    ///
    /// Why the packet is not for us to look at.
    fn network<B: Bytes + ?Sized>(bytes: &B, offset: usize) -> Result<Network<Self::Address>, Skip>;
    /// As [`Family::network`], for a header without options or extension headers: for XDP, whose way is to stay short. The
    /// addresses are written to `source` and `destination`, which lie in a map's memory. As a part of what is returned they
    /// went by the stack, two bytes at a time.
    ///
    /// # Errors
    ///
    /// As there, and [`Skip::Options`].
    fn plain<B: Bytes + ?Sized>(
        bytes: &B,
        offset: usize,
        source: &mut Self::Address,
        destination: &mut Self::Address,
    ) -> Result<Header, Skip>;
    /// Reads the network header at `offset` of a fragment; nothing when it is none or is not right.
    fn part<B: Bytes + ?Sized>(bytes: &B, offset: usize) -> Option<Part<Self::Address>>;
    /// [`skep_abi::flow::FlowKey::pair`].
    fn pair(seed: u64, source: &Self::Address, destination: &Self::Address) -> [u32; 2];
    /// As [`Family::pair`], of addresses in a packet's or a map's memory.
    fn pair_in_memory(seed: u64, source: &Self::Address, destination: &Self::Address) -> [u32; 2];
    /// Place in the filter of frontends.
    fn front(address: &Self::Address, port: Be16, protocol: u8) -> Bit;
    /// This node's address, the source of translated packets.
    fn node(config: &Config) -> Self::Address;
    /// A backend's address from the field that both families share.
    fn backend(address: &V6) -> Self::Address;
    /// Inverse of [`Family::backend`].
    fn shared(address: &Self::Address) -> V6;
    /// [`V6::halves`] of an address in a packet's or a map's memory; the second is zero for IPv4.
    fn halves(address: &Self::Address) -> [u64; 2];
    /// Sum of the address' 32-bit words, for checksums.
    fn sum(address: &Self::Address) -> u64;
    /// Zero if and only if the two addresses, in a packet's or a map's memory, are equal; without a branch.
    fn difference(one: &Self::Address, other: &Self::Address) -> u64;
    /// Whether it is an address that each network namespace has for itself (127.0.0.0/8, ::1).
    fn is_loopback(address: &Self::Address) -> bool;
    /// Whether the address is all zeroes.
    fn is_unspecified(address: &Self::Address) -> bool;
    /// The address as 16-bit words in packet order; the second half of them is zero for IPv4's two.
    fn words(address: &Self::Address) -> [u16; 8];
}

/// IPv4.
pub enum Ipv4 {}
/// IPv6.
pub enum Ipv6 {}

/// IPv4 header without options (RFC 791).
#[derive(Clone, Copy)]
#[repr(C)]
struct Ipv4Header {
    version_length: u8,
    service: u8,
    total_length: Be16,
    id: Be16,
    fragment: Be16,
    ttl: u8,
    protocol: u8,
    checksum: Be16,
    source: V4,
    destination: V4,
}

/// IPv6 header (RFC 8200).
#[derive(Clone, Copy)]
#[repr(C)]
struct Ipv6Header {
    version: u8,
    flow: [u8; 3],
    payload_length: Be16,
    next: u8,
    hop_limit: u8,
    source: V6,
    destination: V6,
}

/// The start of every IPv6 extension header that is walked, and of the fragment header.
#[derive(Clone, Copy)]
#[repr(C)]
struct Extension {
    next: u8,
    length: u8,
    fragment: Be16,
}

/// As [`Ipv6Header`], the addresses as [`V6::halves`].
#[derive(Clone, Copy)]
#[repr(C)]
struct Ipv6Halves {
    version: u8,
    flow: [u8; 3],
    payload_length: Be16,
    next: u8,
    hop_limit: u8,
    source: [u64; 2],
    destination: [u64; 2],
}

// SAFETY: `repr(C)` over integers and arrays of them, without padding (sizes asserted below).
unsafe impl Plain for Ipv6Halves {}
// SAFETY: as above.
unsafe impl Plain for Ipv4Header {}
// SAFETY: as above.
unsafe impl Plain for Ipv6Header {}
// SAFETY: as above.
unsafe impl Plain for Extension {}
const _: () = {
    assert!(size_of::<Ipv4Header>() == 20);
    assert!(size_of::<Ipv6Header>() == 40);
    assert!(size_of::<Ipv6Halves>() == 40);
    assert!(size_of::<Extension>() == 4);
};

/// More fragments, or a fragment offset (RFC 791).
const FRAGMENT_V4: u16 = 0x3fff;
/// More fragments, or a fragment offset (RFC 8200 section 4.5).
const FRAGMENT_V6: u16 = 0xfff9;
/// The fragment offset, in units of 8 bytes (RFC 791).
const OFFSET_V4: u16 = 0x1fff;
/// The fragment offset, in bytes (RFC 8200 section 4.5).
const OFFSET_V6: u16 = 0xfff8;
/// Extension headers walked before giving up.
const MAX_EXTENSIONS: usize = 4;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

impl Family for Ipv4 {
    type Address = V4;
    const ETHERTYPE: u16 = 0x0800;
    const ICMP: u8 = 1;
    const HEADER: usize = 20;
    const IS_V4: bool = true;

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        // Destination unreachable (fragmentation needed is one), time exceeded, parameter problem (RFC 792).
        matches!(kind, 3 | 11 | 12)
    }

    #[inline(always)]
    fn network<B: Bytes + ?Sized>(bytes: &B, offset: usize) -> Result<Network<V4>, Skip> {
        let header: Ipv4Header = bytes.load(offset).ok_or(Skip::Malformed)?;
        let length = usize::from(header.version_length & 0x0f) * 4;
        let total = header.total_length.get();
        if header.version_length >> 4 != 4 || length < 20 || usize::from(total) < length {
            return Err(Skip::Malformed);
        }
        if header.fragment.get() & FRAGMENT_V4 != 0 {
            return Err(Skip::Fragment);
        }
        Ok(Network {
            source: header.source,
            destination: header.destination,
            protocol: header.protocol,
            hops: header.ttl,
            length: u32::from(total),
            header_length: length as u32,
        })
    }

    #[inline(always)]
    fn plain<B: Bytes + ?Sized>(
        bytes: &B,
        offset: usize,
        source: &mut V4,
        destination: &mut V4,
    ) -> Result<Header, Skip> {
        let header: Ipv4Header = bytes.load(offset).ok_or(Skip::Malformed)?;
        let total = header.total_length.get();
        if header.version_length != 0x45 {
            let options = header.version_length >> 4 == 4 && header.version_length & 0x0f > 5;
            return Err(if options { Skip::Options } else { Skip::Malformed });
        }
        if total < 20 {
            return Err(Skip::Malformed);
        }
        if header.fragment.get() & FRAGMENT_V4 != 0 {
            return Err(Skip::Fragment);
        }
        *source = header.source;
        *destination = header.destination;
        let Ipv4Header { protocol, ttl, .. } = header;
        Ok(Header { protocol, hops: ttl, length: u32::from(total), header_length: 20 })
    }

    #[inline(always)]
    fn part<B: Bytes + ?Sized>(bytes: &B, offset: usize) -> Option<Part<V4>> {
        let header: Ipv4Header = bytes.load(offset)?;
        let header_length = u32::from(header.version_length & 0x0f) * 4;
        let length = u32::from(header.total_length.get());
        let fragment = header.fragment.get();
        if header.version_length >> 4 != 4
            || header_length < 20
            || length < header_length
            || fragment & FRAGMENT_V4 == 0
        {
            return None;
        }
        let Ipv4Header { source, destination, protocol, ttl, id, .. } = header;
        let network = Network { source, destination, protocol, hops: ttl, length, header_length };
        Some(Part { network, id: u32::from(id.raw()), offset: u32::from(fragment & OFFSET_V4) * 8 })
    }

    #[inline(always)]
    fn pair(_seed: u64, source: &V4, destination: &V4) -> [u32; 2] {
        skep_abi::flow::pair_v4(*source, *destination)
    }

    #[inline(always)]
    fn pair_in_memory(seed: u64, source: &V4, destination: &V4) -> [u32; 2] {
        Self::pair(seed, source, destination)
    }

    #[inline(always)]
    fn front(address: &V4, port: Be16, protocol: u8) -> Bit {
        bit_v4(*address, port, protocol)
    }

    #[inline(always)]
    fn node(config: &Config) -> V4 {
        config.node_v4
    }

    #[inline(always)]
    fn backend(address: &V6) -> V4 {
        address.first()
    }

    #[inline(always)]
    fn shared(address: &V4) -> V6 {
        V6::from_first(*address)
    }

    #[inline(always)]
    fn halves(address: &V4) -> [u64; 2] {
        [u64::from(address.0), 0]
    }

    #[inline(always)]
    fn sum(address: &V4) -> u64 {
        u64::from(address.0)
    }

    #[inline(always)]
    fn difference(one: &V4, other: &V4) -> u64 {
        u64::from(one.0 ^ other.0)
    }

    #[inline(always)]
    fn is_loopback(address: &V4) -> bool {
        u32::from_be(address.0) >> 24 == 127
    }

    #[inline(always)]
    fn is_unspecified(address: &V4) -> bool {
        address.0 == 0
    }

    #[inline(always)]
    fn words(address: &V4) -> [u16; 8] {
        [address.0 as u16, (address.0 >> 16) as u16, 0, 0, 0, 0, 0, 0]
    }
}

impl Family for Ipv6 {
    type Address = V6;
    const ETHERTYPE: u16 = 0x86dd;
    const ICMP: u8 = 58;
    const HEADER: usize = 40;
    const IS_V4: bool = false;

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        // Destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443).
        matches!(kind, 1..=4)
    }

    #[inline(always)]
    fn network<B: Bytes + ?Sized>(bytes: &B, offset: usize) -> Result<Network<V6>, Skip> {
        let header: Ipv6Header = bytes.load(offset).ok_or(Skip::Malformed)?;
        if header.version >> 4 != 6 {
            return Err(Skip::Malformed);
        }
        let (protocol, extensions) =
            if is_extension(header.next) { walk(bytes, offset + 40, header.next)? } else { (header.next, 0) };
        let length = 40 + u32::from(header.payload_length.get());
        let header_length = 40 + extensions as u32;
        if length < header_length {
            return Err(Skip::Malformed);
        }
        Ok(Network {
            source: header.source,
            destination: header.destination,
            protocol,
            hops: header.hop_limit,
            length,
            header_length,
        })
    }

    #[inline(always)]
    fn plain<B: Bytes + ?Sized>(
        bytes: &B,
        offset: usize,
        source: &mut V6,
        destination: &mut V6,
    ) -> Result<Header, Skip> {
        let header: Ipv6Halves = bytes.load(offset).ok_or(Skip::Malformed)?;
        if header.version >> 4 != 6 {
            return Err(Skip::Malformed);
        }
        if is_extension(header.next) {
            return Err(if header.next == FRAGMENT { Skip::Fragment } else { Skip::Options });
        }
        source.set_halves(header.source);
        destination.set_halves(header.destination);
        Ok(Header {
            protocol: header.next,
            hops: header.hop_limit,
            length: 40 + u32::from(header.payload_length.get()),
            header_length: 40,
        })
    }

    #[inline(always)]
    fn part<B: Bytes + ?Sized>(bytes: &B, offset: usize) -> Option<Part<V6>> {
        let header: Ipv6Header = bytes.load(offset)?;
        if header.version >> 4 != 6 {
            return None;
        }
        let mut next = header.next;
        let mut header_length = 40;
        for _ in 0..MAX_EXTENSIONS {
            let extension: Extension = bytes.load(offset + header_length)?;
            if next == FRAGMENT {
                let id: u32 = bytes.load(offset + header_length + 4)?;
                header_length += 8;
                let length = 40 + u32::from(header.payload_length.get());
                let fragment = extension.fragment.get();
                if fragment & FRAGMENT_V6 == 0 || length < header_length as u32 {
                    return None;
                }
                let network = Network {
                    source: header.source,
                    destination: header.destination,
                    protocol: extension.next,
                    hops: header.hop_limit,
                    length,
                    header_length: header_length as u32,
                };
                return Some(Part { network, id, offset: u32::from(fragment & OFFSET_V6) });
            }
            if !matches!(next, HOP_BY_HOP | ROUTING | DESTINATION) {
                return None;
            }
            header_length += (usize::from(extension.length) + 1) * 8;
            next = extension.next;
        }
        None
    }

    #[inline(always)]
    fn pair(seed: u64, source: &V6, destination: &V6) -> [u32; 2] {
        skep_abi::flow::pair_v6(seed, *source, *destination)
    }

    #[inline(always)]
    fn pair_in_memory(seed: u64, source: &V6, destination: &V6) -> [u32; 2] {
        skep_abi::flow::pair_of_halves(seed, source.halves(), destination.halves())
    }

    #[inline(always)]
    fn front(address: &V6, port: Be16, protocol: u8) -> Bit {
        bit_v6(*address, port, protocol)
    }

    #[inline(always)]
    fn node(config: &Config) -> V6 {
        config.node_v6
    }

    #[inline(always)]
    fn backend(address: &V6) -> V6 {
        *address
    }

    #[inline(always)]
    fn shared(address: &V6) -> V6 {
        *address
    }

    #[inline(always)]
    fn halves(address: &V6) -> [u64; 2] {
        address.halves()
    }

    #[inline(always)]
    fn sum(address: &V6) -> u64 {
        let [a, b, c, d] = address.0;
        u64::from(a) + u64::from(b) + u64::from(c) + u64::from(d)
    }

    #[inline(always)]
    fn difference(one: &V6, other: &V6) -> u64 {
        let ([a, b], [c, d]) = (one.halves(), other.halves());
        (a ^ c) | (b ^ d)
    }

    #[inline(always)]
    fn is_loopback(address: &V6) -> bool {
        let [a, b, c, d] = address.0;
        a | b | c == 0 && d == 1u32.to_be()
    }

    #[inline(always)]
    fn is_unspecified(address: &V6) -> bool {
        let [a, b, c, d] = address.0;
        a | b | c | d == 0
    }

    #[inline(always)]
    fn words(address: &V6) -> [u16; 8] {
        let [a, b, c, d] = address.0;
        [
            a as u16,
            (a >> 16) as u16,
            b as u16,
            (b >> 16) as u16,
            c as u16,
            (c >> 16) as u16,
            d as u16,
            (d >> 16) as u16,
        ]
    }
}

#[inline(always)]
const fn is_extension(next: u8) -> bool {
    matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION)
}

/// Walks extension headers: the transport protocol and the headers' total length.
#[inline(always)]
fn walk<B: Bytes + ?Sized>(bytes: &B, start: usize, first: u8) -> Result<(u8, usize), Skip> {
    let mut next = first;
    let mut length = 0;
    for _ in 0..MAX_EXTENSIONS {
        let header: Extension = bytes.load(start + length).ok_or(Skip::Malformed)?;
        length += match next {
            // An "atomic" fragment (RFC 6946) is whole and goes on like any packet.
            FRAGMENT if header.fragment.get() & FRAGMENT_V6 != 0 => return Err(Skip::Fragment),
            FRAGMENT => 8,
            AUTHENTICATION => (usize::from(header.length) + 2) * 4,
            _ => (usize::from(header.length) + 1) * 8,
        };
        next = header.next;
        if !is_extension(next) {
            return Ok((next, length));
        }
    }
    Err(Skip::ExtensionHeaders)
}
