//! Functions of text.

use std::collections::HashMap;

use ::cel::common::ast::{Expr, IdedExpr, LiteralValue};
use regex::Regex;

use super::infer::Wrong;
use super::{Budget, Fault, Outcome, Value, time, within};
use crate::custom::compile_pattern;

/// The longest text that a function may make (bytes).
const LONGEST: usize = 1 << 20;

pub(super) fn call<'a>(
    name: &str,
    arguments: &[Value<'a>],
    budget: &mut Budget,
) -> Option<Outcome<Value<'a>>> {
    let (first, rest) = arguments.split_first()?;
    match first {
        Value::Text(text) => of_text(name, text, rest, budget),
        Value::List(_) | Value::Json(..) if name == "join" => {
            let between = match rest {
                [] => "",
                [Value::Text(between)] => between,
                _ => return None,
            };
            let items = first.items()?;
            let texts: Option<Vec<String>> = items
                .iter()
                .map(|item| if let Value::Text(text) = item { Some(text.to_string()) } else { None })
                .collect();
            let texts = texts?;
            let size: usize = texts.iter().map(|text| text.len() + between.len()).sum();
            if size > LONGEST {
                return Some(Err(Fault::Cost));
            }
            Some(budget.spend(size as u64 / 12).map(|()| Value::text(texts.join(between))))
        }
        _ => None,
    }
}

fn of_text<'a>(
    name: &str,
    text: &str,
    rest: &[Value<'a>],
    budget: &mut Budget,
) -> Option<Outcome<Value<'a>>> {
    let chars = || text.chars().collect::<Vec<char>>();
    let piece = |from: i64, to: i64| -> Outcome<Value<'a>> {
        let chars = chars();
        let range = usize::try_from(from).ok().zip(usize::try_from(to).ok());
        let found = range.and_then(|(from, to)| chars.get(from..to));
        found
            .map(|found| Value::text(found.iter().collect::<String>()))
            .ok_or_else(|| Fault::error(format!("index out of range: {from}")))
    };
    if let Some(found) = search(name, text, rest, budget) {
        return Some(found);
    }
    Some(match (name, rest) {
        ("lowerAscii", []) => Ok(Value::text(text.to_ascii_lowercase())),
        ("upperAscii", []) => Ok(Value::text(text.to_ascii_uppercase())),
        ("strings.quote", []) => Ok(Value::text(serde_json::Value::from(text).to_string())),
        ("jsonpatch.escapeKey", []) => Ok(Value::text(text.replace('~', "~0").replace('/', "~1"))),
        ("trim", []) => Ok(Value::text(text.trim())),
        ("reverse", []) => Ok(Value::text(text.chars().rev().collect::<String>())),
        ("charAt", [Value::Int(at)]) if *at == chars().len() as i64 => Ok(Value::text("")),
        ("charAt", [Value::Int(at)]) => piece(*at, at.saturating_add(1)),
        ("substring", [Value::Int(from)]) => piece(*from, chars().len() as i64),
        ("substring", [Value::Int(from), Value::Int(to)]) => piece(*from, *to),
        ("replace", [Value::Text(old), Value::Text(new), ..]) => {
            let most = match rest.get(2) {
                Some(Value::Int(most)) if *most >= 0 => *most as usize,
                _ => usize::MAX,
            };
            let count = text.matches(&**old).take(most).count();
            if text.len().saturating_add(count.saturating_mul(new.len())) > LONGEST {
                return Some(Err(Fault::Cost));
            }
            Ok(Value::text(text.replacen(&**old, new, most)))
        }
        ("split", [Value::Text(at), ..]) => {
            let most = match rest.get(1) {
                Some(Value::Int(most)) if *most >= 0 => *most as usize,
                _ => usize::MAX,
            };
            let parts: Vec<Value<'a>> = match (most, at.is_empty()) {
                (0, _) => Vec::new(),
                (_, true) => text.chars().take(most).map(Value::text).collect(),
                _ => text.splitn(most, &**at).map(Value::text).collect(),
            };
            Ok(Value::list(parts))
        }
        ("format", [arguments]) => format(text, &arguments.items()?),
        _ => return None,
    })
}

/// Whether and where something is in a text.
fn search<'a>(name: &str, text: &str, rest: &[Value<'a>], budget: &mut Budget) -> Option<Outcome<Value<'a>>> {
    let truth = |one: bool| Some(Ok(Value::Bool(one)));
    Some(match (name, rest) {
        ("contains", [Value::Text(one)]) => return truth(text.contains(&**one)),
        ("startsWith", [Value::Text(one)]) => return truth(text.starts_with(&**one)),
        ("endsWith", [Value::Text(one)]) => return truth(text.ends_with(&**one)),
        ("matches", [Value::Text(pattern)]) => {
            pattern_of(pattern, budget).map(|one| Value::Bool(one.is_match(text)))
        }
        ("find", [Value::Text(pattern)]) => pattern_of(pattern, budget)
            .map(|one| Value::text(one.find(text).map_or("", |found| found.as_str()))),
        ("findAll", [Value::Text(pattern), ..]) => {
            let most = match rest.get(1) {
                None => usize::MAX,
                Some(Value::Int(most)) => usize::try_from(*most).unwrap_or(usize::MAX),
                Some(_) => return None,
            };
            pattern_of(pattern, budget).map(|one| {
                Value::list(one.find_iter(text).take(most).map(|found| Value::text(found.as_str())).collect())
            })
        }
        ("indexOf", [Value::Text(one)]) => Ok(place(text, text.find(&**one))),
        ("lastIndexOf", [Value::Text(one)]) => Ok(place(text, text.rfind(&**one))),
        _ => return None,
    })
}

/// What it costs to compile a regular expression that is not written in the expression itself.
const COMPILATION: u64 = 10_000;
/// The longest one of these (bytes).
const LONGEST_PATTERN: usize = 4 << 10;

fn pattern_of(pattern: &str, budget: &mut Budget) -> Outcome<Regex> {
    if let Some(known) = budget.known.get(pattern).or_else(|| budget.patterns.get(pattern)) {
        return Ok(known.clone());
    }
    budget.spend(COMPILATION)?;
    if pattern.len() > LONGEST_PATTERN {
        return Err(Fault::Cost);
    }
    let compiled = compile_pattern(pattern).map_err(Fault::error)?;
    budget.patterns.insert(pattern.to_owned(), compiled.clone());
    Ok(compiled)
}

/// Compiles the regular expressions that are written in an expression.
///
/// # Errors
/// When one of them is none.
pub(super) fn written_patterns(
    expression: &IdedExpr,
    patterns: &mut HashMap<String, Regex>,
) -> Result<(), Wrong> {
    if let Expr::Call(call) = &expression.expr
        && matches!(call.func_name.as_str(), "matches" | "find" | "findAll")
        && let Some(IdedExpr { id, expr: Expr::Literal(LiteralValue::String(text)) }) =
            call.args.get(usize::from(call.target.is_none()))
    {
        let text: &str = text.inner();
        let compiled =
            compile_pattern(text).map_err(|_| (*id, format!("invalid {} argument", call.func_name)))?;
        patterns.insert(text.to_owned(), compiled);
    }
    within(expression).into_iter().try_for_each(|one| written_patterns(one, patterns))
}

fn place<'a>(text: &str, at: Option<usize>) -> Value<'a> {
    Value::Int(at.map_or(-1, |at| text[..at].chars().count() as i64))
}

/// The text of `string(...)`.
pub(super) fn text_of(value: &Value<'_>) -> Option<Outcome<String>> {
    Some(Ok(match value {
        Value::Text(text) => text.to_string(),
        Value::Bool(one) => one.to_string(),
        Value::Int(one) => one.to_string(),
        Value::Uint(one) => one.to_string(),
        Value::Double(one) => one.to_string(),
        Value::Time(moment) => moment.to_string(),
        Value::Duration(one) => time::duration_text(*one),
        Value::Address(one) => one.to_string(),
        Value::Network(address, bits) => format!("{address}/{bits}"),
        Value::Quantity(one) => one.to_string(),
        Value::Url(url) => url.to_string(),
        Value::Version(version) => version.to_string(),
        Value::Bytes(bytes) => match String::from_utf8(bytes.to_vec()) {
            Ok(text) => text,
            Err(_) => return Some(Err(Fault::error("invalid UTF-8 in bytes, cannot convert to string"))),
        },
        _ => return None,
    }))
}

/// `%s`, `%d` and `%%`.
fn format<'a>(pattern: &str, arguments: &[Value<'a>]) -> Outcome<Value<'a>> {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('%') => out.push('%'),
            Some('s' | 'd' | 'f') => {
                let value = arguments.next().ok_or_else(|| Fault::error("format: an argument is missing"))?;
                out.push_str(&shown(value)?);
            }
            other => return Err(Fault::error(format!("could not parse formatting clause: {other:?}"))),
        }
        if out.len() > LONGEST {
            return Err(Fault::Cost);
        }
    }
    Ok(Value::text(out))
}

fn shown(value: &Value<'_>) -> Outcome<String> {
    if let Some(items) = value.items() {
        let texts: Vec<String> = items.iter().map(shown).collect::<Outcome<_>>()?;
        return Ok(format!("[{}]", texts.join(", ")));
    }
    match value {
        Value::Null => Ok("null".into()),
        other => text_of(other)
            .unwrap_or_else(|| Err(Fault::error(format!("format: {} has no text", other.type_name())))),
    }
}
