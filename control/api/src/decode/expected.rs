//! Checking a body against what it must be: kind, version, types, known fields.

use serde_json::Value;

use super::{Applied, Encoding, FieldValidation, check, value};
use crate::apply;
use crate::custom::{self, Custom};
use crate::object::{remove, set};
use crate::registry::{Resource, join_group_version, registry, split_group_version};
use crate::schema::Schema;
use crate::status::Status;

/// What a body must be.
pub(super) struct Expected<'a> {
    pub(super) group: &'a str,
    pub(super) version: &'a str,
    pub(super) kind: &'a str,
    pub(super) schema: &'a Schema,
    pub(super) custom: Option<&'a Custom>,
}

impl<'a> Expected<'a> {
    pub(super) fn of(resource: &'a Resource) -> Self {
        Self {
            group: &resource.group,
            version: &resource.version,
            kind: &resource.kind,
            schema: &resource.schema,
            custom: resource.custom.as_deref(),
        }
    }

    pub(super) fn read(
        &self,
        body: &[u8],
        encoding: Encoding,
        mode: FieldValidation,
    ) -> Result<(Value, Vec<String>), Status> {
        let api_version = join_group_version(self.group, self.version);
        let parsed = value::read_expected(body, encoding, &api_version, self.kind)
            .map_err(|why| self.unrecognized(&why, body))?;
        let (mut value, duplicates) = (parsed.value, parsed.duplicates);
        // Of YAML duplicates are noticed when it becomes JSON, of JSON when it becomes an object.
        let (before, after) = match encoding {
            Encoding::Yaml => (duplicates, Vec::new()),
            Encoding::Json | Encoding::Protobuf => (Vec::new(), duplicates),
        };
        let warnings = self.check(&mut value, before, after, mode)?;
        Ok((value, warnings))
    }

    pub(super) fn applied(&self, body: &[u8]) -> Result<Applied, Status> {
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
        if !undeclared.is_empty() {
            return Ok(Applied { value, undeclared, duplicates: parsed.duplicates });
        }
        let gone = self.prune(&mut value).map_err(|why| self.cannot_handle(self.kind, self.version, &why))?;
        let undeclared = match self.custom {
            Some(_) => {
                gone.into_iter().map(|path| format!(".{path}: field not declared in schema")).collect()
            }
            None => undeclared,
        };
        Ok(Applied { value, undeclared, duplicates: parsed.duplicates })
    }

    /// Checks the value; `before` and `after` are problems of its text, told before and after those of its fields.
    pub(super) fn check(
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
            FieldValidation::Warn => Ok(super::told(problems)),
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
        unknown.extend(custom::prune_sent(&custom.node, value, self.schema)?);
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
        let shown = &body[..body.len().min(30)];
        let mut summary = match body.first() {
            Some(b'{') => String::from_utf8_lossy(shown).into_owned(),
            _ => shown.iter().map(|byte| format!("{byte:02x}")).collect(),
        };
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
        if value.is_null() {
            // Nothing is an object in which nothing is set.
            *value = Value::Object(serde_json::Map::new());
        }
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
        let mut api_version = word("apiVersion")?.unwrap_or_else(|| expected_version.clone());
        // The one kind of the API with an older version that is taken only in bodies, by a subresource; they are alike.
        if (kind.as_str(), api_version.as_str()) == ("Eviction", "policy/v1beta1") {
            api_version.clone_from(&expected_version);
        }
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
