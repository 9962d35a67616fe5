//! From the bytes of a request to an object: JSON or YAML into a value, the value against the schema of its kind.
//!
//! Wrong types are refused, unknown fields are taken out and, on demand, reported or refused, duplicate fields likewise.
//! Amounts and times come out in canonical form and nulls are gone, as after a round trip through upstream's types.

mod check;
mod value;

use serde_json::Value;

use crate::registry::{Resource, join_group_version, registry, split_group_version};
use crate::status::Status;

/// What to do about unknown and duplicate fields (`fieldValidation` of a request).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Take them out silently.
    Ignore,
    /// Take them out and say so: the API server's default.
    #[default]
    Warn,
    /// Refuse the request.
    Strict,
}

impl FieldValidation {
    /// Reads the query parameter; empty is the default.
    ///
    /// # Errors
    /// 400 for any other word.
    pub fn parse(text: &str) -> Result<Self, Status> {
        match text {
            "" | "Warn" => Ok(Self::Warn),
            "Ignore" => Ok(Self::Ignore),
            "Strict" => Ok(Self::Strict),
            other => Err(Status::bad_request(format!(
                "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
            ))),
        }
    }
}

/// How the bytes of a request are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
}

/// A value, and what was odd about its text.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// The value; of duplicate members the last one.
    pub value: Value,
    /// A sentence for each duplicate member, as upstream words it for the encoding.
    pub duplicates: Vec<String>,
}

/// Reads a value from text.
///
/// # Errors
/// 400 when the text is not of that encoding, or is nested deeper than 100 levels.
pub fn parse(body: &[u8], encoding: Encoding) -> Result<Parsed, Status> {
    value::read(body, encoding).map_err(Status::bad_request)
}

/// Checks a value against the schema of its resource: wrong types are an error, unknown fields go. Fills in `apiVersion`
/// and `kind` where they are missing. Returns the warnings to send.
///
/// # Errors
/// 400 with upstream's words: another kind or version than expected, a wrong type, an unknown field under `Strict`.
pub fn check(resource: &Resource, value: &mut Value, mode: FieldValidation) -> Result<Vec<String>, Status> {
    check_with(resource, value, Vec::new(), mode)
}

/// [`parse`] and [`check`] in one, duplicate fields included: what a handler calls.
///
/// # Errors
/// 400 as of the two.
pub fn object(
    resource: &Resource,
    body: &[u8],
    encoding: Encoding,
    mode: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let parsed = value::read(body, encoding).map_err(|why| unrecognized(resource, &why, body))?;
    let mut value = parsed.value;
    let warnings = check_with(resource, &mut value, parsed.duplicates, mode)?;
    Ok((value, warnings))
}

fn check_with(
    resource: &Resource,
    value: &mut Value,
    duplicates: Vec<String>,
    mode: FieldValidation,
) -> Result<Vec<String>, Status> {
    identify(resource, value)?;
    let outcome =
        check::walk(&resource.schema, value).map_err(|why| cannot_handle(resource, resource, &why))?;
    let problems: Vec<String> = duplicates.into_iter().chain(outcome).collect();
    match mode {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(problems),
        FieldValidation::Strict if problems.is_empty() => Ok(Vec::new()),
        FieldValidation::Strict => {
            let why = format!("strict decoding error: {}", problems.join(", "));
            Err(cannot_handle(resource, resource, &why))
        }
    }
}

fn cannot_handle(resource: &Resource, found: &Resource, why: &str) -> Status {
    cannot_handle_as(&found.kind, &found.version, &resource.kind, why)
}

fn cannot_handle_as(kind: &str, version: &str, expected: &str, why: &str) -> Status {
    Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {expected}: {why}"))
}

fn unrecognized(resource: &Resource, why: &str, body: &[u8]) -> Status {
    let mut summary: String = String::from_utf8_lossy(&body[..body.len().min(30)]).into_owned();
    if body.len() > 30 {
        summary.push_str(" ...");
    }
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {}): {why} ({summary})",
        resource.kind
    ))
}

/// `apiVersion` and `kind` must be what the resource has; where they are missing they are filled in.
fn identify(resource: &Resource, value: &mut Value) -> Result<(), Status> {
    let Some(object) = value.as_object_mut() else {
        let found = check::json_type(value);
        let why = format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {found} into Go value of type struct \
             {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
        );
        return Err(unrecognized(resource, &why, value.to_string().as_bytes()));
    };
    let expected_version = resource.group_version();
    let word = |name: &str| -> Result<Option<String>, Status> {
        match object.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(Status::bad_request(format!(
                "the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse error: \
                 json: cannot unmarshal {} into Go struct field .{name} of type string",
                resource.kind,
                check::json_type(other)
            ))),
        }
    };
    let kind = word("kind")?.unwrap_or_else(|| resource.kind.clone());
    let api_version = word("apiVersion")?.unwrap_or_else(|| expected_version.clone());
    if kind != resource.kind || api_version != expected_version {
        return Err(wrong_kind(resource, &api_version, &kind));
    }
    object.insert("kind".into(), kind.into());
    object.insert("apiVersion".into(), api_version.into());
    Ok(())
}

fn wrong_kind(resource: &Resource, api_version: &str, kind: &str) -> Status {
    let (group, version) = split_group_version(api_version);
    let known = registry().find_kind(group, version, kind).is_some();
    if !known {
        let why = format!("no kind {kind:?} is registered for version {api_version:?} in scheme \"skep\"");
        return cannot_handle_as(kind, version, &resource.kind, &why);
    }
    if kind != resource.kind {
        let package =
            |group: &str| group.split('.').next().filter(|one| !one.is_empty()).unwrap_or("core").to_owned();
        let why = format!(
            "converting ({version}.{kind}) to ({}.{}): unknown conversion",
            package(&resource.group),
            resource.kind
        );
        return cannot_handle_as(kind, version, &resource.kind, &why);
    }
    Status::bad_request(format!(
        "the API version in the data ({}) does not match the expected API version ({})",
        join_group_version(group, version),
        resource.group_version()
    ))
}

#[cfg(test)]
mod tests;
