//! The query of a request: its parameters, with the readings that Kubernetes gives them.

use std::num::{IntErrorKind, ParseIntError};

/// The decoded parameters, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes what follows the question mark. Bytes that are not UTF-8 are replaced. As with Go, a pair counts for nothing
    /// that has a semicolon in it, or a percent sign with anything else than two digits behind it.
    pub fn parse(query: &str) -> Self {
        let good = |pair: &&str| !pair.contains(';') && is_encoded(pair);
        if query.split('&').all(|pair| good(&pair)) {
            return Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect());
        }
        let pairs = query.split('&').filter(good);
        Self(pairs.flat_map(|pair| form_urlencoded::parse(pair.as_bytes()).into_owned()).collect())
    }

    /// The first value of a parameter; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Whether the parameter is there, with whatever value.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// All values of a parameter.
    pub fn all<'a, 'b>(&'a self, name: &'b str) -> impl Iterator<Item = &'a str> + use<'a, 'b> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A truth value as API machinery's conversion reads it: there, and neither `false` nor `0`.
    pub fn flag(&self, name: &str) -> bool {
        self.optional_flag(name).unwrap_or_default()
    }

    /// The same for a parameter whose absence means something else than `false`.
    pub fn optional_flag(&self, name: &str) -> Option<bool> {
        let value = self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())?;
        Some(value != "0" && !value.eq_ignore_ascii_case("false"))
    }

    /// A whole number.
    ///
    /// # Errors
    ///
    /// The text when it is none, and what is wrong with it in Go's words.
    pub fn number(&self, name: &str) -> Result<Option<i64>, (&str, &'static str)> {
        let Some(text) = self.all(name).next() else { return Ok(None) };
        let why = |error: ParseIntError| match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        text.parse().map(Some).map_err(|error| (text, why(error)))
    }
}

/// Whether two hexadecimal digits follow each percent sign.
fn is_encoded(text: &str) -> bool {
    let digits = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    text.split('%').skip(1).all(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_is_read_as_upstream_reads_it() {
        let query = Query::parse("watch=1&pretty&a=x%20y&a=z&limit=5&bad=5x&off=False&none=");
        assert!(query.flag("watch") && query.flag("pretty"));
        assert!(!query.flag("off") && !query.flag("absent"));
        assert_eq!(query.optional_flag("absent"), None);
        assert_eq!(Query::parse("limit=1;x=2&a=%zz&b=%4&c=%41&d=%").0, [("c".to_owned(), "A".to_owned())]);
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["x y", "z"]);
        assert_eq!(
            (query.number("limit"), query.number("bad"), query.number("none"), query.number("absent")),
            (Ok(Some(5)), Err(("5x", "invalid syntax")), Err(("", "invalid syntax")), Ok(None))
        );
    }
}
