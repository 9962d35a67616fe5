//! Which issuers are believed, and what their claims mean: `AuthenticationConfiguration` of apiserver.config.k8s.io, or the
//! older `--oidc-*` flags.
//!
//! Owns reading and checking, with upstream's words for what is wrong.

use std::path::Path;

use http::Uri;
use serde::Deserialize;
use skep_api::decode::{self, Encoding};
use skep_api::expression::{Expression, Wanted};
use skep_api::validation::FieldError;

use super::super::Anonymous;
use super::signing::Signing;
use crate::authz::configuration::check_kind;
use crate::error::Error;

mod check;
mod flags;

pub use flags::OidcFlags;

/// So many issuers are possible.
const MOST_ISSUERS: usize = 64;

/// What a configuration says.
#[derive(Debug)]
pub struct AuthenticationConfiguration {
    /// The issuers.
    pub issuers: Vec<Issuer>,
    /// Who may come without credentials, if it says so.
    pub anonymous: Option<Anonymous>,
}

/// An issuer, and what its claims mean.
#[derive(Debug)]
pub struct Issuer {
    pub(super) url: String,
    /// Where its discovery document is.
    pub(super) discovery: Uri,
    /// PEM; what the machine trusts where there is none.
    pub(super) authority: Option<String>,
    pub(super) audiences: Vec<String>,
    pub(super) algorithms: Vec<Signing>,
    pub(super) username: Mapping,
    pub(super) groups: Option<Mapping>,
    pub(super) uid: Option<Mapping>,
    pub(super) extra: Vec<(String, Expression)>,
    /// Claims that must have a certain value.
    pub(super) required: Vec<(String, String)>,
    pub(super) claim_rules: Vec<Rule>,
    pub(super) user_rules: Vec<Rule>,
}

/// Where a part of the user comes from.
#[derive(Debug)]
pub(super) enum Mapping {
    Claim { name: String, prefix: String },
    Expression(Expression),
}

/// A rule that must hold.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) expression: Expression,
    pub(super) message: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "apiVersion")]
    _version: String,
    #[serde(default)]
    jwt: Vec<JwtFile>,
    anonymous: Option<AnonymousFile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct AnonymousFile {
    enabled: bool,
    conditions: Vec<AnonymousCondition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct AnonymousCondition {
    path: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct JwtFile {
    issuer: IssuerFile,
    claim_validation_rules: Vec<ClaimRuleFile>,
    claim_mappings: MappingsFile,
    user_validation_rules: Vec<UserRuleFile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct IssuerFile {
    url: String,
    #[serde(rename = "discoveryURL")]
    discovery_url: String,
    certificate_authority: String,
    audiences: Vec<String>,
    audience_match_policy: String,
    egress_selector_type: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ClaimRuleFile {
    claim: String,
    required_value: String,
    expression: String,
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct UserRuleFile {
    expression: String,
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct MappingsFile {
    username: MappingFile,
    groups: MappingFile,
    uid: MappingFile,
    extra: Vec<ExtraFile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct MappingFile {
    claim: String,
    prefix: Option<String>,
    expression: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct ExtraFile {
    key: String,
    value_expression: String,
}

impl AuthenticationConfiguration {
    /// What the text of a file says; `path` is for messages. `own_issuers` are those of this server's tokens, which no
    /// other issuer can have.
    ///
    /// # Errors
    ///
    /// With everything that is wrong with it.
    pub fn of_file(text: &str, path: &Path, own_issuers: &[String]) -> Result<Self, Error> {
        let wrong = |reason: String| Error::Configuration {
            what: "authentication configuration",
            path: path.to_owned(),
            reason,
        };
        let value =
            decode::parse(text.as_bytes(), Encoding::Yaml).map_err(|status| wrong(status.message))?.value;
        check_kind(&value, "AuthenticationConfiguration").map_err(wrong)?;
        let file: File = serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
        let mut errors = Vec::new();
        let issuers = check::issuers(&file.jwt, own_issuers, &Signing::all(), &mut errors);
        let anonymous = file.anonymous.map(|anonymous| check_anonymous(anonymous, &mut errors));
        if !errors.is_empty() {
            let texts: Vec<String> = errors.iter().map(FieldError::to_string).collect();
            return Err(wrong(texts.join(", ")));
        }
        Ok(Self { issuers, anonymous })
    }
}

fn check_anonymous(file: AnonymousFile, errors: &mut Vec<FieldError>) -> Anonymous {
    let paths: Vec<String> = file.conditions.into_iter().map(|condition| condition.path).collect();
    match (file.enabled, paths.is_empty()) {
        (true, true) => Anonymous::Everything,
        (true, false) => Anonymous::Paths(paths),
        (false, true) => Anonymous::Nothing,
        (false, false) => {
            let why = "enabled should be set to true when conditions are defined";
            errors.push(FieldError::invalid("anonymous.conditions", paths.join(","), why));
            Anonymous::Nothing
        }
    }
}

/// An expression about `variable`; what is wrong with it goes to `errors`.
fn compile(
    path: String,
    source: &str,
    variable: &str,
    wanted: Wanted,
    errors: &mut Vec<FieldError>,
) -> Option<Expression> {
    match Expression::compile(source, &[variable], wanted) {
        Ok(expression) => Some(expression),
        Err(why) => {
            errors.push(FieldError::invalid(path, source, format!("compilation failed: {why}")));
            None
        }
    }
}
