//! Address ranges of both families as numbers. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of addresses: a network and a prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    v4: bool,
    /// The first address, as a number.
    first: u128,
    prefix: u8,
}

impl Cidr {
    /// Reads `address/prefix`; bits beyond the prefix are dropped.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let prefix: u8 = prefix.parse().ok()?;
        let (v4, number) = match address.parse().ok()? {
            IpAddr::V4(address) => (true, u128::from(u32::from(address))),
            IpAddr::V6(address) => (false, u128::from(address)),
        };
        let range = Self { v4, first: number, prefix };
        if prefix > range.bits() {
            return None;
        }
        Some(Self { first: number - number % range.size().unwrap_or(u128::MAX), ..range })
    }

    /// Whether these are IPv4 addresses.
    pub fn is_v4(self) -> bool {
        self.v4
    }

    /// The prefix length.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Bits of an address.
    pub fn bits(self) -> u8 {
        if self.v4 { 32 } else { 128 }
    }

    /// How many addresses; `None` for all of IPv6.
    fn size(self) -> Option<u128> {
        1_u128.checked_shl(u32::from(self.bits() - self.prefix))
    }

    fn last(self) -> u128 {
        self.size().map_or(u128::MAX, |size| self.first + (size - 1))
    }

    fn overlaps(self, other: Self) -> bool {
        self.v4 == other.v4 && self.first <= other.last() && other.first <= self.last()
    }

    /// The lowest part with this prefix length that overlaps none of those taken.
    pub fn first_free(self, prefix: u8, taken: &[Self]) -> Option<Self> {
        let mut taken: Vec<Self> = taken.iter().copied().filter(|range| range.overlaps(self)).collect();
        taken.sort_by_key(|range| range.first);
        let mut part = Self { prefix, ..self };
        for range in taken {
            if part.overlaps(range) {
                // The next boundary after the end of what is taken.
                let size = part.size()?;
                part.first = (range.last().max(part.last()) / size + 1).checked_mul(size)?;
            }
        }
        (part.last() <= self.last() && part.first >= self.first).then_some(part)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u32::try_from(self.first) {
            Ok(number) if self.v4 => write!(f, "{}/{}", Ipv4Addr::from(number), self.prefix),
            _ => write!(f, "{}/{}", Ipv6Addr::from(self.first), self.prefix),
        }
    }
}
