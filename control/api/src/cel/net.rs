//! What text stands for: addresses, networks, URLs.

use std::net::IpAddr;
use std::rc::Rc;

use super::{Fault, Outcome, Value};

pub(super) fn call<'a>(name: &str, arguments: &[Value<'a>]) -> Option<Outcome<Value<'a>>> {
    let (first, rest) = arguments.split_first()?;
    match first {
        Value::Text(text) if rest.is_empty() => of_text(name, text),
        Value::Address(one) => of_address(name, *one, rest),
        Value::Network(address, bits) => of_network(name, *address, *bits, rest),
        Value::Url(url) => of_url(name, url, rest),
        _ => None,
    }
}

fn of_text<'a>(name: &str, text: &str) -> Option<Outcome<Value<'a>>> {
    let wrong = |why: &str| Fault::error(format!("{why}: {text:?}"));
    Some(match name {
        "isIP" => Ok(Value::Bool(address(text).is_some())),
        "ip" => address(text).map(Value::Address).ok_or_else(|| wrong("IP address parse error")),
        "ip.isCanonical" => Ok(Value::Bool(address(text).is_some_and(|one| one.to_string() == text))),
        "isCIDR" => Ok(Value::Bool(network(text).is_some())),
        "cidr" => network(text)
            .map(|(address, bits)| Value::Network(address, bits))
            .ok_or_else(|| wrong("network address parse error")),
        "isURL" => Ok(Value::Bool(is_url(text))),
        "url" if is_url(text) => Ok(Value::Url(Rc::from(text))),
        "url" => Err(wrong("URL parse error")),
        _ => return None,
    })
}

fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let bits: u8 = bits.parse().ok()?;
    (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, bits))
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(one) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((u32::from(one) & mask).into())
        }
        IpAddr::V6(one) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((u128::from(one) & mask).into())
        }
    }
}

fn of_address<'a>(name: &str, one: IpAddr, rest: &[Value<'a>]) -> Option<Outcome<Value<'a>>> {
    Some(Ok(match (name, rest) {
        ("family", []) => Value::Int(if one.is_ipv4() { 4 } else { 6 }),
        ("isLoopback", []) => Value::Bool(one.is_loopback()),
        ("isUnspecified", []) => Value::Bool(one.is_unspecified()),
        ("isGlobalUnicast", []) => {
            let local = match one {
                IpAddr::V4(one) => one.is_link_local() || one.is_broadcast(),
                IpAddr::V6(one) => one.is_unicast_link_local(),
            };
            Value::Bool(!(one.is_loopback() || one.is_unspecified() || one.is_multicast() || local))
        }
        _ => return None,
    }))
}

fn of_network<'a>(name: &str, address: IpAddr, bits: u8, rest: &[Value<'a>]) -> Option<Outcome<Value<'a>>> {
    let holds =
        |one: IpAddr| one.is_ipv4() == address.is_ipv4() && masked(one, bits) == masked(address, bits);
    Some(Ok(match (name, rest) {
        ("prefixLength", []) => Value::Int(i64::from(bits)),
        ("masked", []) => Value::Network(masked(address, bits), bits),
        ("ip", []) => Value::Address(address),
        ("containsIP", [Value::Address(one)]) => Value::Bool(holds(*one)),
        ("containsIP", [Value::Text(text)]) => Value::Bool(holds(self::address(text)?)),
        ("containsCIDR", [Value::Network(one, more)]) => Value::Bool(*more >= bits && holds(*one)),
        ("containsCIDR", [Value::Text(text)]) => {
            let (one, more) = network(text)?;
            Value::Bool(more >= bits && holds(one))
        }
        _ => return None,
    }))
}

fn is_url(text: &str) -> bool {
    let scheme = text.split_once("://").is_some_and(|(scheme, rest)| {
        !rest.is_empty() && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
    });
    !text.contains(char::is_whitespace) && (scheme || text.starts_with('/'))
}

fn of_url<'a>(name: &str, url: &str, rest: &[Value<'a>]) -> Option<Outcome<Value<'a>>> {
    let (scheme, behind) = url.split_once("://").unwrap_or(("", url));
    let end = behind.find(['/', '?', '#']).unwrap_or(behind.len());
    let (host, path) = if scheme.is_empty() { ("", behind) } else { behind.split_at(end) };
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let (name_of_host, port) = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, port),
        _ => (host, ""),
    };
    if !rest.is_empty() {
        return None;
    }
    Some(Ok(match name {
        "getScheme" => Value::text(scheme),
        "getHost" => Value::text(host),
        "getHostname" => Value::text(name_of_host.trim_start_matches('[').trim_end_matches(']')),
        "getPort" => Value::text(port),
        "getEscapedPath" => Value::text(path.split(['?', '#']).next().unwrap_or_default()),
        "getQuery" => query(path),
        _ => return None,
    }))
}

/// The query as a map of lists.
fn query<'a>(path: &str) -> Value<'a> {
    let text = path.split_once('?').map_or("", |(_, query)| query).split('#').next().unwrap_or_default();
    let mut entries: Vec<(String, Vec<Value<'a>>)> = Vec::new();
    for part in text.split('&').filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        match entries.iter_mut().find(|(known, _)| known == key) {
            Some((_, values)) => values.push(Value::text(value)),
            None => entries.push((key.to_owned(), vec![Value::text(value)])),
        }
    }
    let entries = entries.into_iter().map(|(key, values)| (Value::text(key), Value::list(values)));
    Value::Map(Rc::new(entries.collect()))
}
