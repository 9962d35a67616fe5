//! From the bytes of a request to an object: JSON or YAML into a value, the value against the schema of its kind.
//!
//! Wrong types are refused, unknown fields are taken out and, on demand, reported or refused, duplicate fields likewise.
//! Amounts and times come out in canonical form and nulls are gone, as after a round trip through upstream's types.

pub(crate) mod check;
mod expected;
mod syntax;
mod time;
mod value;
mod zero;

use serde_json::Value;

use crate::object::set;
use crate::registry::{Resource, Subresource, schema_name};
use crate::schema::{Schema, Types};
use crate::status::Status;
use expected::Expected;

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
    /// Reads the query parameter; empty is the default, any other word than the three is none.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Warn" => Some(Self::Warn),
            "Ignore" => Some(Self::Ignore),
            "Strict" => Some(Self::Strict),
            _ => None,
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
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
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

/// The type of a value in the words of upstream's decoder: `number`, `array`.
pub fn json_type(value: &Value) -> &'static str {
    check::json_type(value)
}

/// What is wrong with a text that is no JSON, in upstream's words.
pub fn json_error(text: &[u8]) -> String {
    syntax::error(text).unwrap_or_else(|| "invalid JSON".to_owned())
}

/// Checks a value against the schema of its resource: wrong types are an error, unknown fields go. Fills in `apiVersion`
/// and `kind` where they are missing. Returns the warnings to send.
///
/// # Errors
/// 400 with upstream's words: another kind or version than expected, a wrong type, an unknown field under `Strict`.
pub fn check(resource: &Resource, value: &mut Value, mode: FieldValidation) -> Result<Vec<String>, Status> {
    Expected::of(resource).check(value, Vec::new(), Vec::new(), mode)
}

/// The same of what a patch made, whose text had these problems.
///
/// # Errors
/// As of [`check`]; under `Strict` also for the problems of the text.
pub fn check_patched(
    resource: &Resource,
    value: &mut Value,
    problems: Vec<String>,
    mode: FieldValidation,
) -> Result<Vec<String>, Status> {
    Expected::of(resource).check(value, problems, Vec::new(), mode)
}

/// What is told in warnings of the problems of a text: those of YAML line by line.
pub fn told(problems: Vec<String>) -> Vec<String> {
    let lines = |problem: String| match problem.strip_prefix(value::YAML_ERRORS) {
        Some(lines) => lines.lines().map(|line| line.trim().to_owned()).collect(),
        None => vec![problem],
    };
    problems.into_iter().flat_map(lines).collect()
}

/// Takes out what upstream's types leave out when they are written: empty lists, maps and texts, zeros and `false` of
/// fields that are `omitempty`.
pub fn omit_zeros(resource: &Resource, value: &mut Value) {
    zero::omit(&resource.schema, value);
}

/// Puts in what upstream's types have when nobody has set it: the zeros of fields that are not `omitempty`, and objects
/// that are no pointers. Custom resources have no such fields.
pub fn fill_zeros(resource: &Resource, value: &mut Value) {
    if resource.custom.is_none() {
        zero::fill(&resource.schema, value);
    }
}

/// Brings an object into the form that it has after upstream has stored it: empty lists that are written in any case are
/// null.
pub fn settle_zeros(resource: &Resource, value: &mut Value) {
    if resource.custom.is_none() {
        zero::settle(&resource.schema, value);
    }
}

/// An object of this kind in which nothing is set, as upstream has it before the first write: what a new object is
/// compared with. It has no `apiVersion` and no `kind`.
pub fn nothing_set(resource: &Resource) -> Value {
    let mut value = Value::Object(serde_json::Map::new());
    fill_zeros(resource, &mut value);
    value
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
    Expected::of(resource).read(body, encoding, mode)
}

/// What somebody applies.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The object, without what the schema does not know.
    pub value: Value,
    /// A sentence on each of that, and on each value of a wrong type, in the words of server-side apply.
    pub undeclared: Vec<String>,
    /// A sentence on the duplicate fields of its text.
    pub duplicates: Vec<String>,
}

/// Reads the body of a server-side apply.
///
/// # Errors
/// 400 when it is no YAML, of another kind, or of a wrong type.
pub fn applied(resource: &Resource, body: &[u8]) -> Result<Applied, Status> {
    Expected::of(resource).applied(body)
}

/// The body of a subresource whose kind is another than the resource's, such as `Scale` or `Binding`.
///
/// # Errors
/// 400 as of [`object`], and when the subresource's kind has no schema of its own.
pub fn subresource(
    resource: &Resource,
    subresource: &Subresource,
    body: &[u8],
    encoding: Encoding,
    mode: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let name = schema_name(&subresource.group, &subresource.version, &subresource.kind);
    let root = resource.schema.types.find(&name).ok_or_else(|| {
        Status::bad_request(format!("{} of {} takes no object", subresource.name, resource.qualified()))
    })?;
    let schema = Schema { types: resource.schema.types.clone(), root };
    let (group, version, kind) = (&subresource.group, &subresource.version, &subresource.kind);
    Expected { group, version, kind, schema: &schema, custom: None }.read(body, encoding, mode)
}

/// The body of a deletion: `DeleteOptions`, of whatever group it says.
///
/// # Errors
/// 400 when it is of another kind, or of a wrong type.
pub fn delete_options(body: &[u8], encoding: Encoding) -> Result<Value, Status> {
    const NAME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
    let parsed = value::read_expected(body, encoding, "meta.k8s.io/v1", "DeleteOptions");
    let mut value = parsed.map_err(Status::bad_request)?.value;
    let types = Types::builtin();
    let root = types.find(NAME).ok_or_else(|| Status::internal("there is no schema of DeleteOptions"))?;
    let schema = Schema { types, root };
    let (group, version, kind) = ("meta.k8s.io", "v1", "DeleteOptions");
    let said = |member: &str| value[member].as_str().filter(|text| !text.is_empty());
    if let Some(other) = said("kind").filter(|other| *other != kind) {
        let of = said("apiVersion").unwrap_or("meta.k8s.io/v1");
        let why = format!("no kind {other:?} is registered for version {of:?} in scheme \"skep\"");
        return Err(Status::bad_request(why));
    }
    if value.is_object() {
        set(&mut value, "apiVersion", "meta.k8s.io/v1");
    }
    let expected = Expected { group, version, kind, schema: &schema, custom: None };
    expected.check(&mut value, Vec::new(), Vec::new(), FieldValidation::Ignore).map_err(|mut status| {
        // Options are read by another decoder than objects, which says less.
        let before = "DeleteOptions in version \"v1\" cannot be handled as a DeleteOptions: ";
        if let Some(rest) = status.message.strip_prefix(before) {
            status.message = rest.to_owned();
        }
        status
    })?;
    Ok(value)
}

#[cfg(test)]
mod tests;
