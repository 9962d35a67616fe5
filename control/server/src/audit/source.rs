//! Where a request comes from, as far as it can be told.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::request::Parts;

/// Longer user agents are cut.
const LONGEST_AGENT: usize = 1024;

/// The addresses of a request: what proxies say of it, then who is connected.
pub(super) fn addresses(parts: &Parts) -> Vec<String> {
    let mut found: Vec<IpAddr> = Vec::new();
    let forwarded = header(&parts.headers, "x-forwarded-for");
    found.extend(forwarded.split(',').filter_map(|one| one.trim().parse::<IpAddr>().ok()));
    if let Ok(real) = header(&parts.headers, "x-real-ip").parse()
        && !found.contains(&real)
    {
        found.push(real);
    }
    if let Some(peer) = parts.extensions.get::<SocketAddr>() {
        // A dual-stack socket shows IPv4 peers as mapped addresses.
        let peer = peer.ip().to_canonical();
        if found.last() != Some(&peer) {
            found.push(peer);
        }
    }
    found.iter().map(ToString::to_string).collect()
}

/// The program that makes the request.
pub(super) fn agent(headers: &HeaderMap) -> String {
    let agent = headers.get(http::header::USER_AGENT).map_or(&[][..], |value| value.as_bytes());
    match agent.get(..LONGEST_AGENT) {
        Some(start) if agent.len() > LONGEST_AGENT => {
            format!("{}...TRUNCATED", String::from_utf8_lossy(start))
        }
        _ => String::from_utf8_lossy(agent).into_owned(),
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn addresses_are_those_of_upstream() {
        let cases: [(&str, &str, &str, &[&str]); 6] = [
            ("", "", "192.0.2.1:5", &["192.0.2.1"]),
            ("", "", "[::ffff:192.0.2.1]:5", &["192.0.2.1"]),
            (
                "198.51.100.1, x,198.51.100.2",
                "",
                "192.0.2.1:5",
                &["198.51.100.1", "198.51.100.2", "192.0.2.1"],
            ),
            ("198.51.100.1", "198.51.100.1", "192.0.2.1:5", &["198.51.100.1", "192.0.2.1"]),
            ("", "198.51.100.9", "192.0.2.1:5", &["198.51.100.9", "192.0.2.1"]),
            ("192.0.2.1", "", "192.0.2.1:5", &["192.0.2.1"]),
        ];
        for (forwarded, real, peer, expected) in cases {
            let mut request = Request::builder();
            for (name, value) in [("x-forwarded-for", forwarded), ("x-real-ip", real)] {
                if !value.is_empty() {
                    request = request.header(name, value);
                }
            }
            let (mut parts, ()) = request.body(()).unwrap().into_parts();
            parts.extensions.insert(peer.parse::<SocketAddr>().unwrap());
            assert_eq!(addresses(&parts), expected, "{forwarded} {real} {peer}");
        }
    }

    #[test]
    fn long_agent_is_cut() {
        let mut headers = HeaderMap::new();
        headers.insert("user-agent", "a".repeat(1025).parse().unwrap());
        let found = agent(&headers);
        assert_eq!((found.len(), found.ends_with("a...TRUNCATED")), (1024 + 12, true));
    }
}
