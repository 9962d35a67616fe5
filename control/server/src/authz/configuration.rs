//! Which authorizers are asked, and in which order: from modes (`--authorization-mode`) or a file
//! (`AuthorizationConfiguration` of apiserver.config.k8s.io).
//!
//! Owns reading and checking, with upstream's words for what is wrong; [`super::Authz`] owns the asking.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use skep_api::decode::{self, Encoding};
use skep_api::expression::{Expression, Wanted};
use skep_api::validation::{FieldError, names};

use super::abac::Policies;
use super::chain::{Kind, Layer};
use super::webhook::{Settings, Webhook};
use crate::authn::ReviewVersion;
use crate::error::Error;
use crate::failure::with_causes;
use crate::gate::Verdict;

const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha1"];
const TYPES: [&str; 6] = ["ABAC", "AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook"];
const LONGEST_TIMEOUT: Duration = Duration::from_secs(30);
const MOST_CONDITIONS: usize = 64;
/// The name of the only webhook of `--authorization-mode`.
const DEFAULT_NAME: &str = "default";

/// The webhook of `--authorization-mode=Webhook`.
#[derive(Clone, Debug)]
pub struct ModeWebhook {
    /// `--authorization-webhook-config-file`
    pub kubeconfig: PathBuf,
    /// `--authorization-webhook-version`
    pub version: ReviewVersion,
    /// `--authorization-webhook-cache-authorized-ttl`
    pub authorized: Duration,
    /// `--authorization-webhook-cache-unauthorized-ttl`
    pub unauthorized: Duration,
}

/// A chain of authorizers that can be put in place.
#[derive(Clone, Debug)]
pub struct AuthorizerChain {
    pub(super) layers: Arc<[Layer]>,
}

impl Default for AuthorizerChain {
    /// Nodes, then roles.
    fn default() -> Self {
        Self { layers: [Kind::Node, Kind::Rbac].map(Layer::of_type).into() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    #[serde(default)]
    authorizers: Vec<Authorizer>,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "apiVersion")]
    _version: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Authorizer {
    r#type: String,
    name: String,
    webhook: Option<WebhookFile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct WebhookFile {
    #[serde(rename = "authorizedTTL")]
    authorized_ttl: Option<String>,
    cache_authorized_requests: Option<bool>,
    #[serde(rename = "unauthorizedTTL")]
    unauthorized_ttl: Option<String>,
    cache_unauthorized_requests: Option<bool>,
    timeout: Option<String>,
    subject_access_review_version: String,
    match_condition_subject_access_review_version: String,
    failure_policy: String,
    connection_info: Connection,
    match_conditions: Vec<Condition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Connection {
    r#type: String,
    kube_config_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Condition {
    expression: String,
}

impl AuthorizerChain {
    /// The chain of a list of modes.
    ///
    /// # Errors
    ///
    /// When a mode is not known, comes twice, or lacks its webhook or its file of policies.
    pub fn of_modes(
        modes: &[String],
        webhook: Option<&ModeWebhook>,
        policies: Option<&Path>,
    ) -> Result<Self, Error> {
        let wrong = |reason: String| Error::Configuration {
            what: "authorization configuration",
            path: "--authorization-mode".into(),
            reason,
        };
        let mut layers = Vec::new();
        for (at, mode) in modes.iter().enumerate() {
            if modes[..at].contains(mode) {
                return Err(wrong(format!("{mode:?} is specified more than once")));
            }
            layers.push(match (plain(mode), mode.as_str(), webhook) {
                (Some(kind), ..) => Layer::of_type(kind),
                (None, "Webhook", Some(webhook)) => {
                    Layer::new(Kind::Webhook(Arc::new(of_mode(webhook)?)), DEFAULT_NAME)
                }
                (None, "Webhook", None) => {
                    return Err(wrong("Webhook needs --authorization-webhook-config-file".into()));
                }
                (None, "ABAC", _) => {
                    let missing = || wrong("ABAC needs --authorization-policy-file".into());
                    Layer::of_type(Kind::Abac(Arc::new(Policies::read(policies.ok_or_else(missing)?)?)))
                }
                _ => return Err(wrong(format!("{mode:?} is not a valid mode"))),
            });
        }
        if layers.is_empty() {
            return Err(wrong("at least one mode must be passed".into()));
        }
        Ok(Self { layers: layers.into() })
    }

    /// The chain that the text of a file describes, with these policies if it names ABAC; `path` is for messages.
    ///
    /// # Errors
    ///
    /// With everything that is wrong with it.
    pub fn of_file(text: &str, path: &Path, policies: Option<&Path>) -> Result<Self, Error> {
        Self::built(text, path, || {
            let missing = || "ABAC needs --authorization-policy-file".to_owned();
            Ok(Arc::new(Policies::read(policies.ok_or_else(missing)?).map_err(|error| with_causes(&error))?))
        })
    }

    /// The chain that takes the place of this one when its file has changed to `text`. Webhooks may come and go; of the rest
    /// all stay, and ABAC does not come.
    ///
    /// # Errors
    ///
    /// With everything that is wrong with it.
    pub fn changed(&self, text: &str, path: &Path) -> Result<Self, Error> {
        let abac = self.layers.iter().find_map(|layer| match &layer.kind {
            Kind::Abac(policies) => Some(Arc::clone(policies)),
            _ => None,
        });
        let late = "authorizer type ABAC is not allowed if it was not enabled at initial server startup";
        let new = Self::built(text, path, || abac.clone().ok_or_else(|| late.to_owned()))?;
        let missing = self.types().difference(&new.types()).copied().collect::<Vec<_>>().join(" ");
        match missing.as_str() {
            "" => Ok(new),
            missing => Err(wrong(path, format!("missing required types: [{missing}]"))),
        }
    }

    /// Those that are no webhooks.
    fn types(&self) -> BTreeSet<&'static str> {
        let plain = self.layers.iter().filter(|layer| !matches!(layer.kind, Kind::Webhook(_)));
        plain.map(|layer| layer.kind.name()).collect()
    }

    fn built(
        text: &str,
        path: &Path,
        abac: impl Fn() -> Result<Arc<Policies>, String>,
    ) -> Result<Self, Error> {
        let wrong = |reason: String| wrong(path, reason);
        let value =
            decode::parse(text.as_bytes(), Encoding::Yaml).map_err(|status| wrong(status.message))?.value;
        check_kind(&value, "AuthorizationConfiguration").map_err(wrong)?;
        let file: File = serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
        let mut errors = Vec::new();
        let layers = check(&file, &mut errors);
        if !errors.is_empty() {
            let texts: Vec<String> = errors.iter().map(FieldError::to_string).collect();
            return Err(wrong(texts.join(", ")));
        }
        let misnamed = file.authorizers.iter().filter(|one| one.r#type != "Webhook");
        let misnamed = misnamed.filter(|one| one.name != one.r#type.to_lowercase()).map(|one| {
            let (kind, name) = (&one.r#type, &one.name);
            format!("expected name {} for authorizer {kind} instead of {name}", kind.to_lowercase())
        });
        let misnamed: Vec<String> = misnamed.collect();
        if !misnamed.is_empty() {
            return Err(wrong(misnamed.join(", ")));
        }
        let built: Result<Vec<Layer>, Error> = layers
            .into_iter()
            .map(|layer| match layer {
                Checked::Plain(layer) => Ok(layer),
                Checked::Abac => {
                    let found = abac().map_err(wrong)?;
                    Ok(Layer::of_type(Kind::Abac(found)))
                }
                Checked::Webhook(file, settings) => {
                    let name = settings.name.clone();
                    Ok(Layer::new(Kind::Webhook(Arc::new(Webhook::new(&file, settings)?)), &name))
                }
            })
            .collect();
        Ok(Self { layers: built?.into() })
    }
}

/// Whether a configuration is of the kind that is expected, in a version that is known.
pub(crate) fn check_kind(value: &Value, kind: &str) -> Result<(), String> {
    let version = value["apiVersion"].as_str().unwrap_or_default();
    let known = VERSIONS.iter().any(|known| version == format!("apiserver.config.k8s.io/{known}"));
    if known && value["kind"] == kind {
        return Ok(());
    }
    Err(format!(
        "no kind {} is registered for version {version:?}: expected {kind} of apiserver.config.k8s.io/v1",
        value["kind"]
    ))
}

fn wrong(path: &Path, reason: String) -> Error {
    Error::Configuration { what: "authorization configuration", path: path.to_owned(), reason }
}

fn plain(mode: &str) -> Option<Kind> {
    match mode {
        "Node" => Some(Kind::Node),
        "RBAC" => Some(Kind::Rbac),
        "AlwaysAllow" => Some(Kind::AlwaysAllow),
        "AlwaysDeny" => Some(Kind::AlwaysDeny),
        _ => None,
    }
}

fn of_mode(webhook: &ModeWebhook) -> Result<Webhook, Error> {
    let settings = Settings {
        name: DEFAULT_NAME.to_owned(),
        version: webhook.version,
        timeout: LONGEST_TIMEOUT,
        authorized: webhook.authorized,
        unauthorized: webhook.unauthorized,
        on_failure: Verdict::NoOpinion,
        conditions: Vec::new(),
    };
    Webhook::new(&webhook.kubeconfig, settings)
}

enum Checked {
    Plain(Layer),
    Abac,
    Webhook(PathBuf, Settings),
}

fn check(file: &File, errors: &mut Vec<FieldError>) -> Vec<Checked> {
    if file.authorizers.is_empty() {
        let why = "at least one authorization mode must be defined";
        errors.push(FieldError::required("authorizers", why));
    }
    let mut checked = Vec::new();
    for (at, one) in file.authorizers.iter().enumerate() {
        let path = format!("authorizers[{at}]");
        let before = &file.authorizers[..at];
        match one.r#type.as_str() {
            "" => {
                errors.push(FieldError::required(format!("{path}.type"), ""));
                continue;
            }
            other if !TYPES.contains(&other) => {
                errors.push(FieldError::not_supported(format!("{path}.type"), other, &TYPES));
                continue;
            }
            other if other != "Webhook" && before.iter().any(|known| known.r#type == other) => {
                errors.push(FieldError::duplicate(format!("{path}.type"), other));
                continue;
            }
            _ => {}
        }
        check_name(&path, &one.name, before, errors);
        match (plain(&one.r#type), &one.webhook) {
            (Some(kind), None) => checked.push(Checked::Plain(Layer::new(kind, &one.name))),
            (None, None) if one.r#type == "ABAC" => checked.push(Checked::Abac),
            (_, Some(_)) if one.r#type != "Webhook" => errors.push(FieldError::invalid(
                format!("{path}.webhook"),
                "non-null",
                "may only be specified when type=Webhook",
            )),
            (None, None) => {
                errors.push(FieldError::required(format!("{path}.webhook"), "required when type=Webhook"));
            }
            (_, Some(webhook)) => checked.extend(check_webhook(&path, &one.name, webhook, errors)),
        }
    }
    checked
}

fn check_name(path: &str, name: &str, before: &[Authorizer], errors: &mut Vec<FieldError>) {
    let path = format!("{path}.name");
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if before.iter().any(|known| known.name == name) {
        errors.push(FieldError::duplicate(path, name));
    } else if let Err(why) = names::dns_subdomain(name) {
        errors.push(FieldError::invalid(path, name, format!("authorizer name is invalid: {why}")));
    }
}

/// A duration as Go writes it, `5m0s`.
pub fn duration(text: &str) -> Option<Duration> {
    text.parse::<jiff::SignedDuration>().ok().and_then(|found| Duration::try_from(found).ok())
}

/// A lifetime in a cache: as given, or else as usual.
fn life(
    path: String,
    given: Option<&str>,
    cached: Option<bool>,
    usual: Duration,
    errors: &mut Vec<FieldError>,
) -> Duration {
    let life = match given {
        None | Some("0s" | "0") => usual,
        Some(text) => duration(text).filter(|life| !life.is_zero()).unwrap_or_else(|| {
            errors.push(FieldError::invalid(path, text, "must be > 0s"));
            usual
        }),
    };
    if cached == Some(false) { Duration::ZERO } else { life }
}

fn check_webhook(
    path: &str,
    name: &str,
    file: &WebhookFile,
    errors: &mut Vec<FieldError>,
) -> Option<Checked> {
    let at = |field: &str| format!("{path}.{field}");
    let timeout = file.timeout.as_deref().and_then(duration).unwrap_or_default();
    match &file.timeout {
        None => errors.push(FieldError::required(at("timeout"), "")),
        Some(text) if timeout.is_zero() || timeout > LONGEST_TIMEOUT => {
            errors.push(FieldError::invalid(at("timeout"), text.as_str(), "must be > 0s and <= 30s"));
        }
        Some(_) => {}
    }
    let (five_minutes, half_a_minute) = (Duration::from_secs(300), Duration::from_secs(30));
    let authorized = life(
        at("authorizedTTL"),
        file.authorized_ttl.as_deref(),
        file.cache_authorized_requests,
        five_minutes,
        errors,
    );
    let unauthorized = life(
        at("unauthorizedTTL"),
        file.unauthorized_ttl.as_deref(),
        file.cache_unauthorized_requests,
        half_a_minute,
        errors,
    );
    let version = choice(
        at("subjectAccessReviewVersion"),
        &file.subject_access_review_version,
        &["v1", "v1beta1"],
        errors,
    );
    let seen = &file.match_condition_subject_access_review_version;
    if !file.match_conditions.is_empty() && seen.is_empty() {
        let why = "required if match conditions are specified";
        errors.push(FieldError::required(at("matchConditionSubjectAccessReviewVersion"), why));
    } else if !seen.is_empty() {
        choice(at("matchConditionSubjectAccessReviewVersion"), seen, &["v1"], errors);
    }
    let policy = choice(at("failurePolicy"), &file.failure_policy, &["NoOpinion", "Deny"], errors);
    let kubeconfig = check_connection(&at("connectionInfo"), &file.connection_info, errors);
    let conditions = check_conditions(&at("matchConditions"), &file.match_conditions, errors);
    let settings = Settings {
        name: name.to_owned(),
        version: ReviewVersion::parse(version?)?,
        timeout,
        authorized,
        unauthorized,
        on_failure: if policy? == "Deny" { Verdict::Deny } else { Verdict::NoOpinion },
        conditions,
    };
    Some(Checked::Webhook(kubeconfig?, settings))
}

/// A text that must be one of these.
fn choice<'a>(
    path: String,
    text: &'a str,
    choices: &[&str],
    errors: &mut Vec<FieldError>,
) -> Option<&'a str> {
    if text.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if !choices.contains(&text) {
        errors.push(FieldError::not_supported(path, text, choices));
    } else {
        return Some(text);
    }
    None
}

fn check_connection(path: &str, connection: &Connection, errors: &mut Vec<FieldError>) -> Option<PathBuf> {
    let file_path = format!("{path}.kubeConfigFile");
    match (connection.r#type.as_str(), &connection.kube_config_file) {
        ("KubeConfigFile", Some(file)) if !file.is_absolute() => {
            let shown = file.display().to_string();
            errors.push(FieldError::invalid(file_path, shown, "must be an absolute path"));
        }
        ("KubeConfigFile", Some(file)) => return Some(file.clone()),
        ("KubeConfigFile", None) => errors.push(FieldError::required(file_path, "")),
        ("InClusterConfig", _) => {
            let why = "is not allowed for the API server itself";
            errors.push(FieldError::invalid(format!("{path}.type"), "InClusterConfig", why));
        }
        (other, _) => {
            choice(format!("{path}.type"), other, &["InClusterConfig", "KubeConfigFile"], errors);
        }
    }
    None
}

fn check_conditions(path: &str, conditions: &[Condition], errors: &mut Vec<FieldError>) -> Vec<Expression> {
    if conditions.len() > MOST_CONDITIONS {
        errors.push(FieldError::too_many(path, conditions.len(), MOST_CONDITIONS));
        return Vec::new();
    }
    let mut compiled = Vec::new();
    for (at, Condition { expression }) in conditions.iter().enumerate() {
        let path = format!("{path}[{at}].expression");
        if expression.trim().is_empty() {
            errors.push(FieldError::required(path, ""));
        } else if conditions[..at].iter().any(|known| known.expression == *expression) {
            errors.push(FieldError::duplicate(path, expression.as_str()));
        } else {
            match Expression::compile(expression, &["request"], Wanted::Bool) {
                Ok(expression) => compiled.push(expression),
                Err(why) => {
                    let why = format!("compilation failed: {why}");
                    errors.push(FieldError::invalid(path, expression.as_str(), why));
                }
            }
        }
    }
    compiled
}
