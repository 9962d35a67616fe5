//! Impersonation: acting as somebody else, for those who may (`Impersonate-*` headers).
//!
//! Each part of the assumed identity is a request of its own to the authorizer, verb `impersonate`.

use std::collections::BTreeMap;

use http::HeaderMap;
use skep_api::status::Status;

use crate::gate::{Authorizer, Decision};
use crate::refusal;
use crate::request::RequestInfo;
use crate::user::UserInfo;

const EXTRA: &str = "impersonate-extra-";

/// The identity that `headers` ask for, or `None` where they ask for none.
///
/// # Errors
///
/// 400 for groups, uid or extras without a user; 403 where `user` may not assume a part of the identity.
pub fn impersonated(
    user: &UserInfo,
    headers: &HeaderMap,
    authorizer: &dyn Authorizer,
) -> Result<Option<UserInfo>, Status> {
    let one =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
    let groups: Vec<String> = headers
        .get_all("impersonate-group")
        .iter()
        .filter_map(|value| value.to_str().ok().map(str::to_owned))
        .collect();
    let extra = extras(headers);
    let uid = one("impersonate-uid");
    let Some(name) = one("impersonate-user") else {
        if groups.is_empty() && extra.is_empty() && uid.is_none() {
            return Ok(None);
        }
        return Err(refusal::bad_request("requested impersonation without impersonating a user"));
    };
    let allowed = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        let request = RequestInfo {
            is_resource: true,
            verb: "impersonate".into(),
            group: group.into(),
            version: "v1".into(),
            namespace: namespace.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            name: name.into(),
            ..RequestInfo::default()
        };
        match authorizer.authorize(user, &request) {
            Decision::Allow => Ok(()),
            Decision::Deny(reason) => Err(refusal::forbidden(user, &request, &reason)),
        }
    };
    let account = service_account(name);
    match account {
        Some((namespace, account)) => allowed("", "serviceaccounts", "", namespace, account)?,
        None => allowed("", "users", "", "", name)?,
    }
    for group in &groups {
        allowed("", "groups", "", "", group)?;
    }
    for (key, values) in &extra {
        for value in values {
            allowed("authentication.k8s.io", "userextras", key, "", value)?;
        }
    }
    if let Some(uid) = uid {
        allowed("authentication.k8s.io", "uids", "", "", uid)?;
    }
    Ok(Some(identity(name, account, groups, extra, uid)))
}

fn identity(
    name: &str,
    account: Option<(&str, &str)>,
    mut groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
    uid: Option<&str>,
) -> UserInfo {
    if let (Some((namespace, account)), true) = (account, groups.is_empty()) {
        groups = UserInfo::service_account(namespace, account).groups;
    }
    let general = if name == "system:anonymous" { "system:unauthenticated" } else { "system:authenticated" };
    if groups.iter().all(|group| group != general) {
        groups.push(general.to_owned());
    }
    UserInfo { name: name.to_owned(), uid: uid.unwrap_or_default().to_owned(), groups, extra }
}

/// Namespace and name in `system:serviceaccount:NAMESPACE:NAME`.
fn service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

/// `Impersonate-Extra-KEY: VALUE`, the key percent-encoded and in lower case.
fn extras(headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let (Some(key), Ok(value)) = (name.as_str().strip_prefix(EXTRA), value.to_str()) else { continue };
        // The decoder for forms would also turn a plus into a space, which no header key means.
        let encoded = key.replace('+', "%2B");
        let key = form_urlencoded::parse(encoded.as_bytes())
            .next()
            .map_or(String::new(), |(key, _)| key.into_owned());
        extra.entry(key).or_default().push(value.to_owned());
    }
    extra
}
