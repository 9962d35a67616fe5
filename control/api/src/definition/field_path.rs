//! Paths to a field of a schema, as rules and selectable fields have them: `.spec.name`, `['name']`.

use serde_json::Value;

use crate::object::{at, members};

/// The names of a path and the schema that it leads to. `quoted`: whether names may stand in brackets.
///
/// # Errors
/// Why it leads nowhere.
pub(super) fn find<'a>(
    path: &str,
    schema: &'a Value,
    quoted: bool,
) -> Result<(Vec<String>, &'a Value), String> {
    let end = || "unexpected end of JSON path".to_owned();
    let (mut names, mut schema, mut tokens) = (Vec::new(), schema, tokens(path).into_iter());
    while let Some(token) = tokens.next() {
        let name = match token {
            "." => tokens.next().ok_or_else(end)?.to_owned(),
            "[" if !quoted => return Err("array notation is not allowed".into()),
            "[" => {
                let token = tokens.next().ok_or_else(end)?;
                let inner = token.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
                let inner = inner.ok_or_else(|| format!("expected single quoted string but got {token}"))?;
                match tokens.next().ok_or_else(end)? {
                    "]" => inner.replace("\\'", "'").replace("\\\\", "\\"),
                    other => return Err(format!("expected ] but got {other}")),
                }
            }
            other => return Err(format!("expected [ or . but got: {other}")),
        };
        schema = member(schema, &name).ok_or("does not refer to a valid field")?;
        names.push(name);
    }
    Ok((names, schema))
}

fn member<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    match members(schema, &["properties"]).next() {
        Some(_) => schema["properties"].get(name),
        None => at(schema, &["additionalProperties"]).filter(|inner| inner.is_object()),
    }
}

/// The delimiters of a path, and what is between them; a text in quotes is whole.
fn tokens(path: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        let size = match first {
            '.' | '[' | ']' => 1,
            '\'' => {
                let closes = |at: &usize| rest.as_bytes()[*at] == b'\'' && rest.as_bytes()[*at - 1] != b'\\';
                (1..rest.len()).find(closes).map_or(rest.len(), |at| at + 1)
            }
            _ => rest.find(['.', '[', ']']).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(size);
        tokens.push(token);
        rest = after;
    }
    tokens
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn path_leads_to_a_field_or_says_why_not() {
        let text = json!({ "type": "string" });
        let schema = json!({ "properties": { "a": { "properties": { "b.c": text } }, "m": { "additionalProperties": text } } });
        let names = |path: &str| find(path, &schema, true).map(|(names, _)| names.join("/"));
        assert_eq!(names(".a['b.c']").as_deref(), Ok("a/b.c"));
        assert_eq!(names(".m.any").as_deref(), Ok("m/any"));
        assert_eq!(names(".a.z").unwrap_err(), "does not refer to a valid field");
        assert_eq!(names("a").unwrap_err(), "expected [ or . but got: a");
        assert_eq!(names(".a[0]").unwrap_err(), "expected single quoted string but got 0");
        assert_eq!(names(".a['b.c'").unwrap_err(), "unexpected end of JSON path");
        assert_eq!(names(".").unwrap_err(), "unexpected end of JSON path");
        assert_eq!(find(".a[0]", &schema, false).unwrap_err(), "array notation is not allowed");
    }
}
