//! Addresses of the web as Go reads them (`net/url`): their parts, or its words for what is wrong.

/// What an address is made of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Url<'a> {
    pub(super) scheme: String,
    pub(super) user: Option<&'a str>,
    pub(super) host: &'a str,
    pub(super) query: &'a str,
    pub(super) fragment: String,
}

/// Reads an address.
///
/// # Errors
/// A sentence that quotes it.
pub(super) fn parse(text: &str) -> Result<Url<'_>, String> {
    let (before, fragment) = text.split_once('#').unwrap_or((text, ""));
    let failed = |of: &str, why: String| format!("parse {of:?}: {why}");
    let mut url = parse_plain(before).map_err(|why| failed(before, why))?;
    url.fragment = unescape(fragment).map_err(|why| failed(text, why))?;
    Ok(url)
}

fn parse_plain(text: &str) -> Result<Url<'_>, String> {
    if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return Err("net/url: invalid control character in URL".into());
    }
    let (scheme, rest) = scheme(text)?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut url = Url { scheme: scheme.to_ascii_lowercase(), query, ..Url::default() };
    if !rest.starts_with('/') {
        if !scheme.is_empty() {
            return Ok(url);
        }
        if rest.split('/').next().unwrap_or_default().contains(':') {
            return Err("first path segment in URL cannot contain colon".into());
        }
    }
    let mut path = rest;
    if let Some(behind) = rest.strip_prefix("//").filter(|_| !scheme.is_empty() || !rest.starts_with("///")) {
        let end = behind.find('/').unwrap_or(behind.len());
        path = &behind[end..];
        let authority = &behind[..end];
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        check_host(host)?;
        if user.is_some_and(|user| !user.bytes().all(is_of_user)) {
            return Err("net/url: invalid userinfo".into());
        }
        (url.user, url.host) = (user, host);
    }
    unescape(path)?;
    Ok(url)
}

/// What comes before the first colon, if it can be a scheme.
fn scheme(text: &str) -> Result<(&str, &str), String> {
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err("missing protocol scheme".into()),
            b':' => return Ok((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

fn check_host(host: &str) -> Result<(), String> {
    let port = match host.starts_with('[') {
        true => {
            let end = host.rfind(']').ok_or("missing ']' in host")?;
            &host[end + 1..]
        }
        false => host.rfind(':').map_or("", |at| &host[at..]),
    };
    let is_port = port.strip_prefix(':').is_some_and(|digits| digits.bytes().all(|one| one.is_ascii_digit()));
    if !port.is_empty() && !is_port {
        return Err(format!("invalid port {port:?} after host"));
    }
    unescape(host)?;
    let allowed =
        |byte: u8| byte >= 0x80 || byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:[]<>\"%".contains(&byte);
    match host.bytes().find(|byte| !allowed(*byte)) {
        Some(byte) => Err(format!("invalid character {:?} in host name", char::from(byte).to_string())),
        None => Ok(()),
    }
}

fn is_of_user(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte)
}

fn unescape(text: &str) -> Result<String, String> {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        if bytes[at] != b'%' {
            out.push(bytes[at]);
            at += 1;
            continue;
        }
        let hex = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        let (Some(high), Some(low)) = (hex(at + 1), hex(at + 2)) else {
            let shown = String::from_utf8_lossy(&bytes[at..bytes.len().min(at + 3)]);
            return Err(format!("invalid URL escape {shown:?}"));
        };
        out.push((high * 16 + low) as u8);
        at += 3;
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_taken_apart_as_go_takes_it_apart() {
        let url = parse("HTTPS://u@a.b:1/c?d#e%20f").unwrap();
        assert_eq!((url.scheme.as_str(), url.user, url.host), ("https", Some("u"), "a.b:1"));
        assert_eq!((url.query, url.fragment.as_str()), ("d", "e f"));
        assert_eq!(parse("https:a").unwrap().host, "");
        for (text, why) in [
            (":x", "parse \":x\": missing protocol scheme"),
            ("1:x", "parse \"1:x\": first path segment in URL cannot contain colon"),
            ("https://[::1", "parse \"https://[::1\": missing ']' in host"),
            ("https://a:b", "parse \"https://a:b\": invalid port \":b\" after host"),
            ("https://a b", "parse \"https://a b\": invalid character \" \" in host name"),
            ("https://a/%zz", "parse \"https://a/%zz\": invalid URL escape \"%zz\""),
        ] {
            assert_eq!(parse(text).unwrap_err(), why);
        }
    }
}
