//! `FRONTS`: a filter that lets the uplink programs pass what is for no service at the cost of one array look-up.
//!
//! An array of 64-bit words, mapped into memory by user space, seen as 2^20 bits. A frontend with
//! [`crate::service::SCOPE_EXTERNAL`] has its bit (see [`bit_v4`], [`bit_v6`]) set. Writer: the agent, before it writes
//! the frontend's entry. So has every address that only services have, under port and protocol 0: all but NodePorts'.
//! Readers: the uplink programs. A bit that is set without a frontend costs time, never
//! correctness, so bits need not be cleared. It cannot become full, only less useful: with 100,000 frontends one packet in
//! ten that is not for a service is looked up in vain.

use crate::{Be16, V4, V6};

/// Name of the array of `u64`.
pub const FRONTS: &str = "FRONTS";
/// Number of words.
pub const FRONTS_WORDS: u32 = 1 << 14;
/// Number of bits.
pub const FRONTS_BITS: u32 = FRONTS_WORDS * 64;

/// Place of one frontend's bit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Bit {
    /// Index of the word in the array.
    pub word: u32,
    /// The word's bit.
    pub mask: u64,
}

/// The bit of an IPv4 frontend.
#[inline(always)]
pub const fn bit_v4(address: V4, port: Be16, protocol: u8) -> Bit {
    bit(address.0, port, protocol)
}

/// The bit of an IPv6 frontend.
#[inline(always)]
pub const fn bit_v6(address: V6, port: Be16, protocol: u8) -> Bit {
    let [a, b, c, d] = address.0;
    bit(a ^ b.rotate_left(7) ^ c.rotate_left(15) ^ d.rotate_left(23), port, protocol)
}

/// The bit of an IPv4 address that services alone have, whatever the port: fragments go by it ([`crate::fragment`]).
#[inline(always)]
pub const fn address_bit_v4(address: V4) -> Bit {
    bit_v4(address, Be16::new(0), 0)
}

/// As [`address_bit_v4`], for IPv6.
#[inline(always)]
pub const fn address_bit_v6(address: V6) -> Bit {
    bit_v6(address, Be16::new(0), 0)
}

/// The bit of a frontend whose address is folded to one word.
#[inline(always)]
pub const fn bit(folded: u32, port: Be16, protocol: u8) -> Bit {
    let input = folded as u64 | (port.raw() as u64) << 32 | (protocol as u64) << 48;
    let hash = input.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let position = (hash >> 44) as u32;
    Bit { word: position >> 6, mask: 1 << (position & 63) }
}

const _: () = assert!(FRONTS_BITS == 1 << 20);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn bits_of_many_frontends_spread_and_stay_in_range() {
        let mut seen = HashSet::new();
        for port in 0..10_000_u16 {
            let bit =
                bit_v4(V4::from_octets([10, 0, (port >> 8) as u8, 7]), Be16::new(30_000 + port), crate::TCP);
            assert!(bit.word < FRONTS_WORDS && bit.mask.count_ones() == 1);
            seen.insert((bit.word, bit.mask));
        }
        assert!(seen.len() > 9_800, "only {} distinct bits", seen.len());
    }
}
