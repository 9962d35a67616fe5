//! From the bytes of a request to an object: JSON or YAML into a value, the value against the schema of its kind.
//!
//! Wrong types are refused, unknown fields are taken out and, on demand, reported or refused, duplicate fields likewise.
//! Amounts and times come out in canonical form and nulls are gone, as after a round trip through upstream's types.

mod check;
mod time;
mod value;
mod zero;

use serde_json::Value;

use crate::apply;
use crate::custom::{self, Custom};
use crate::object::{remove, set};
use crate::registry::{
    Resource, Subresource, join_group_version, registry, schema_name, split_group_version,
};
use crate::schema::Schema;
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
    /// 422 for any other word.
    pub fn parse(text: &str) -> Result<Self, Status> {
        match text {
            "" | "Warn" => Ok(Self::Warn),
            "Ignore" => Ok(Self::Ignore),
            "Strict" => Ok(Self::Strict),
            other => Err(Status::new(
                422,
                "Invalid",
                format!(
                    "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: {other:?}: supported \
                     values: \"Ignore\", \"Strict\", \"Warn\""
                ),
            )),
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

/// Checks a value against the schema of its resource: wrong types are an error, unknown fields go. Fills in `apiVersion`
/// and `kind` where they are missing. Returns the warnings to send.
///
/// # Errors
/// 400 with upstream's words: another kind or version than expected, a wrong type, an unknown field under `Strict`.
pub fn check(resource: &Resource, value: &mut Value, mode: FieldValidation) -> Result<Vec<String>, Status> {
    Expected::of(resource).check(value, Vec::new(), Vec::new(), mode)
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
    /// The paths of that, as server-side apply writes them: `.spec.foo`.
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

/// What a body must be.
struct Expected<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
    schema: &'a Schema,
    custom: Option<&'a Custom>,
}

impl<'a> Expected<'a> {
    fn of(resource: &'a Resource) -> Self {
        Self {
            group: &resource.group,
            version: &resource.version,
            kind: &resource.kind,
            schema: &resource.schema,
            custom: resource.custom.as_deref(),
        }
    }

    fn read(
        &self,
        body: &[u8],
        encoding: Encoding,
        mode: FieldValidation,
    ) -> Result<(Value, Vec<String>), Status> {
        let parsed = value::read(body, encoding).map_err(|why| self.unrecognized(&why, body))?;
        let (mut value, duplicates) = (parsed.value, parsed.duplicates);
        // Of YAML duplicates are noticed when it becomes JSON, of JSON when it becomes an object.
        let (before, after) = match encoding {
            Encoding::Yaml => (duplicates, Vec::new()),
            Encoding::Json | Encoding::Protobuf => (Vec::new(), duplicates),
        };
        let warnings = self.check(&mut value, before, after, mode)?;
        Ok((value, warnings))
    }

    fn applied(&self, body: &[u8]) -> Result<Applied, Status> {
        // Clients apply JSON as a rule, which is YAML, too, and is read as JSON at a fraction of the cost. What is wrong
        // with a text is told as of YAML.
        let looks_like_json = body.trim_ascii_start().starts_with(b"{");
        let json = looks_like_json.then(|| value::read(body, Encoding::Json).ok()).flatten();
        let parsed = match json.filter(|parsed| parsed.duplicates.is_empty()) {
            Some(parsed) => parsed,
            None => value::read(body, Encoding::Yaml).map_err(|why| self.unrecognized(&why, body))?,
        };
        let mut value = parsed.value;
        let said = |member: &str| value[member].as_str().unwrap_or_default();
        if said("apiVersion").is_empty() || said("kind").is_empty() {
            // Who applies has to say what: upstream's words for it.
            let (group, version) = said("apiVersion").rsplit_once('/').unwrap_or(("", said("apiVersion")));
            let message = format!("invalid object type: {group}/{version}, Kind={}", said("kind"));
            return Err(Status::bad_request(message));
        }
        self.identify(&mut value)?;
        let undeclared = match self.custom {
            Some(_) => Vec::new(),
            None => apply::undeclared(self.schema, &value),
        };
        let gone = self.prune(&mut value).map_err(|why| self.cannot_handle(self.kind, self.version, &why))?;
        let undeclared = match self.custom {
            Some(_) => gone.into_iter().map(|path| format!(".{path}")).collect(),
            None => undeclared,
        };
        Ok(Applied { value, undeclared, duplicates: parsed.duplicates })
    }

    /// Checks the value; `before` and `after` are problems of its text, told before and after those of its fields.
    fn check(
        &self,
        value: &mut Value,
        before: Vec<String>,
        after: Vec<String>,
        mode: FieldValidation,
    ) -> Result<Vec<String>, Status> {
        self.identify(value)?;
        let unknown = self.prune(value).map_err(|why| self.cannot_handle(self.kind, self.version, &why))?;
        // Quoted, so that no line break gets into a warning header.
        let unknown = unknown.into_iter().map(|path| format!("unknown field {path:?}"));
        let problems: Vec<String> = before.into_iter().chain(unknown).chain(after).collect();
        match mode {
            FieldValidation::Ignore => Ok(Vec::new()),
            FieldValidation::Warn => Ok(problems),
            FieldValidation::Strict if problems.is_empty() => Ok(Vec::new()),
            FieldValidation::Strict => {
                let why = format!("strict decoding error: {}", problems.join(", "));
                Err(self.cannot_handle(self.kind, self.version, &why))
            }
        }
    }

    /// Takes out what the schema does not know, and gives its paths. Of a custom object only the metadata has types that decoding insists on.
    fn prune(&self, value: &mut Value) -> Result<Vec<String>, String> {
        let Some(custom) = self.custom else { return check::walk(self.schema, value) };
        let mut object = serde_json::json!({});
        if let Some(metadata) = remove(value, "metadata") {
            set(&mut object, "metadata", metadata);
        }
        let mut unknown = check::walk(self.schema, &mut object)?;
        unknown.extend(custom::prune(&custom.node, value));
        if let Some(metadata) = remove(&mut object, "metadata") {
            set(value, "metadata", metadata);
        }
        Ok(unknown)
    }

    fn cannot_handle(&self, kind: &str, version: &str, why: &str) -> Status {
        Status::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {}: {why}",
            self.kind
        ))
    }

    fn unrecognized(&self, why: &str, body: &[u8]) -> Status {
        let mut summary = String::from_utf8_lossy(&body[..body.len().min(30)]).into_owned();
        if body.len() > 30 {
            summary.push_str(" ...");
        }
        if body.is_empty() {
            summary.push_str("<empty>");
        }
        let kind = self.kind;
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): {why} ({summary})"
        ))
    }

    /// `apiVersion` and `kind` must be the expected ones; where they are missing they are filled in.
    fn identify(&self, value: &mut Value) -> Result<(), Status> {
        let Some(object) = value.as_object_mut() else {
            let why = format!(
                "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go value of type struct",
                check::json_type(value)
            );
            return Err(self.unrecognized(&why, value.to_string().as_bytes()));
        };
        let word = |name: &str| -> Result<Option<String>, Status> {
            match object.get(name) {
                None | Some(Value::Null) => Ok(None),
                Some(Value::String(text)) if text.is_empty() => Ok(None),
                Some(Value::String(text)) => Ok(Some(text.clone())),
                Some(other) => {
                    let why = format!(
                        "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go struct field \
                         .{name} of type string",
                        check::json_type(other)
                    );
                    Err(self.unrecognized(&why, other.to_string().as_bytes()))
                }
            }
        };
        let expected_version = join_group_version(self.group, self.version);
        let kind = word("kind")?.unwrap_or_else(|| self.kind.to_owned());
        let api_version = word("apiVersion")?.unwrap_or_else(|| expected_version.clone());
        if kind != self.kind || api_version != expected_version {
            return Err(self.wrong_kind(&api_version, &kind));
        }
        object.insert("kind".into(), kind.into());
        object.insert("apiVersion".into(), api_version.into());
        Ok(())
    }

    fn wrong_kind(&self, api_version: &str, kind: &str) -> Status {
        let (group, version) = split_group_version(api_version);
        if registry().find_kind(group, version, kind).is_none() {
            let why =
                format!("no kind {kind:?} is registered for version {api_version:?} in scheme \"skep\"");
            return self.cannot_handle(kind, version, &why);
        }
        if kind != self.kind {
            let package = self.group.split('.').next().filter(|one| !one.is_empty()).unwrap_or("core");
            let why =
                format!("converting ({version}.{kind}) to ({package}.{}): unknown conversion", self.kind);
            return self.cannot_handle(kind, version, &why);
        }
        Status::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({})",
            join_group_version(self.group, self.version)
        ))
    }
}

#[cfg(test)]
mod tests;
