//! Nobody reads by a policy what they could not read themselves: what a policy says goes to whoever it refuses, with as much
//! of its parameters as its expressions put in.
//!
//! A policy can get at every object of the kind of its parameters, so its author needs the right to get all of them. A
//! binding gets at those that it refers to, so its author needs to get the one by its name or to list those selected.

use serde_json::Value;
use skep_api::admissionregistration::GROUP;
use skep_api::object::{at, text};
use skep_api::registry::{Registry, split_group_version};
use skep_api::status::Status;
use skep_api::validation::FieldError;

use crate::admission::Attributes;
use crate::cache::Cache;
use crate::failure;
use crate::gate::{Authorizer, ObjectReader};
use crate::request::RequestInfo;
use crate::user::UserInfo;

const POLICIES: [&str; 2] = ["validatingadmissionpolicies", "mutatingadmissionpolicies"];
const BINDINGS: [(&str, &str); 2] =
    [("validatingadmissionpolicybindings", POLICIES[0]), ("mutatingadmissionpolicybindings", POLICIES[1])];

/// What the author of a policy or a binding lacks. Those of `system:masters` lack nothing: every authorizer passes them.
///
/// # Errors
///
/// When the cache cannot be brought up to date.
pub(super) async fn check(
    authorizer: &dyn Authorizer,
    cache: &Cache,
    attributes: &Attributes<'_>,
    object: &Value,
) -> Result<Option<FieldError>, Status> {
    if POLICIES.iter().any(|plural| attributes.is(GROUP, plural)) {
        return Ok(of_policy(authorizer, attributes, object).await);
    }
    match BINDINGS.into_iter().find(|(plural, _)| attributes.is(GROUP, plural)) {
        Some((_, policies)) => of_binding(authorizer, cache, policies, attributes, object).await,
        None => Ok(None),
    }
}

async fn of_policy(
    authorizer: &dyn Authorizer,
    attributes: &Attributes<'_>,
    policy: &Value,
) -> Option<FieldError> {
    let kind = at(policy, &["spec", "paramKind"])?;
    if attributes.old.is_some_and(|old| at(old, &["spec", "paramKind"]) == Some(kind)) {
        return None;
    }
    let asked = Kind::read(attributes.scope.kinds, Some(kind)).right("get", "*", "*");
    let error = lacks(authorizer, attributes.user(), &asked).await?;
    let why = error.unwrap_or_else(|| {
        format!(
            "user {} must have \"get\" permission on all objects of the referenced paramKind (kind={}, apiVersion={})",
            shown(attributes.user()),
            text(kind, &["kind"]),
            text(kind, &["apiVersion"]),
        )
    });
    Some(FieldError::forbidden("spec.paramKind", why))
}

async fn of_binding(
    authorizer: &dyn Authorizer,
    cache: &Cache,
    policies: &str,
    attributes: &Attributes<'_>,
    binding: &Value,
) -> Result<Option<FieldError>, Status> {
    let Some(reference) = at(binding, &["spec", "paramRef"]) else { return Ok(None) };
    // Where else the same parameters are shown matters, too.
    if attributes.old.is_some_and(|old| old["spec"] == binding["spec"]) {
        return Ok(None);
    }
    cache.catch_up().await.map_err(failure::read)?;
    let policy = cache.get(GROUP, policies, "", text(binding, &["spec", "policyName"]));
    let kind = policy.as_deref().and_then(|policy| at(policy, &["spec", "paramKind"]));
    let known = Kind::read(attributes.scope.kinds, kind);
    let name = text(reference, &["name"]);
    let verb = if name.is_empty() { "list" } else { "get" };
    let asked = known.right(verb, text(reference, &["namespace"]), name);
    let Some(error) = lacks(authorizer, attributes.user(), &asked).await else { return Ok(None) };
    let why = error.unwrap_or_else(|| {
        let user = shown(attributes.user());
        let vague = |what: String| {
            format!(
                "unable to {what} to determine minimum required permissions and user {user} does not have \
                 \"{verb}\" permission for all groups, versions and resources"
            )
        };
        match (&policy, kind, known.group.is_some(), known.resource.is_some()) {
            (None, ..) => vague(format!("get policy {}", text(binding, &["spec", "policyName"]))),
            (_, Some(kind), false, _) => vague(format!("parse paramKind {}", shown_kind(kind))),
            (_, Some(kind), _, false) => vague(format!("resolve paramKind {}", shown_kind(kind))),
            _ => format!(
                "user {user} does not have \"{verb}\" permission on the object referenced by paramRef"
            ),
        }
    });
    Ok(Some(FieldError::forbidden("spec.paramRef", why)))
}

/// Of which kind parameters are. What is not known stands for everything that it could be.
#[derive(Debug, Default, PartialEq, Eq)]
struct Kind<'a> {
    /// With the version.
    group: Option<(&'a str, &'a str)>,
    resource: Option<&'a str>,
}

impl<'a> Kind<'a> {
    fn read(kinds: &'a Registry, kind: Option<&'a Value>) -> Self {
        let Some(kind) = kind else { return Self::default() };
        let api_version = text(kind, &["apiVersion"]);
        if api_version.matches('/').count() > 1 {
            return Self::default();
        }
        let (group, version) = split_group_version(api_version);
        let found = kinds.find_kind(group, version, text(kind, &["kind"])).filter(|one| one.served);
        Self { group: Some((group, version)), resource: found.map(|one| one.plural.as_str()) }
    }

    /// The request by which one would read such objects oneself.
    fn right(&self, verb: &str, namespace: &str, name: &str) -> RequestInfo {
        let (group, version) = self.group.unwrap_or(("*", "*"));
        RequestInfo {
            is_resource: true,
            verb: verb.to_owned(),
            group: group.to_owned(),
            version: version.to_owned(),
            resource: self.resource.unwrap_or("*").to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ..RequestInfo::default()
        }
    }
}

/// Whether a user lacks a right; if so, with what went wrong when it was looked for, if anything did.
async fn lacks(authorizer: &dyn Authorizer, user: &UserInfo, right: &RequestInfo) -> Option<Option<String>> {
    let decision = authorizer.authorize(user, right).await;
    (!decision.is_allowed()).then(|| Some(decision.error).filter(|error| !error.is_empty()))
}

/// A user as Go writes the structure.
fn shown(user: &UserInfo) -> String {
    let list = |list: &[String]| format!("[{}]", list.join(" "));
    let extra: Vec<String> =
        user.extra.iter().map(|(key, values)| format!("{key}:{}", list(values))).collect();
    format!("&{{{} {} {} map{}}}", user.name, user.uid, list(&user.groups), list(&extra))
}

fn shown_kind(kind: &Value) -> String {
    format!("&{{{} {}}}", text(kind, &["apiVersion"]), text(kind, &["kind"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use skep_api::registry::registry;

    use super::*;

    #[test]
    fn kind_of_parameters_is_as_narrow_as_it_is_known() {
        let asked = |kind: Value| {
            let right = Kind::read(registry(), Some(&kind)).right("get", "n", "x");
            (right.group, right.version, right.resource)
        };
        let texts = |group: &str, version: &str, resource: &str| {
            (group.to_owned(), version.to_owned(), resource.to_owned())
        };
        let kind = |version: &str, kind: &str| json!({ "apiVersion": version, "kind": kind });
        assert_eq!(asked(kind("v1", "Secret")), texts("", "v1", "secrets"));
        assert_eq!(asked(kind("apps/v1", "Deployment")), texts("apps", "v1", "deployments"));
        assert_eq!(asked(kind("example.com/v1", "Thing")), texts("example.com", "v1", "*"));
        assert_eq!(asked(kind("a/b/c", "Thing")), texts("*", "*", "*"));
        assert_eq!(Kind::read(registry(), None), Kind::default());
    }

    #[test]
    fn user_is_shown_with_all_that_is_known() {
        let mut user = UserInfo::new("jane", &["a"]);
        user.extra.insert("k".into(), vec!["v".into(), "w".into()]);
        assert_eq!(shown(&user), "&{jane  [a system:authenticated] map[k:[v w]]}");
    }
}
