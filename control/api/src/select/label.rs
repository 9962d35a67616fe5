//! Label selectors: the text of a request (`a=b,c in (d,e),!f`) and the `LabelSelector` of an object.

use std::fmt;

use serde_json::Value;

use crate::object::{at, items, members, text};
use crate::status::Status;
use crate::validation::names;

/// How a requirement compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The label is there and its value is one of those given.
    In,
    /// The label is not there or its value is none of those given.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
    /// The label's value is a whole number above the one given.
    GreaterThan,
    /// The label's value is a whole number below the one given.
    LessThan,
}

/// One condition on labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// How it compares.
    pub operator: Operator,
    /// What it compares with.
    pub values: Vec<String>,
}

impl Requirement {
    fn matches(&self, value: Option<&str>) -> bool {
        let numbers = || Some((value?.parse::<i64>().ok()?, self.values.first()?.parse::<i64>().ok()?));
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.iter().any(|one| one == value)),
            Operator::NotIn => value.is_none_or(|value| self.values.iter().all(|one| one != value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => numbers().is_some_and(|(value, bound)| value > bound),
            Operator::LessThan => numbers().is_some_and(|(value, bound)| value < bound),
        }
    }
}

/// Conditions that all must hold; none holds for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

impl LabelSelector {
    /// Reads the text of a request.
    ///
    /// # Errors
    /// 400 with upstream's words when the text is no selector or a key or value is not valid.
    pub fn parse(text: &str) -> Result<Self, Status> {
        let requirements = Parser { rest: text }.requirements().map_err(Status::bad_request)?;
        Ok(Self { requirements })
    }

    /// Reads `{matchLabels, matchExpressions}`. Null selects nothing and gives `None`.
    pub fn from_object(selector: &Value) -> Option<Self> {
        selector.as_object()?;
        let mut requirements = Vec::new();
        for (key, value) in members(selector, &["matchLabels"]) {
            requirements.push(Requirement {
                key: key.clone(),
                operator: Operator::In,
                values: vec![value.as_str().unwrap_or_default().to_owned()],
            });
        }
        for expression in items(selector, &["matchExpressions"]) {
            let operator = match text(expression, &["operator"]) {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                _ => return None,
            };
            let values =
                items(expression, &["values"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
            requirements.push(Requirement { key: text(expression, &["key"]).to_owned(), operator, values });
        }
        Some(Self { requirements })
    }

    /// Reads a plain map of labels, as a Service's selector is. Null or an empty map selects nothing and gives `None`.
    pub fn from_map(labels: &Value) -> Option<Self> {
        let labels = labels.as_object().filter(|labels| !labels.is_empty())?;
        let requirements = labels
            .iter()
            .map(|(key, value)| Requirement {
                key: key.clone(),
                operator: Operator::In,
                values: vec![value.as_str().unwrap_or_default().to_owned()],
            })
            .collect();
        Some(Self { requirements })
    }

    /// Whether an object's labels meet all conditions.
    pub fn matches(&self, object: &Value) -> bool {
        self.matches_labels(at(object, &["metadata", "labels"]))
    }

    /// Whether these labels meet all conditions.
    pub fn matches_labels(&self, labels: Option<&Value>) -> bool {
        let labels = labels.and_then(Value::as_object);
        self.matches_by(|key| labels?.get(key)?.as_str())
    }

    /// Whether the labels that `value_of` tells meet all conditions.
    pub fn matches_by<'a>(&self, value_of: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|one| one.matches(value_of(&one.key)))
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The conditions.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, one) in self.requirements.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            let values = one.values.join(",");
            match (one.operator, one.values.as_slice()) {
                (Operator::In, [value]) => write!(f, "{}={value}", one.key)?,
                (Operator::In, _) => write!(f, "{} in ({values})", one.key)?,
                (Operator::NotIn, [value]) => write!(f, "{}!={value}", one.key)?,
                (Operator::NotIn, _) => write!(f, "{} notin ({values})", one.key)?,
                (Operator::Exists, _) => write!(f, "{}", one.key)?,
                (Operator::DoesNotExist, _) => write!(f, "!{}", one.key)?,
                (Operator::GreaterThan, _) => write!(f, "{}>{values}", one.key)?,
                (Operator::LessThan, _) => write!(f, "{}<{values}", one.key)?,
            }
        }
        Ok(())
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn requirements(mut self) -> Result<Vec<Requirement>, String> {
        let mut all = Vec::new();
        self.space();
        if self.rest.is_empty() {
            return Ok(all);
        }
        loop {
            if self.rest.starts_with(SYMBOLS) && !self.rest.starts_with('!') || self.rest.starts_with("!=") {
                let found = self.next_token();
                return Err(format!("found '{found}', expected: !, identifier, or 'end of string'"));
            }
            let one = self.requirement();
            all.push(one.map_err(|why| format!("unable to parse requirement: {why}"))?);
            self.space();
            if self.rest.is_empty() {
                return Ok(all);
            }
            self.expect(',', "',' or 'end of string'")?;
            self.space();
            let next = self.next_token();
            if next.is_empty() || next.starts_with(SYMBOLS) && next != "!" {
                return Err(format!("found '{next}', expected: identifier after ','"));
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let absent = self.take('!');
        self.space();
        let key = self.word();
        if key.is_empty() {
            return Err(format!("found '{}', expected: identifier", self.next_token()));
        }
        names::label_key(key).map_err(|why| format!("<nil>: Invalid value: {key:?}: {why}"))?;
        let key = key.to_owned();
        self.space();
        if absent {
            return Ok(Requirement { key, operator: Operator::DoesNotExist, values: Vec::new() });
        }
        if self.rest.is_empty() || self.rest.starts_with(',') {
            return Ok(Requirement { key, operator: Operator::Exists, values: Vec::new() });
        }
        let (operator, set) = self.operator()?;
        self.space();
        let values = if set { self.set()? } else { vec![self.word().to_owned()] };
        check_values(&key, operator, &values)?;
        Ok(Requirement { key, operator, values })
    }

    fn operator(&mut self) -> Result<(Operator, bool), String> {
        let symbols = [
            ("==", Operator::In),
            ("!=", Operator::NotIn),
            ("=", Operator::In),
            (">", Operator::GreaterThan),
            ("<", Operator::LessThan),
        ];
        for (symbol, operator) in symbols {
            if let Some(rest) = self.rest.strip_prefix(symbol) {
                self.rest = rest;
                return Ok((operator, false));
            }
        }
        match self.word() {
            "in" => Ok((Operator::In, true)),
            "notin" => Ok((Operator::NotIn, true)),
            "" => Err(format!("found '{}', expected: in, notin, =, ==, !=, gt, lt", self.next_token())),
            other => Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt")),
        }
    }

    fn set(&mut self) -> Result<Vec<String>, String> {
        if !self.take('(') {
            return Err(format!("found '{}' expected: '('", self.next_token()));
        }
        let mut values = Vec::new();
        loop {
            self.space();
            if self.rest.is_empty() {
                return Err("found '', expected: ',', ')' or identifier".into());
            }
            values.push(self.word().to_owned());
            self.space();
            if self.take(')') {
                return Ok(values);
            }
            self.expect(',', "',' or ')'")?;
        }
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    fn word(&mut self) -> &'a str {
        let ends = |c: char| SYMBOLS.contains(&c) || matches!(c, ' ' | '\t' | '\r' | '\n');
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn take(&mut self, symbol: char) -> bool {
        match self.rest.strip_prefix(symbol) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, symbol: char, what: &str) -> Result<(), String> {
        if self.take(symbol) {
            Ok(())
        } else {
            Err(format!("found '{}', expected: {what}", self.next_token()))
        }
    }

    fn next_token(&self) -> &'a str {
        let mut probe = Parser { rest: self.rest };
        if self.rest.starts_with("==") || self.rest.starts_with("!=") {
            return &self.rest[..2];
        }
        match probe.word() {
            "" => self.rest.get(..self.rest.chars().next().map_or(0, char::len_utf8)).unwrap_or_default(),
            word => word,
        }
    }
}

/// What ends a word beside spaces.
const SYMBOLS: [char; 7] = ['=', '!', '(', ')', ',', '>', '<'];

fn check_values(key: &str, operator: Operator, values: &[String]) -> Result<(), String> {
    for value in values {
        if matches!(operator, Operator::GreaterThan | Operator::LessThan) {
            value.parse::<i64>().map_err(|_| {
                format!("values[0]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer")
            })?;
        }
        names::label_value(value)
            .map_err(|why| format!("values[0][{key}]: Invalid value: {value:?}: {why}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(selector: &str, labels: Value, expected: bool) {
        let parsed = LabelSelector::parse(selector).unwrap();
        assert_eq!(parsed.matches(&json!({"metadata": {"labels": labels}})), expected, "{selector}");
    }

    #[test]
    fn selector_with_each_operator_matches_as_upstream_does() {
        check("", json!(null), true);
        check("a=b", json!({"a": "b"}), true);
        check("a == b", json!({"a": "b"}), true);
        check("a!=b", json!({}), true);
        check("a!=b", json!({"a": "b"}), false);
        check("a in (b, c)", json!({"a": "c"}), true);
        check("a notin (b,c)", json!({"a": "d"}), true);
        check("a notin (b,c)", json!({}), true);
        check("a", json!({"a": ""}), true);
        check("!a", json!({"a": ""}), false);
        check("a=", json!({"a": ""}), true);
        check("a>3", json!({"a": "4"}), true);
        check("a<3", json!({"a": "4"}), false);
        check("a=b,c", json!({"a": "b", "c": "x"}), true);
        check("example.com/x in (y),!z", json!({"example.com/x": "y"}), true);
    }

    #[test]
    fn selector_with_bad_text_is_a_bad_request() {
        for text in
            ["a=b,", "a in b", "a in (b", "=b", "a b", ",", "!!a", "a=b=c", "A B=c", "a/b/c=d", "a>x", "ä=b"]
        {
            let status = LabelSelector::parse(text).unwrap_err();
            assert_eq!(status.code, 400, "{text}");
        }
    }

    #[test]
    fn selector_of_an_object_joins_labels_and_expressions() {
        let selector = LabelSelector::from_object(&json!({
            "matchLabels": {"a": "b"},
            "matchExpressions": [{"key": "c", "operator": "In", "values": ["d"]}]
        }))
        .unwrap();
        assert!(selector.matches(&json!({"metadata": {"labels": {"a": "b", "c": "d"}}})));
        assert!(!selector.matches(&json!({"metadata": {"labels": {"a": "b"}}})));
        assert!(LabelSelector::from_object(&json!(null)).is_none());
        assert_eq!(selector.to_string(), "a=b,c=d");
    }

    proptest::proptest! {
        #[test]
        fn selector_from_any_text_never_panics_and_prints_what_it_read(text in "[a-c=!,() <>inot]{0,24}") {
            if let Ok(selector) = LabelSelector::parse(&text) {
                proptest::prop_assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
            }
        }

        #[test]
        fn selector_from_hostile_text_never_panics(text in ".{0,40}") {
            let _ = LabelSelector::parse(&text);
        }
    }
}
