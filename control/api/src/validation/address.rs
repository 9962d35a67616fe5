//! Rules of addresses and networks (`apimachinery/pkg/util/validation/ip.go`).
//!
//! Fields from before strict validation take addresses that are not in canonical form; later ones do not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::place::{Errors, Place};

/// The sentence for what is no address.
pub(super) const NOT_AN_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NOT_A_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// An address in any form.
pub(super) fn ip(place: &Place<'_>, errors: &mut Errors) -> Option<IpAddr> {
    match place.text().parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            place.invalid("must not be an IPv4-mapped IPv6 address", errors);
            None
        }
        Ok(address) => Some(address),
        Err(_) if without_zeros(place.text()).is_some() => {
            place.invalid("must not have leading 0s", errors);
            None
        }
        Err(_) => {
            place.invalid(NOT_AN_ADDRESS, errors);
            None
        }
    }
}

/// An address, be there zeros at the start of its numbers.
pub(super) fn sloppy(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| without_zeros(text).map(IpAddr::V4))
}

/// The IPv4 address that the text would be but for zeros at the start of its numbers.
fn without_zeros(text: &str) -> Option<Ipv4Addr> {
    let part = |part: &str| {
        let digits = part.trim_start_matches('0');
        if digits.is_empty() && !part.is_empty() { "0".to_owned() } else { digits.to_owned() }
    };
    let parts: Vec<String> = text.split('.').map(part).collect();
    parts.join(".").parse().ok().filter(|_| parts.len() == 4)
}

/// An address in canonical form; gives the sentence against it.
pub(super) fn canonical(text: &str) -> Result<(), String> {
    let mut errors = Errors::new();
    let value = text.into();
    let address = ip(&Place::new("", &value), &mut errors);
    match (address, errors.first()) {
        (Some(address), _) if address.to_string() == text => Ok(()),
        (Some(address), _) => Err(format!("must be in canonical form ({:?})", address.to_string())),
        (None, found) => Err(found.map_or_else(String::new, |error| error.detail.clone())),
    }
}

fn parse(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let (address, bits) = (address.parse::<IpAddr>().ok()?, bits.parse::<u8>().ok()?);
    (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, bits))
}

/// A network: its first address and the length of its prefix.
pub(super) fn cidr(place: &Place<'_>, errors: &mut Errors) -> Option<(IpAddr, u8)> {
    let text = place.text();
    let Some((address, bits)) = parse(text) else {
        place.invalid(NOT_A_CIDR, errors);
        return None;
    };
    let length = text.split_once('/').map_or("", |(_, length)| length);
    if length.len() > 1 && length.starts_with('0') {
        place.invalid("must not have leading 0s in IP or prefix length", errors);
    } else if matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some()) {
        place.invalid("must not have an IPv4-mapped IPv6 address", errors);
    } else if masked(address, bits) != address {
        place.invalid("must not have bits set beyond the prefix length", errors);
    }
    Some((masked(address, bits), bits))
}

/// A network in canonical form.
pub(super) fn strict_cidr(place: &Place<'_>, errors: &mut Errors) -> Option<(IpAddr, u8)> {
    let before = errors.len();
    let (first, bits) = cidr(place, errors)?;
    let canonical = format!("{first}/{bits}");
    if errors.len() == before && canonical != place.text() {
        place.invalid(format!("must be in canonical form ({canonical:?})"), errors);
    }
    (errors.len() == before).then_some((first, bits))
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

/// Whether an address lies in a network.
pub(super) fn within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    address.is_ipv4() == network.is_ipv4() && masked(address, bits) == network
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_and_networks_are_judged_with_upstreams_sentences() {
        let value = |text: &str| json!(text);
        let found = |text: &str, rule: &dyn Fn(&Place<'_>, &mut Errors)| {
            let (value, mut errors) = (value(text), Errors::new());
            rule(&Place::new("x", &value), &mut errors);
            errors.first().map(|error| error.detail.clone()).unwrap_or_default()
        };
        for (text, why) in [
            ("10.0.0.1", ""),
            ("FE80::1", ""),
            ("010.0.0.1", "must not have leading 0s"),
            ("::ffff:1.2.3.4", "must not be an IPv4-mapped IPv6 address"),
            ("1.2.3", NOT_AN_ADDRESS),
        ] {
            assert_eq!(found(text, &|place, errors| _ = ip(place, errors)), why, "{text}");
        }
        assert_eq!(canonical("FE80::1"), Err("must be in canonical form (\"fe80::1\")".into()));
        for (text, why) in [
            ("10.0.0.0/8", ""),
            ("10.0.0.1/8", "must not have bits set beyond the prefix length"),
            ("10.0.0.0/08", "must not have leading 0s in IP or prefix length"),
            ("fd00:0::/64", "must be in canonical form (\"fd00::/64\")"),
            ("10.0.0.0/33", NOT_A_CIDR),
            ("0.0.0.0/0", ""),
            ("::/0", ""),
        ] {
            assert_eq!(found(text, &|place, errors| _ = strict_cidr(place, errors)), why, "{text}");
        }
    }
}
