//! A range of addresses in CIDR notation, and which addresses of it pods may have. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::NetworkError;

/// A validated CIDR range whose host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Range {
    base: IpAddr,
    prefix: u8,
}

impl Range {
    /// Reads `10.244.1.0/24` or `fd44:0:0:1::/64`.
    ///
    /// # Errors
    /// The text is not a range, or has bits set behind its prefix.
    pub fn parse(text: &str) -> Result<Self, NetworkError> {
        let bad = || NetworkError::BadRange { text: text.to_owned() };
        let (base, prefix) = text.split_once('/').ok_or_else(bad)?;
        let base: IpAddr = base.parse().map_err(|_| bad())?;
        let prefix: u8 = prefix.parse().map_err(|_| bad())?;
        let range = Self { base, prefix };
        if prefix > range.width() || range.offset_of(base) != Some(0) {
            return Err(bad());
        }
        Ok(range)
    }

    /// The first address.
    pub fn base(&self) -> IpAddr {
        self.base
    }

    /// The prefix length.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Offsets of the addresses that pods may have: neither the network's own nor, in IPv4, its broadcast address. Of
    /// a very wide range only the first 2^32 count.
    pub fn hosts(&self) -> std::ops::Range<u64> {
        let size = 1_u64 << u32::from(self.width() - self.prefix).min(32);
        let last = if self.base.is_ipv4() { size.saturating_sub(1) } else { size };
        1..last.max(1)
    }

    /// The address at an offset within [`Range::hosts`].
    pub fn at(&self, offset: u64) -> IpAddr {
        match self.base {
            IpAddr::V4(base) => {
                Ipv4Addr::from_bits(base.to_bits() | u32::try_from(offset).unwrap_or(u32::MAX)).into()
            }
            IpAddr::V6(base) => Ipv6Addr::from_bits(base.to_bits() | u128::from(offset)).into(),
        }
    }

    /// Whether an address lies in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.base.is_ipv4() == address.is_ipv4() && bits(address) & self.mask() == bits(self.base)
    }

    /// The offset of an address; `None` when it lies outside or beyond 2^64.
    pub fn offset_of(&self, address: IpAddr) -> Option<u64> {
        let inside = self.base.is_ipv4() == address.is_ipv4()
            && bits(address) & self.mask() == bits(self.base) & self.mask();
        inside.then(|| u64::try_from(bits(address) & !self.mask() & self.full()).ok()).flatten()
    }

    fn width(&self) -> u8 {
        if self.base.is_ipv4() { 32 } else { 128 }
    }

    fn full(&self) -> u128 {
        if self.base.is_ipv4() { u128::from(u32::MAX) } else { u128::MAX }
    }

    fn mask(&self) -> u128 {
        let free = u32::from(self.width().saturating_sub(self.prefix));
        if free >= 128 { 0 } else { (self.full() >> free) << free }
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl fmt::Display for Range {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.base, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_range_with_host_bits_is_refused() {
        for text in ["10.244.1.1/24", "10.244.1.0", "10.244.1.0/33", "fd44::1/64", "x/8", ""] {
            assert!(Range::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn hosts_leave_network_and_broadcast_out() {
        let range = Range::parse("10.244.1.0/24").unwrap();
        assert_eq!(range.hosts(), 1..255);
        assert_eq!(range.at(254), "10.244.1.254".parse::<IpAddr>().unwrap());
        assert_eq!(Range::parse("10.0.0.0/32").unwrap().hosts(), 1..1);
        assert_eq!(
            Range::parse("fd44:0:0:1::/64").unwrap().at(7),
            "fd44:0:0:1::7".parse::<IpAddr>().unwrap()
        );
    }

    #[test]
    fn contains_and_offset_agree() {
        let range = Range::parse("10.244.1.0/24").unwrap();
        assert_eq!(range.offset_of("10.244.1.9".parse().unwrap()), Some(9));
        assert_eq!(range.offset_of("10.244.2.9".parse().unwrap()), None);
        assert!(range.contains("10.244.1.0".parse().unwrap()) && !range.contains("fd44::1".parse().unwrap()));
    }
}
