//! A range of addresses, and its two forms in the kernel's tries of source ranges.
//!
//! Owns the conversion both ways and the reading of text. Bits beyond the length are always zero.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use skep_abi::ranges::{RangeKey, SERVICE_BITS};
use skep_abi::{V4, V6};

/// An address and how many of its bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// A service's range as the kernel's key of its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixKey {
    /// For `SOURCE_RANGES_V4`.
    V4(RangeKey<V4>),
    /// For `SOURCE_RANGES_V6`.
    V6(RangeKey<V6>),
}

impl Prefix {
    /// The first `length` bits of `address`; `None` when it has fewer.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(address) => {
                let rest = 32_u32.checked_sub(length.into())?;
                let mask = u32::MAX.checked_shl(rest).unwrap_or(0);
                Ipv4Addr::from_bits(address.to_bits() & mask).into()
            }
            IpAddr::V6(address) => {
                let rest = 128_u32.checked_sub(length.into())?;
                let mask = u128::MAX.checked_shl(rest).unwrap_or(0);
                Ipv6Addr::from_bits(address.to_bits() & mask).into()
            }
        };
        Some(Self { address, length })
    }

    /// Reads "address/length". The numbers of an IPv4 address may have leading zeroes and are decimal all the same, since
    /// objects that were written before Kubernetes refused that are still about.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let address = address.parse().ok().or_else(|| sloppy_v4(address).map(IpAddr::V4))?;
        Self::new(address, length.parse().ok()?)
    }

    /// Whether it is of IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// The key under which it stands for a service.
    pub fn key(&self, service: u32) -> PrefixKey {
        let prefix_length = SERVICE_BITS + u32::from(self.length);
        match self.address {
            IpAddr::V4(address) => {
                PrefixKey::V4(RangeKey { prefix_length, service, address: address.into() })
            }
            IpAddr::V6(address) => {
                PrefixKey::V6(RangeKey { prefix_length, service, address: address.into() })
            }
        }
    }

    /// Inverse of [`Prefix::key`]; `None` for a key that it never makes.
    pub fn from_key(key: &PrefixKey) -> Option<(u32, Self)> {
        let (service, length, address): (u32, u32, IpAddr) = match key {
            PrefixKey::V4(key) => (key.service, key.prefix_length, Ipv4Addr::from(key.address).into()),
            PrefixKey::V6(key) => (key.service, key.prefix_length, Ipv6Addr::from(key.address).into()),
        };
        let length = u8::try_from(length.checked_sub(SERVICE_BITS)?).ok()?;
        Some((service, Self::new(address, length)?))
    }
}

fn sloppy_v4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0_u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        *octet = if digits { part.parse().ok()? } else { return None };
    }
    parts.next().is_none().then(|| octets.into())
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_parse_reads_ranges_and_nothing_else() {
        let read = |text: &str| Prefix::parse(text).map(|prefix| prefix.to_string());
        for (text, expected) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("192.0.2.1/32", "192.0.2.1/32"),
            ("010.000.000.008/29", "10.0.0.8/29"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("::/0", "::/0"),
            ("::1/128", "::1/128"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
        for text in
            ["", "/", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/+8", "x/8"]
        {
            assert_eq!(read(text), None, "{text}");
        }
        for text in ["10.0.0.256/8", "1.2.3.4.5/8", " 10.0.0.0/8", "10.0.0.0/8 ", "10.0.0.0/0x8"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn prefix_key_round_trips_in_both_families() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "192.0.2.1/32", "2001:db8::/32", "::/0", "::1/128"] {
            let prefix = Prefix::parse(text).unwrap();
            assert_eq!(Prefix::from_key(&prefix.key(7)), Some((7, prefix)));
        }
        let odd = RangeKey { prefix_length: 31, service: 1, address: V4::from_octets([0; 4]) };
        assert_eq!(Prefix::from_key(&PrefixKey::V4(odd)), None);
    }
}
