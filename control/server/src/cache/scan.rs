//! Finding a member of a JSON object in its bytes without parsing them.
//!
//! Trusts the bytes to be JSON: of other bytes it may find anything, but never panics.

use std::ops::Range;

use memchr::memchr2;

/// Where the value of a member of the outermost object lies.
pub(crate) fn member(json: &[u8], name: &[u8]) -> Option<Range<usize>> {
    let mut at = expect(json, skip_space(json, 0), b'{')?;
    loop {
        at = skip_space(json, at);
        let key = at + 1..skip_string(json, at)? - 1;
        at = expect(json, skip_space(json, key.end + 1), b':')?;
        at = skip_space(json, at);
        let end = skip_value(json, at)?;
        if json.get(key)? == name {
            return Some(at..end);
        }
        at = expect(json, skip_space(json, end), b',')?;
    }
}

/// A member of the outermost object that is text without escapes.
pub(crate) fn text<'a>(json: &'a [u8], name: &[u8]) -> Option<&'a str> {
    let quoted = &json[member(json, name)?];
    std::str::from_utf8(quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?).ok()
}

/// Whether the outermost object has nothing but members of these names before the one whose value lies at `value`.
pub(crate) fn is_headed_by(json: &[u8], value: usize, names: &[&[u8]]) -> bool {
    let head = || {
        let mut at = expect(json, skip_space(json, 0), b'{')?;
        loop {
            at = skip_space(json, at);
            let key = at + 1..skip_string(json, at)? - 1;
            at = skip_space(json, expect(json, skip_space(json, key.end + 1), b':')?);
            if at == value {
                return Some(());
            }
            names.contains(&json.get(key)?).then_some(())?;
            at = expect(json, skip_space(json, skip_value(json, at)?), b',')?;
        }
    };
    head().is_some()
}

/// The members of the outermost object, each with its name, without those of these names.
pub(crate) fn members_without<'a>(json: &'a [u8], names: &[&[u8]]) -> Option<Vec<&'a [u8]>> {
    let mut members = Vec::new();
    let mut at = skip_space(json, expect(json, skip_space(json, 0), b'{')?);
    if expect(json, at, b'}').is_some() {
        return Some(members);
    }
    loop {
        let (start, key) = (at, at + 1..skip_string(json, at)? - 1);
        let value = skip_space(json, expect(json, skip_space(json, key.end + 1), b':')?);
        let end = skip_value(json, value)?;
        if !names.contains(&json.get(key)?) {
            members.push(json.get(start..end)?);
        }
        at = skip_space(json, end);
        match json.get(at)? {
            b'}' => return Some(members),
            b',' => at = skip_space(json, at + 1),
            _ => return None,
        }
    }
}

fn skip_space(json: &[u8], at: usize) -> usize {
    json.get(at..).map_or(at, |rest| at + rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count())
}

fn expect(json: &[u8], at: usize, byte: u8) -> Option<usize> {
    (json.get(at) == Some(&byte)).then_some(at + 1)
}

/// The position behind the string that starts at `at`.
fn skip_string(json: &[u8], at: usize) -> Option<usize> {
    let mut at = expect(json, at, b'"')?;
    loop {
        at += memchr2(b'"', b'\\', json.get(at..)?)?;
        match json[at] {
            b'"' => return Some(at + 1),
            _ => at += 2,
        }
    }
}

/// The position behind the value that starts at `at`.
fn skip_value(json: &[u8], mut at: usize) -> Option<usize> {
    match json.get(at)? {
        b'"' => skip_string(json, at),
        b'{' | b'[' => {
            let mut depth = 0usize;
            loop {
                match json.get(at)? {
                    b'"' => {
                        at = skip_string(json, at)?;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => {
                        depth -= 1;
                        if depth == 0 {
                            return Some(at + 1);
                        }
                    }
                    _ => {}
                }
                at += 1;
            }
        }
        _ => {
            let length = json[at..]
                .iter()
                .take_while(|byte| !matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\t' | b'\r'))
                .count();
            (length > 0).then_some(at + length)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: Option<&str>) {
        assert_eq!(member(json.as_bytes(), b"metadata").map(|span| &json[span]), expected, "{json}");
    }

    #[test]
    fn member_of_the_outermost_object_is_found() {
        check(r#"{"metadata":{"a":1}}"#, Some(r#"{"a":1}"#));
        check(
            r#" { "spec" : {"metadata":{"x":"}"}}, "n":-1.5e3,"t":true, "metadata" : [1,"]"] } "#,
            Some(r#"[1,"]"]"#),
        );
        check(r#"{"a\"metadata":1,"metadata":"b\\"}"#, Some(r#""b\\""#));
    }

    #[test]
    fn head_is_of_these_names_alone_or_not() {
        let headed = |json: &str| {
            let value = member(json.as_bytes(), b"metadata").map_or(usize::MAX, |span| span.start);
            is_headed_by(json.as_bytes(), value, &[b"kind", b"apiVersion"])
        };
        assert!(headed(r#"{"kind":"A","apiVersion":"v1","metadata":{"name":"a"},"spec":{}}"#));
        assert!(headed(r#" { "apiVersion" : "v1" , "kind" : "A" , "metadata" : {} } "#));
        assert!(headed(r#"{"metadata":{}}"#));
        assert!(!headed(r#"{"apiVersion":"v1","data":{},"metadata":{}}"#));
        assert!(!headed(r#"{"kind":"A"}"#) && !headed(""));
    }

    #[test]
    fn members_of_other_names_are_left() {
        let left = |json: &str| {
            let members = members_without(json.as_bytes(), &[b"kind", b"apiVersion"])?;
            Some(String::from_utf8(members.join(&b',')).unwrap())
        };
        for (json, expected) in [
            ("{}", Some("")),
            (
                r#"{"apiVersion":"v1","data":{"kind":"x","a":"}"},"kind":"A","metadata":{}}"#,
                Some(r#""data":{"kind":"x","a":"}"},"metadata":{}"#),
            ),
            (r#" { "kind" : 1 , "a" : [1,{"b":2}] } "#, Some(r#""a" : [1,{"b":2}]"#)),
            (r#"{"kind":1"#, None),
            ("[]", None),
            ("", None),
        ] {
            assert_eq!(left(json).as_deref(), expected, "{json}");
        }
    }

    #[test]
    fn member_that_is_not_there_is_not_found() {
        for json in [
            "",
            "{",
            "{}",
            "[]",
            r#"{"a":{"metadata":1}}"#,
            r#"{"metadata"#,
            r#"{"metadata":"#,
            r#"{"metadata":{"#,
            r#"{"a":"\"#,
            "{\"a\":]",
        ] {
            check(json, None);
        }
    }
}
