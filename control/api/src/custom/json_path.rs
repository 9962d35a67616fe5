//! The paths of printer columns: the part of kubectl's JSONPath that picks values out of an object.
//!
//! Names (`.spec.name`, `['name']`), indices (`[0]`, `[-1]`), ranges (`[1:3]`), all (`[*]`, `.*`), everything below
//! (`..name`) and filters (`[?(@.type=="Ready")]`).

use serde_json::Value;

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Name(String),
    Index(i64),
    Range(Option<i64>, Option<i64>),
    All,
    Below,
    Filter(Filter),
}

#[derive(Clone, Debug, PartialEq)]
struct Filter {
    path: Vec<Step>,
    test: Option<(Test, Value)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Longest path: filters lie within each other, and reading them must not exhaust the stack.
const LONGEST: usize = 500;

/// A path.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct JsonPath(Vec<Step>);

impl JsonPath {
    /// Reads a path that starts with a dot.
    ///
    /// # Errors
    /// Why it is none.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.len() > LONGEST {
            return Err(format!("a path has at most {LONGEST} characters"));
        }
        if text.matches("..").count() > 1 {
            return Err("everything below (..) can be asked for once".to_owned());
        }
        let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
        steps(inner).map(Self)
    }

    /// The values that it leads to, in order.
    pub(crate) fn find<'a>(&self, object: &'a Value) -> Vec<&'a Value> {
        walk(&self.0, object)
    }
}

fn walk<'a>(steps: &[Step], object: &'a Value) -> Vec<&'a Value> {
    let mut found = vec![object];
    for step in steps {
        found = found.into_iter().flat_map(|value| one(step, value)).collect();
    }
    found.retain(|value| !value.is_null());
    found
}

fn one<'a>(step: &Step, value: &'a Value) -> Vec<&'a Value> {
    let children = || -> Vec<&'a Value> {
        match value {
            Value::Array(items) => items.iter().collect(),
            Value::Object(members) => members.values().collect(),
            _ => Vec::new(),
        }
    };
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let place = |at: i64| if at < 0 { list.len() as i64 + at } else { at };
    match step {
        Step::Name(name) => value.get(name).into_iter().collect(),
        Step::Index(at) => usize::try_from(place(*at)).ok().and_then(|at| list.get(at)).into_iter().collect(),
        Step::Range(from, to) => {
            let from = place(from.unwrap_or(0)).clamp(0, list.len() as i64) as usize;
            let to = place(to.unwrap_or(list.len() as i64)).clamp(from as i64, list.len() as i64) as usize;
            list[from..to].iter().collect()
        }
        Step::All => children(),
        Step::Below => {
            let mut all = vec![value];
            for child in children() {
                all.extend(one(step, child));
            }
            all
        }
        Step::Filter(filter) => children().into_iter().filter(|child| filter.holds(child)).collect(),
    }
}

impl Filter {
    fn holds(&self, value: &Value) -> bool {
        let found = walk(&self.path, value);
        let Some((test, wanted)) = &self.test else { return !found.is_empty() };
        let Some(found) = found.first() else { return false };
        let order = match (found.as_f64(), wanted.as_f64(), found.as_str(), wanted.as_str()) {
            (Some(a), Some(b), ..) => a.partial_cmp(&b),
            (_, _, Some(a), Some(b)) => Some(a.cmp(b)),
            _ => (*found == wanted).then_some(std::cmp::Ordering::Equal),
        };
        match test {
            Test::Equal => order.is_some_and(|order| order.is_eq()),
            Test::NotEqual => order.is_none_or(|order| order.is_ne()),
            Test::Less => order.is_some_and(|order| order.is_lt()),
            Test::LessOrEqual => order.is_some_and(|order| order.is_le()),
            Test::Greater => order.is_some_and(|order| order.is_gt()),
            Test::GreaterOrEqual => order.is_some_and(|order| order.is_ge()),
        }
    }
}

fn steps(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("..") {
            steps.push(Step::Below);
            rest = if after.starts_with('[') { after } else { name(after, &mut steps)? };
        } else if let Some(after) = rest.strip_prefix('.') {
            if after.is_empty() && steps.is_empty() {
                break;
            }
            rest = if after.starts_with('[') { after } else { name(after, &mut steps)? };
        } else if let Some(after) = rest.strip_prefix('[') {
            let end = closing(after).ok_or_else(|| format!("unterminated array in {text:?}"))?;
            steps.push(bracket(&after[..end])?);
            rest = &after[end + 1..];
        } else {
            return Err(format!("unrecognized character in {text:?} at {rest:?}"));
        }
    }
    Ok(steps)
}

/// Takes a name that may have escaped characters off the text.
fn name<'a>(text: &'a str, steps: &mut Vec<Step>) -> Result<&'a str, String> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    let mut end = text.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' => {
                end = at;
                break;
            }
            ' ' | '{' | '}' | '(' | ')' | '"' | '\'' | ']' => {
                return Err(format!("unrecognized character {c:?} in {text:?}"));
            }
            c => name.push(c),
        }
    }
    match name.as_str() {
        "" => return Err(format!("a name is missing before {text:?}")),
        "*" => steps.push(Step::All),
        _ => steps.push(Step::Name(name)),
    }
    Ok(&text[end..])
}

/// Where the bracket ends that was opened before the text.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn bracket(text: &str) -> Result<Step, String> {
    let text = text.trim();
    if text == "*" {
        return Ok(Step::All);
    }
    if let Some(filter) = text.strip_prefix("?(").and_then(|text| text.strip_suffix(')')) {
        return self::filter(filter.trim()).map(Step::Filter);
    }
    if let Some(name) = quoted(text) {
        return Ok(Step::Name(name));
    }
    let number = |text: &str| -> Result<Option<i64>, String> {
        match text.trim() {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| format!("invalid array index {text}")),
        }
    };
    match text.split_once(':') {
        Some((from, to)) => Ok(Step::Range(number(from)?, number(to)?)),
        None => number(text)?.map(Step::Index).ok_or_else(|| "an index is missing".to_owned()),
    }
}

fn quoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    (!inner.contains(quote)).then(|| inner.to_owned())
}

fn filter(text: &str) -> Result<Filter, String> {
    let tests = [
        ("==", Test::Equal),
        ("!=", Test::NotEqual),
        ("<=", Test::LessOrEqual),
        (">=", Test::GreaterOrEqual),
        ("<", Test::Less),
        (">", Test::Greater),
    ];
    let path = |text: &str| {
        let inner = text.trim().strip_prefix('@').ok_or_else(|| format!("{text:?} must start with @"))?;
        steps(inner)
    };
    let split = tests.iter().find_map(|(symbol, test)| Some((text.split_once(symbol)?, *test)));
    let Some(((left, right), test)) = split else { return Ok(Filter { path: path(text)?, test: None }) };
    let right = right.trim();
    let wanted = match quoted(right) {
        Some(text) => Value::String(text),
        None => {
            serde_json::from_str(right).map_err(|_| format!("unrecognized value {right:?} in a filter"))?
        }
    };
    Ok(Filter { path: path(left)?, test: Some((test, wanted)) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn path_finds_values_as_kubectl_does() {
        let object = json!({
            "spec": { "names": ["a", "b", "c"], "a.b/c": 1 },
            "status": { "conditions": [
                { "type": "Ready", "status": "True", "n": 3 }, { "type": "Other", "status": "False", "n": 5 }
            ] },
        });
        for (path, expected) in [
            (".spec.names[0]", json!(["a"])),
            (".spec.names[-1]", json!(["c"])),
            (".spec.names[1:]", json!(["b", "c"])),
            (".spec.names[*]", json!(["a", "b", "c"])),
            (r".spec.a\.b/c", json!([1])),
            (".spec['a.b/c']", json!([1])),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
            (".status.conditions[?(@.type == 'Other')].status", json!(["False"])),
            (".status.conditions[?(@.n>=4)].type", json!(["Other"])),
            (".status.conditions[*].type", json!(["Ready", "Other"])),
            ("..type", json!(["Ready", "Other"])),
            (".nothing.at.all", json!([])),
            ("{.spec.names[0]}", json!(["a"])),
        ] {
            let found = JsonPath::parse(path).unwrap();
            assert_eq!(json!(found.find(&object)), expected, "{path}");
        }
    }

    #[test]
    fn paths_that_cost_too_much_are_refused() {
        let deep = format!(".a{}x{}", "[?(@".repeat(10_000), ")]".repeat(10_000));
        assert!(JsonPath::parse(&deep).is_err());
        assert!(JsonPath::parse("..*..*..*").is_err());
    }

    #[test]
    fn text_that_is_no_path_is_refused() {
        for text in ["spec", ".a[", ".a[x]", ".a b", ".a[?(b==1)]", ".a[]"] {
            assert!(JsonPath::parse(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn hostile_text_never_panics(text in "[.\\[\\]@?()a0'\"=<:*-]{0,24}") {
            if let Ok(path) = JsonPath::parse(&text) {
                path.find(&json!({ "a": [{ "a": 0 }, 1, "a"] }));
            }
        }
    }
}
