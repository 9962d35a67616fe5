//! One issuer by flags (`--oidc-*`), from before there was a file for it.

use std::path::Path;

use skep_api::validation::FieldError;

use super::{ClaimRuleFile, Issuer, IssuerFile, JwtFile, MappingFile, MappingsFile, check};
use crate::authn::jwt::signing::Signing;
use crate::error::Error;

/// What the flags say.
#[derive(Clone, Debug, Default)]
pub struct OidcFlags {
    /// `--oidc-issuer-url`
    pub issuer: String,
    /// `--oidc-client-id`
    pub client_id: String,
    /// What is in the file of `--oidc-ca-file`.
    pub authority: String,
    /// `--oidc-username-claim`
    pub username_claim: String,
    /// `--oidc-username-prefix`
    pub username_prefix: String,
    /// `--oidc-groups-claim`
    pub groups_claim: String,
    /// `--oidc-groups-prefix`
    pub groups_prefix: String,
    /// `--oidc-signing-algs`
    pub algorithms: Vec<String>,
    /// `--oidc-required-claim`
    pub required: Vec<(String, String)>,
}

impl OidcFlags {
    /// The issuer.
    ///
    /// # Errors
    ///
    /// With everything that is wrong with it.
    pub fn issuer(&self, own_issuers: &[String]) -> Result<Issuer, Error> {
        let wrong = |reason: String| Error::Configuration {
            what: "flags",
            path: Path::new("--oidc-*").into(),
            reason,
        };
        let algorithms: Option<Vec<Signing>> =
            self.algorithms.iter().map(|name| Signing::named(name)).collect();
        let algorithms = algorithms
            .ok_or_else(|| wrong(format!("oidc: unsupported signing alg among {:?}", self.algorithms)))?;
        let mut errors = Vec::new();
        let file = [self.file()];
        let issuer = check::issuers(&file, own_issuers, &algorithms, &mut errors).pop();
        let texts: Vec<String> = errors.iter().map(FieldError::to_string).collect();
        issuer.filter(|_| texts.is_empty()).ok_or_else(|| wrong(texts.join(", ")))
    }

    fn file(&self) -> JwtFile {
        // Names of several issuers could clash, but for addresses.
        let prefix = match self.username_prefix.as_str() {
            "-" => String::new(),
            "" if self.username_claim != "email" => format!("{}#", self.issuer),
            prefix => prefix.to_owned(),
        };
        let claim = |claim: &str, prefix: String| MappingFile {
            claim: claim.to_owned(),
            prefix: Some(prefix),
            expression: String::new(),
        };
        let required = self.required.iter().map(|(claim, value)| ClaimRuleFile {
            claim: claim.clone(),
            required_value: value.clone(),
            ..ClaimRuleFile::default()
        });
        JwtFile {
            issuer: IssuerFile {
                url: self.issuer.clone(),
                certificate_authority: self.authority.clone(),
                audiences: vec![self.client_id.clone()],
                ..IssuerFile::default()
            },
            claim_validation_rules: required.collect(),
            claim_mappings: MappingsFile {
                username: claim(&self.username_claim, prefix),
                groups: if self.groups_claim.is_empty() {
                    MappingFile::default()
                } else {
                    claim(&self.groups_claim, self.groups_prefix.clone())
                },
                ..MappingsFile::default()
            },
            ..JwtFile::default()
        }
    }
}
