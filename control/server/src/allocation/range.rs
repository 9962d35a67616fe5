//! Ranges of numbers to hand out: addresses of a network, ports.
//!
//! As upstream does it, the lower part of a range is left to those who ask for a certain number, as long as the rest is
//! not full (KEP-3070, KEP-3668).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network whose addresses are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    first: IpAddr,
    bits: u8,
}

/// A text that is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a network such as 10.96.0.0/16 or fd96::/112")]
pub struct NotACidr(pub String);

impl FromStr for Cidr {
    type Err = NotACidr;

    fn from_str(text: &str) -> Result<Self, NotACidr> {
        let parse = || {
            let (address, bits) = text.split_once('/')?;
            let (address, bits) = (address.parse::<IpAddr>().ok()?, bits.parse::<u8>().ok()?);
            let width = if address.is_ipv4() { 32 } else { 128 };
            (bits <= width).then(|| {
                let mask = if bits == 0 { 0 } else { u128::MAX << (width - bits) };
                Self { first: address_of(number_of(address) & mask, address.is_ipv4()), bits }
            })
        };
        parse().ok_or_else(|| NotACidr(text.to_owned()))
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

fn number_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn address_of(number: u128, v4: bool) -> IpAddr {
    if v4 { Ipv4Addr::from_bits(number as u32).into() } else { Ipv6Addr::from_bits(number).into() }
}

impl Cidr {
    /// `IPv4` or `IPv6`, as services call it.
    pub fn family(&self) -> &'static str {
        family(self.first)
    }

    /// The address at this distance from the start.
    pub fn nth(&self, n: u64) -> IpAddr {
        address_of(number_of(self.first) + u128::from(n), self.first.is_ipv4())
    }

    /// Whether an address lies in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        let width = if self.first.is_ipv4() { 32 } else { 128 };
        let mask = if self.bits == 0 { 0 } else { u128::MAX << (width - self.bits) };
        address.is_ipv4() == self.first.is_ipv4() && number_of(address) & mask == number_of(self.first) & mask
    }

    /// Whether an address is one that can be handed out.
    pub fn holds(&self, address: IpAddr) -> bool {
        let distance = number_of(address).checked_sub(number_of(self.first));
        address.is_ipv4() == self.first.is_ipv4()
            && distance.is_some_and(|distance| (1..=u128::from(self.last())).contains(&distance))
    }

    /// The distance of the last address that can be handed out; the first is 1.
    fn last(&self) -> u64 {
        let width = if self.first.is_ipv4() { 32 } else { 128 };
        // Of a large network the first 2^32 addresses are enough for everybody.
        let size = 1u64 << (width - self.bits).min(32);
        // The last of IPv4 is the broadcast address.
        if self.first.is_ipv4() { size.saturating_sub(2) } else { size - 1 }
    }

    /// A free address.
    pub(super) fn pick(&self, chance: u64, is_free: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let last = self.last();
        let band = (last / 16).clamp(16, 256);
        pick(1, last, band, chance, |n| is_free(self.nth(n))).map(|n| self.nth(n))
    }
}

/// `IPv4` or `IPv6`.
pub(super) fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// A free port.
pub(super) fn pick_port(first: u16, last: u16, chance: u64, is_free: impl Fn(u16) -> bool) -> Option<u16> {
    let (low, high) = (u64::from(first), u64::from(last));
    let band = ((high - low + 1) / 32).clamp(16, 128);
    pick(low, high, band, chance, |n| is_free(n as u16)).map(|n| n as u16)
}

/// A free number from `first` to `last`, from the first `band` of them only when there is no other.
fn pick(first: u64, last: u64, band: u64, chance: u64, is_free: impl Fn(u64) -> bool) -> Option<u64> {
    let upper = first + band.min(last.saturating_sub(first));
    let size = last.checked_sub(upper)? + 1;
    let start = chance % size;
    let around = (0..size).map(|step| upper + (start + step) % size);
    around.chain(first..upper).find(|number| is_free(*number))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn network_is_read_with_its_host_part_cleared() {
        assert_eq!("10.96.3.4/16".parse::<Cidr>().unwrap().to_string(), "10.96.0.0/16");
        assert_eq!("fd96::1/112".parse::<Cidr>().unwrap().nth(10).to_string(), "fd96::a");
        for text in ["10.96.0.0", "10.96.0.0/33", "x/8", "/", ""] {
            assert_eq!(text.parse::<Cidr>(), Err(NotACidr(text.into())));
        }
    }

    #[test]
    fn network_and_broadcast_addresses_are_not_handed_out() {
        let cidr: Cidr = "10.96.0.0/24".parse().unwrap();
        let holds = |text: &str| cidr.holds(text.parse().unwrap());
        assert!(holds("10.96.0.1") && holds("10.96.0.254"));
        assert!(!holds("10.96.0.0") && !holds("10.96.0.255") && !holds("10.97.0.1") && !holds("::1"));
    }

    #[test]
    fn every_address_is_handed_out_once_the_lower_ones_last() {
        let cidr: Cidr = "10.96.0.0/26".parse().unwrap();
        let mut used = HashSet::new();
        for chance in 0..62 {
            let one = cidr.pick(chance * 7919, |address| !used.contains(&address)).unwrap();
            let low = cidr.nth(17) > one;
            assert_eq!(low, used.len() >= 62 - 16, "{one} as number {}", used.len());
            assert!(used.insert(one));
        }
        assert_eq!(cidr.pick(3, |address| !used.contains(&address)), None);
    }

    #[test]
    fn tiny_and_huge_networks_do_not_overflow() {
        for text in ["10.0.0.0/31", "10.0.0.0/32", "10.0.0.0/30", "fd00::/128", "fd00::/8", "0.0.0.0/0"] {
            let cidr: Cidr = text.parse().unwrap();
            if let Some(one) = cidr.pick(u64::MAX, |_| true) {
                assert!(cidr.holds(one), "{text}: {one}");
            }
        }
    }
}
