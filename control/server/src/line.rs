//! What the line of a request says before anybody handles it: whether its path suits the kind, how long its client waits,
//! in which forms its answer is.

use std::time::Duration;

use http::HeaderMap;
use skep_api::registry::Resource;
use skep_api::status::Status;
use skep_api::validation::names;

use crate::duration;
use crate::handlers::PATCHES;
use crate::negotiate;
use crate::query::Query;
use crate::request::RequestInfo;

/// Whether what is at the path is an object, which has a form in YAML: all that is below the roots of the API.
pub(crate) fn has_yaml(info: &RequestInfo) -> bool {
    let root = info.path.split('/').nth(1).unwrap_or_default();
    info.is_resource || matches!(root, "api" | "apis")
}

/// Whether somebody looks there how this server is.
pub(crate) fn is_looked_at(path: &str) -> bool {
    ["/metrics", "/livez", "/readyz", "/healthz"].iter().any(|start| path.starts_with(start))
}

/// Whether the path suits the kind: namespaces where there are namespaces, and nothing behind the end.
pub(crate) fn check_path(resource: &Resource, info: &RequestInfo) -> Result<(), Status> {
    let namespace_is_itself =
        resource.group.is_empty() && resource.plural == "namespaces" && info.name == info.namespace;
    if matches!(info.namespace.as_str(), "." | "..") {
        let key =
            format!("{}/", resource.store_prefix(None).trim_start_matches("/registry").trim_end_matches('/'));
        return Err(Status::bad_request(format!("invalid key: {:?}", key + &info.namespace)));
    }
    let has_slash = [&info.namespace, &info.name].into_iter().any(|part| part.contains('/'));
    // There is no such path for what is only ever created, nor for the older way of binding outside of a namespace.
    let nowhere = !info.name.is_empty() && info.subresource.is_empty() && !resource.has_verb("get")
        || resource.plural == "bindings" && resource.group.is_empty() && info.namespace.is_empty();
    let misplaced = !resource.namespaced && !info.namespace.is_empty() && !namespace_is_itself;
    let all_namespaces = resource.namespaced && info.namespace.is_empty();
    let trailing = !info.rest.is_empty() && info.subresource != "proxy";
    if misplaced || trailing || has_slash || nowhere && resource.custom.is_none() {
        return Err(Status::no_such_path());
    }
    check_name(&info.name)?;
    match info.verb.as_str() {
        // Not of all namespaces at once, and nowhere else, either, than where the path says.
        "deletecollection" if all_namespaces && info.path.contains("/namespaces//") => {
            Err(Status::bad_request("Namespace parameter required."))
        }
        "deletecollection" if all_namespaces => Err(no_such_method()),
        "list" | "watch" | "deletecollection" => Ok(()),
        _ if all_namespaces && info.name.is_empty() => Err(no_such_method()),
        _ if all_namespaces => Err(Status::no_such_path()),
        "create" => Ok(()),
        _ if info.name.is_empty() => Err(no_such_method()),
        _ => Ok(()),
    }
}

/// Whether the body of a patch to a built-in kind is one, and the client takes what the path has, as upstream's router judges
/// it.
///
/// # Errors
///
/// 415 when the body is none, 406 when the client takes nothing that there is.
pub(crate) fn check_media(info: &RequestInfo, headers: &HeaderMap) -> Result<(), Status> {
    if info.verb == "patch" && info.subresource != "proxy" {
        negotiate::routed_patch(headers, &PATCHES)?;
    }
    match (info.subresource.as_str(), info.verb.as_str()) {
        ("exec" | "attach" | "portforward" | "proxy", _) => Ok(()),
        ("log", _) => negotiate::routed(headers, &negotiate::ROUTED_LOG),
        (_, "list" | "watch") => negotiate::routed(headers, &negotiate::ROUTED_STREAMS),
        _ => negotiate::routed(headers, &negotiate::ROUTED),
    }
}

/// Names that cannot be in paths are those of no object.
fn check_name(name: &str) -> Result<(), Status> {
    names::path_segment(name)
        .map_err(|why| Status::bad_request(format!("Name parameter invalid: {name:?}: {why}")))
}

pub(crate) fn no_such_method() -> Status {
    let why = "the server does not allow this method on the requested resource";
    Status::new(405, "MethodNotAllowed", why).about("", "", "")
}

/// How long the client is ready to wait (`timeout=10s`), within what the server is.
pub(crate) fn patience(query: &Query, limit: Duration) -> Result<Duration, Status> {
    let Some(text) = query.get("timeout") else { return Ok(limit) };
    match duration::parse(text) {
        Ok(Duration::ZERO) => Ok(limit),
        Ok(asked) => Ok(asked.min(limit)),
        // Nobody waits for less than nothing: upstream takes it as if nothing were said.
        Err(_) if text.strip_prefix('-').is_some_and(|rest| duration::parse(rest).is_ok()) => Ok(limit),
        Err(_) => {
            let what = match text.parse::<f64>() {
                Ok(_) => "missing unit in",
                Err(_) => "invalid",
            };
            let why =
                format!("invalid timeout specified in the request URL - time: {what} duration {text:?}");
            Err(Status::bad_request(why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_that_cannot_be_in_a_path_is_refused() {
        let refused = |name: &str| check_name(name).map_err(|status| (status.code, status.message));
        assert_eq!(refused("a.b-c"), Ok(()));
        assert_eq!(refused(""), Ok(()));
        let why = |text: &str| Err((400, format!("Name parameter invalid: {text}")));
        assert_eq!(refused(".."), why("\"..\": may not be '..'"));
        assert_eq!(refused("a/b"), why("\"a/b\": may not contain '/'"));
    }

    #[test]
    fn patience_is_the_clients_within_the_servers() {
        let limit = Duration::from_secs(60);
        let cases = [
            ("", Some(60_000)),
            ("timeout=10s", Some(10_000)),
            ("timeout=1m30s", Some(60_000)),
            ("timeout=0", Some(60_000)),
            ("timeout=250ms", Some(250)),
            ("timeout=5", None),
            ("timeout=-1s", Some(60_000)),
            ("timeout=x", None),
        ];
        for (query, milliseconds) in cases {
            let found = patience(&Query::parse(query), limit);
            assert_eq!(found.ok(), milliseconds.map(Duration::from_millis), "{query}");
        }
    }
}
