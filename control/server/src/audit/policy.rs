//! The audit policy as operators write it (`audit.k8s.io/v1 Policy`): reading, checking, and the verdict on a request.
//!
//! Pure but for reading the file. Does not know what becomes of an event.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use skep_api::decode::{self, Encoding};

use crate::error::Error;
use crate::request::RequestInfo;
use crate::user::UserInfo;

/// How much of a request is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who asked for what, when, and what came of it.
    Metadata,
    /// That and the object sent.
    Request,
    /// That and the object returned.
    RequestResponse,
}

impl Level {
    /// The word in policies, events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Its author is known, nothing else happened.
    RequestReceived,
    /// The head of the answer goes out; of requests that last.
    ResponseStarted,
    /// The answer is complete.
    ResponseComplete,
    /// The handler failed in a way that it should not.
    Panic,
}

const STAGES: [&str; 4] = ["RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"];
const LEVELS: [&str; 4] = ["None", "Metadata", "Request", "RequestResponse"];

/// Resources that a rule is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupResources {
    /// The group, empty for core, `*` for all.
    pub group: String,
    /// `pods`, `pods/log`, `pods/*`, `*/scale`, `*`; empty means all.
    pub resources: Vec<String>,
    /// Names of objects; empty means all.
    pub resource_names: Vec<String>,
}

/// One rule; all that it says must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// How much is written of what this rule is about.
    pub level: Level,
    /// Names of users; empty means all, as everywhere here.
    pub users: Vec<String>,
    /// Groups, of which the user is in one.
    pub user_groups: Vec<String>,
    /// Verbs.
    pub verbs: Vec<String>,
    /// Resources.
    pub resources: Vec<GroupResources>,
    /// Namespaces; the empty one is that of cluster-wide objects.
    pub namespaces: Vec<String>,
    /// Paths that are no resources, which may end in `*`.
    #[serde(rename = "nonResourceURLs")]
    pub non_resource_urls: Vec<String>,
    /// Stages of which nothing is written, besides those of the policy.
    pub omit_stages: Vec<Stage>,
    /// Whether objects go without their `managedFields`; what the policy says where this does not.
    pub omit_managed_fields: Option<bool>,
}

/// The whole policy. The first rule that fits decides; nothing is written where none does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Policy {
    /// The rules, in order.
    pub rules: Vec<Rule>,
    /// Stages of which nothing is ever written.
    pub omit_stages: Vec<Stage>,
    /// Whether objects go without their `managedFields`.
    pub omit_managed_fields: bool,
}

/// What a policy says about one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How much is written.
    pub level: Level,
    /// Stages left out.
    pub omit_stages: Vec<Stage>,
    /// Whether objects go without their `managedFields`.
    pub omit_managed_fields: bool,
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    ///
    /// When it cannot be read or is not a valid policy.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|reason| Error::Configuration {
            what: "audit policy",
            path: path.to_owned(),
            reason,
        })
    }

    /// Reads a policy from YAML or JSON. Unknown fields are logged and passed over, as upstream does.
    ///
    /// # Errors
    ///
    /// Every fault, in upstream's words.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let mut value = decode::parse(text, Encoding::Yaml).map_err(|status| status.message)?.value;
        let (version, kind) = (text_of(&value["apiVersion"]), text_of(&value["kind"]));
        if version != "audit.k8s.io/v1" || kind != "Policy" {
            return Err(format!("unknown group version field {version}, Kind={kind} in policy"));
        }
        for unknown in unknown_fields(&value) {
            tracing::warn!(field = unknown, "the audit policy has a field that is not known");
        }
        let faults = faults(&value);
        if !faults.is_empty() {
            return Err(faults.join(", "));
        }
        strip_nulls(&mut value);
        let policy: Self = serde_json::from_value(value).map_err(|error| error.to_string())?;
        if policy.rules.is_empty() {
            return Err("loaded illegal policy with 0 rules".into());
        }
        Ok(policy)
    }

    /// The verdict on a request; `user` is nobody where the credentials are not valid.
    pub fn judge(&self, user: Option<&UserInfo>, request: &RequestInfo) -> Verdict {
        let Some(rule) = self.rules.iter().find(|rule| rule.fits(user, request)) else {
            return Verdict {
                level: Level::None,
                omit_stages: self.omit_stages.clone(),
                omit_managed_fields: self.omit_managed_fields,
            };
        };
        Verdict {
            level: rule.level,
            omit_stages: self.omit_stages.iter().chain(&rule.omit_stages).copied().collect(),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        }
    }
}

impl Rule {
    fn fits(&self, user: Option<&UserInfo>, request: &RequestInfo) -> bool {
        let among = |list: &[String], word: &str| list.iter().any(|one| one == word);
        if !self.users.is_empty() && !user.is_some_and(|user| among(&self.users, &user.name)) {
            return false;
        }
        let grouped = |user: &UserInfo| user.groups.iter().any(|group| among(&self.user_groups, group));
        if !self.user_groups.is_empty() && !user.is_some_and(grouped) {
            return false;
        }
        if !self.verbs.is_empty() && !among(&self.verbs, &request.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return request.is_resource
                && (self.namespaces.is_empty() || among(&self.namespaces, &request.namespace))
                && (self.resources.is_empty() || self.resources.iter().any(|one| one.fits(request)));
        }
        self.non_resource_urls.is_empty()
            || (!request.is_resource && self.non_resource_urls.iter().any(|url| url_fits(url, &request.path)))
    }
}

impl GroupResources {
    fn fits(&self, request: &RequestInfo) -> bool {
        if self.group != "*" && self.group != request.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        let named = self.resource_names.is_empty() || self.resource_names.contains(&request.name);
        named && self.resources.iter().any(|pattern| resource_fits(pattern, request))
    }
}

fn resource_fits(pattern: &str, request: &RequestInfo) -> bool {
    let (resource, subresource) = (request.resource.as_str(), request.subresource.as_str());
    let same = match pattern.split_once('/') {
        None => subresource.is_empty() && pattern == resource,
        Some((one, two)) => !subresource.is_empty() && one == resource && two == subresource,
    };
    same || pattern == "*"
        || (!subresource.is_empty() && pattern.strip_prefix("*/") == Some(subresource))
        || pattern.strip_suffix("/*") == Some(resource)
}

fn url_fits(pattern: &str, path: &str) -> bool {
    pattern == "*"
        || pattern == path
        || (pattern.ends_with('*') && path.starts_with(pattern.trim_end_matches('*')))
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn unknown_fields(policy: &Value) -> Vec<String> {
    const POLICY: [&str; 6] = ["apiVersion", "kind", "metadata", "rules", "omitStages", "omitManagedFields"];
    const RULE: [&str; 9] = [
        "level",
        "users",
        "userGroups",
        "verbs",
        "resources",
        "namespaces",
        "nonResourceURLs",
        "omitStages",
        "omitManagedFields",
    ];
    const RESOURCES: [&str; 3] = ["group", "resources", "resourceNames"];
    let mut found = Vec::new();
    let mut look = |at: String, value: &Value, known: &[&str]| {
        let keys = value.as_object().into_iter().flat_map(|object| object.keys());
        found.extend(keys.filter(|key| !known.contains(&key.as_str())).map(|key| format!("{at}{key}")));
    };
    look(String::new(), policy, &POLICY);
    for (i, rule) in items(&policy["rules"]).enumerate() {
        look(format!("rules[{i}]."), rule, &RULE);
        for (j, one) in items(&rule["resources"]).enumerate() {
            look(format!("rules[{i}].resources[{j}]."), one, &RESOURCES);
        }
    }
    found
}

fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, value| !value.is_null());
            object.values_mut().for_each(strip_nulls);
        }
        Value::Array(array) => array.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

fn faults(policy: &Value) -> Vec<String> {
    let mut faults = stage_faults("omitStages", &policy["omitStages"]);
    for (i, rule) in items(&policy["rules"]).enumerate() {
        let at = format!("rules[{i}]");
        match text_of(&rule["level"]) {
            "" => faults.push(format!("{at}.level: Required value")),
            level if LEVELS.contains(&level) => {}
            level => faults.push(format!(
                "{at}.level: Unsupported value: {level:?}: supported values: {}",
                LEVELS.map(|level| format!("{level:?}")).join(", ")
            )),
        }
        faults.extend(url_faults(&at, &rule["nonResourceURLs"]));
        faults.extend(resource_faults(&at, &rule["resources"]));
        faults.extend(stage_faults(&format!("{at}.omitStages"), &rule["omitStages"]));
        let some = |member: &str| items(&rule[member]).next().is_some();
        if some("nonResourceURLs") && (some("resources") || some("namespaces")) {
            faults.push(format!(
                "{at}.nonResourceURLs: Invalid value: {}: rules cannot apply to both regular resources and non-resource \
                 URLs",
                rule["nonResourceURLs"]
            ));
        }
    }
    faults
}

fn stage_faults(at: &str, stages: &Value) -> Vec<String> {
    let unknown = items(stages).enumerate().filter(|(_, stage)| !STAGES.contains(&text_of(stage)));
    unknown
        .map(|(i, stage)| {
            format!("{at}[{i}]: Invalid value: {stage}: allowed stages are {}", STAGES.join(","))
        })
        .collect()
}

fn url_faults(at: &str, urls: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    for (i, value) in items(urls).enumerate() {
        let url = text_of(value);
        let mut fault = |why: &str| {
            faults.push(format!("{at}.nonResourceURLs[{i}]: Invalid value: {url:?}: {why}"));
        };
        if url != "*" && !url.starts_with('/') {
            fault("non-resource URL rules must begin with a '/' character");
        }
        if url.char_indices().any(|(at, letter)| letter == '*' && at + 1 < url.len()) {
            fault("non-resource URL wildcards '*' must be the final character of the rule");
        }
    }
    faults
}

fn resource_faults(at: &str, resources: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    for one in items(resources) {
        let group = text_of(&one["group"]);
        let fine = group.split('.').all(|part| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                && !part.starts_with('-')
                && !part.ends_with('-')
        });
        if !group.is_empty() && group != "*" && !fine {
            faults.push(format!(
                "{at}.resources.group: Invalid value: {group:?}: a lowercase RFC 1123 subdomain must consist of lower \
                 case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character"
            ));
        }
        if items(&one["resourceNames"]).next().is_some() && items(&one["resources"]).next().is_none() {
            faults.push(format!(
                "{at}.resources.resourceNames: Invalid value: {}: using resourceNames requires at least one resource",
                one["resourceNames"]
            ));
        }
    }
    faults
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
