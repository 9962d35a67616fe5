//! What names, labels and their like may be (`apimachinery/pkg/util/validation`). Each check gives upstream's sentence.

use super::field::FieldError;
use super::place::{Errors, Place};

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
'[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is \
'[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

/// The verdict on a name: the sentence is upstream's.
pub type Verdict = Result<(), String>;

/// Upstream counts bytes and says characters, of all but label values.
fn too_long(limit: usize) -> Verdict {
    Err(format!("must be no more than {limit} characters"))
}

fn lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = bytes.first().is_some_and(|b| lower_alphanumeric(*b))
        && bytes.last().is_some_and(|b| lower_alphanumeric(*b));
    ends && bytes.iter().all(|b| lower_alphanumeric(*b) || *b == b'-')
}

fn is_qualified(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric);
    ends && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// RFC 1123 label of at most 63 bytes.
///
/// # Errors
/// The sentence that says what is wrong.
pub fn dns_label(text: &str) -> Verdict {
    if text.len() > 63 {
        return too_long(63);
    }
    match is_label(text) {
        true => Ok(()),
        false if text.split('.').all(is_label) => Err("must not contain dots".into()),
        false => Err(LABEL.into()),
    }
}

/// RFC 1123 subdomain of at most 253 bytes.
///
/// # Errors
/// The sentence that says what is wrong.
pub fn dns_subdomain(text: &str) -> Verdict {
    if text.len() > 253 {
        return too_long(253);
    }
    if text.split('.').all(is_label) { Ok(()) } else { Err(SUBDOMAIN.into()) }
}

/// RFC 1035 label: as an RFC 1123 label, starting with a letter.
///
/// # Errors
/// The sentence that says what is wrong.
pub fn dns_1035_label(text: &str) -> Verdict {
    if text.len() > 63 {
        return too_long(63);
    }
    let starts = text.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    if starts && is_label(text) { Ok(()) } else { Err(LABEL_1035.into()) }
}

/// `*.` and a subdomain.
///
/// # Errors
/// The sentence that says what is wrong.
pub fn wildcard_subdomain(text: &str) -> Verdict {
    if text.len() > 253 {
        return too_long(253);
    }
    if text.strip_prefix("*.").is_some_and(|rest| rest.split('.').all(is_label)) {
        return Ok(());
    }
    Err("a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower \
         case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used \
         for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        .into())
}

/// A subdomain whose labels may have underscores.
///
/// # Errors
/// The sentence that says what is wrong.
pub fn underscored_subdomain(text: &str) -> Verdict {
    if text.len() > 253 {
        return too_long(253);
    }
    let label = |label: &str| {
        let rest = label.strip_prefix('_').unwrap_or(label);
        let bytes = rest.as_bytes();
        bytes.first().is_some_and(|b| lower_alphanumeric(*b))
            && bytes.last().is_some_and(|b| lower_alphanumeric(*b))
            && bytes.iter().all(|b| lower_alphanumeric(*b) || matches!(b, b'-' | b'_'))
    };
    if text.split('.').all(label) {
        return Ok(());
    }
    Err("a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start \
         and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
         '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')"
        .into())
}

/// An identifier of C.
///
/// # Errors
/// The sentence that says what is wrong.
pub fn c_identifier(text: &str) -> Verdict {
    let starts = text.as_bytes().first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_');
    if starts && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Ok(());
    }
    Err("a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters \
         or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')"
        .into())
}

/// The name of an HTTP header.
///
/// # Errors
/// The sentence that says what is wrong.
pub fn http_header(text: &str) -> Verdict {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Ok(());
    }
    Err("a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for \
         validation is '[-A-Za-z0-9]+')"
        .into())
}

/// A path that begins with a domain, such as `acme.io/foo`.
pub(super) fn domain_path(place: &Place<'_>, errors: &mut Errors) {
    let text = place.text();
    if text.is_empty() {
        return place.required("", errors);
    }
    let Some((host, path)) = text.split_once('/').filter(|(host, path)| !host.is_empty() && !path.is_empty())
    else {
        return place.invalid("must be a domain-prefixed path (such as \"acme.io/foo\")", errors);
    };
    if let Err(why) = dns_subdomain(host) {
        errors.push(FieldError::invalid(&place.path, host, why));
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
    if !path.bytes().all(allowed) {
        let why = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        errors.push(FieldError::invalid(&place.path, path, why));
    }
}

/// A name that can be one part of a path.
///
/// # Errors
/// The sentence that says what is wrong.
pub fn path_segment(text: &str) -> Verdict {
    if text == "." || text == ".." {
        return Err(format!("may not be '{text}'"));
    }
    match text.chars().find(|c| matches!(c, '/' | '%')) {
        Some(c) => Err(format!("may not contain '{c}'")),
        None => Ok(()),
    }
}

/// The key of a label, annotation or taint: `[prefix/]name`.
///
/// # Errors
/// The first sentence that says what is wrong.
pub fn label_key(text: &str) -> Verdict {
    label_key_faults(text).into_iter().next().map_or(Ok(()), Err)
}

/// All that is wrong with the key of a label, annotation or taint.
pub fn label_key_faults(text: &str) -> Vec<String> {
    let (prefix, name) = match text.split_once('/') {
        Some((_, rest)) if rest.contains('/') => {
            let why = "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and \
                end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
                validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' \
                (e.g. 'example.com/MyName')";
            return vec![why.into()];
        }
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    let mut faults = Vec::new();
    match prefix.map(|prefix| (prefix, dns_subdomain(prefix))) {
        Some(("", _)) => faults.push("prefix part must be non-empty".into()),
        Some((long, _)) if long.len() > 253 => {
            faults.push("prefix part must be no more than 253 bytes".into())
        }
        Some((_, Err(why))) => faults.push(format!("prefix part {why}")),
        _ => {}
    }
    if name.is_empty() {
        faults.push("name part must be non-empty".into());
    } else if name.len() > 63 {
        faults.push("name part must be no more than 63 bytes".into());
    }
    if !is_qualified(name) {
        faults.push(QUALIFIED.into());
    }
    faults
}

/// The value of a label: empty or at most 63 bytes of the allowed characters.
///
/// # Errors
/// The sentence that says what is wrong.
pub fn label_value(text: &str) -> Verdict {
    label_value_faults(text).into_iter().next().map_or(Ok(()), Err)
}

/// All that is wrong with the value of a label.
pub fn label_value_faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.len() > 63 {
        faults.push("must be no more than 63 bytes".into());
    }
    if !text.is_empty() && !is_qualified(text) {
        faults.push(VALUE.into());
    }
    faults
}

/// A key of a ConfigMap or Secret.
///
/// # Errors
/// The sentence that says what is wrong.
pub fn config_key(text: &str) -> Verdict {
    if text.len() > 253 {
        return too_long(253);
    }
    match text {
        "." | ".." => return Err(format!("must not be '{text}'")),
        _ if text.starts_with("..") => return Err("must not start with '..'".into()),
        _ => {}
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !text.is_empty() && text.bytes().all(allowed) { Ok(()) } else { Err(CONFIG_KEY.into()) }
}

/// All that is wrong with the name of a port: at most 15 of `a-z0-9-`, at least one letter, no dash at an end and no two
/// together (RFC 6335).
pub fn port_name_faults(text: &str) -> Vec<String> {
    let rules = [
        (text.len() > 15, "must be no more than 15 characters"),
        (
            text.is_empty() || !text.bytes().all(|b| lower_alphanumeric(b) || b == b'-'),
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        ),
        (!text.bytes().any(|b| b.is_ascii_lowercase()), "must contain at least one letter (a-z)"),
        (text.contains("--"), "must not contain consecutive hyphens"),
        (text.starts_with('-') || text.ends_with('-'), "must not begin or end with a hyphen"),
    ];
    rules.into_iter().filter(|(is_so, _)| *is_so).map(|(_, why)| why.to_owned()).collect()
}

/// The name of an environment variable: printable ASCII without `=`.
///
/// # Errors
/// The sentence that says what is wrong.
pub fn environment_name(text: &str) -> Verdict {
    if !text.is_empty() && text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        return Ok(());
    }
    Err("a valid environment variable name must consist only of printable ASCII characters other than '='"
        .into())
}

/// A port: 1 to 65535.
///
/// # Errors
/// The sentence that says what is wrong.
pub fn port_number(port: i64) -> Verdict {
    if (1..=65535).contains(&port) { Ok(()) } else { Err("must be between 1 and 65535, inclusive".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_at_their_limits_are_judged_as_upstream_does() {
        assert!(dns_label(&"a".repeat(63)).is_ok());
        assert_eq!(dns_label(&"a".repeat(64)), Err("must be no more than 63 characters".into()));
        assert_eq!(label_value(&"a".repeat(64)), Err("must be no more than 63 bytes".into()));
        assert_eq!(label_key(&"a".repeat(64)), Err("name part must be no more than 63 bytes".into()));
        let prefixed = format!("{}/a", "a".repeat(254));
        assert_eq!(label_key(&prefixed), Err("prefix part must be no more than 253 bytes".into()));
        for bad in ["", "A", "-a", "a-", "a.b", "a_b", "ä"] {
            assert!(dns_label(bad).is_err(), "{bad}");
        }
        for bad in ["", "a..b", ".a", "a.", "A.b"] {
            assert!(dns_subdomain(bad).is_err(), "{bad}");
        }
        assert!(dns_subdomain("a.b-c.1").is_ok());
        assert!(dns_1035_label("1a").is_err());
        assert!(label_key("example.com/Name_1").is_ok());
        for bad in ["", "/a", "a/", "a/b/c", "A!/b", "-a"] {
            assert!(label_key(bad).is_err(), "{bad}");
        }
        assert!(label_value("").is_ok());
        assert!(port_name_faults("http-1").is_empty());
        for (bad, faults) in
            [("1", 1), ("a--b", 1), ("-a", 1), ("toolongportname-", 2), ("A", 2), ("", 2), ("-", 2)]
        {
            assert_eq!(port_name_faults(bad).len(), faults, "{bad}");
        }
        assert!(config_key("..x").is_err());
        assert!(path_segment("system:node").is_ok());
        assert!(path_segment("a/b").is_err());
    }
}
