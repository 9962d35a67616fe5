//! Regular expressions of schemas. They are written for Go's RE2, whose `\d`, `\w` and `\s` know ASCII alone.

use regex::{Regex, RegexBuilder};

/// A compiled expression may have so many bytes; a repetition of a repetition is soon large.
const LARGEST: usize = 16 << 20;

/// Compiles an expression.
///
/// # Errors
/// Why it is none.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(&ascii_classes(pattern)).size_limit(LARGEST).build().map_err(|why| match why {
        regex::Error::CompiledTooBig(_) => "expression is too large".to_owned(),
        why => why.to_string().lines().last().unwrap_or_default().trim().to_owned(),
    })
}

fn ascii_classes(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('d') => out.push_str("[0-9]"),
            Some('D') => out.push_str("[^0-9]"),
            Some('w') => out.push_str("[0-9A-Za-z_]"),
            Some('W') => out.push_str("[^0-9A-Za-z_]"),
            Some('s') => out.push_str(r"[\t\n\f\r ]"),
            Some('S') => out.push_str(r"[^\t\n\f\r ]"),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_of_ascii() {
        let pattern = compile(r"^[\w-]+:\d{1,3}\\d$").unwrap();
        assert!(pattern.is_match(r"a_b-c:12\d"));
        assert!(!pattern.is_match(r"ä:12\d") && !pattern.is_match(r"a:١\d"));
        assert!(compile("(").is_err());
        assert_eq!(compile("(a{1000}){1000}{1000}").unwrap_err(), "expression is too large");
    }
}
