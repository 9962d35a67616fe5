//! What a request asks for, read from its method, path and query (`RequestInfo` of Kubernetes' API server).

use http::Method;
use skep_api::validation::names;

use crate::authz::{Requirement, selectors};
use crate::query::Query;

/// The attributes of a request that routing, authorization and audit look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether the path names a resource (`/api/...`, `/apis/...` with a resource part).
    pub is_resource: bool,
    /// The whole path, percent-decoded; as sent, if a segment of it has a slash inside, so that it leads nowhere.
    pub path: String,
    /// get, list, watch, create, update, patch, delete, deletecollection; for other paths the lower-case method.
    pub verb: String,
    /// API group, empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Namespace, empty for cluster scope or all namespaces.
    pub namespace: String,
    /// Plural resource name.
    pub resource: String,
    /// Subresource, or empty.
    pub subresource: String,
    /// Object name, or empty.
    pub name: String,
    /// What follows the subresource (`proxy/...`), without the leading slash.
    pub rest: String,
    /// What a list, watch or deletion of a collection selects by fields.
    pub field_selector: Vec<Requirement>,
    /// The same by labels.
    pub label_selector: Vec<Requirement>,
}

/// Subresources of namespaces: `/api/v1/namespaces/NAME/status` is not a resource "status" in a namespace.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl RequestInfo {
    /// Reads a request. Every path is something; whether it leads anywhere, routing says.
    pub(crate) fn parse(method: &Method, path: &str, query: &Query) -> Self {
        let plain =
            Self { path: decoded(path), verb: method.as_str().to_ascii_lowercase(), ..Self::default() };
        Self::resource(&plain, method, path, query).unwrap_or(plain)
    }

    fn resource(plain: &Self, method: &Method, path: &str, query: &Query) -> Option<Self> {
        let mut info = Self { is_resource: true, ..plain.clone() };
        let (root, mut rest) = segment(path.strip_prefix('/')?);
        match percent_decoded(root)?.as_str() {
            "api" => {}
            "apis" => info.group = take(&mut rest)?,
            _ => return None,
        }
        info.version = take(&mut rest)?;
        // The old form of a watch, `/api/v1/watch/...`.
        let next_is =
            |rest: &str, word: &str| percent_decoded(segment(rest).0).is_some_and(|found| found == word);
        let watch_path = next_is(rest, "watch") && {
            rest = segment(rest).1;
            true
        };
        info.verb = verb(method).to_owned();
        if next_is(rest, "namespaces") {
            let (namespace, behind) = segment(segment(rest).1);
            let next = percent_decoded(segment(behind).0)?;
            // The namespace itself is an object in itself, as far as authorization goes.
            info.namespace = percent_decoded(namespace)?;
            if !next.is_empty() && !NAMESPACE_SUBRESOURCES.contains(&next.as_str()) {
                rest = behind;
            }
        }
        info.resource = take(&mut rest)?;
        info.name = take(&mut rest).unwrap_or_default();
        info.subresource = take(&mut rest).unwrap_or_default();
        info.rest = rest.to_owned();
        if watch_path {
            info.verb = if info.verb == "get" { "watch" } else { "" }.to_owned();
        } else if info.name.is_empty() {
            info.verb = collection_verb(&info.verb, query).to_owned();
        }
        if matches!(info.verb.as_str(), "list" | "watch" | "deletecollection") {
            let fields = query.get("fieldSelector").unwrap_or_default();
            info.field_selector = selectors::of_fields(fields);
            info.label_selector = query.get("labelSelector").map(selectors::of_labels).unwrap_or_default();
            if info.name.is_empty() {
                info.name = name_in_selector(&info.field_selector).unwrap_or_default();
            }
        }
        Some(info)
    }

    /// Whether the request is meant to change something.
    pub(crate) fn writes(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }

    /// Whether the request may last: watches, streams, proxied requests.
    pub fn is_long_running(&self) -> bool {
        self.verb == "watch"
            || matches!(self.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy")
    }
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

fn collection_verb<'a>(verb: &'a str, query: &Query) -> &'a str {
    match verb {
        "get" if query.flag("watch") => "watch",
        "get" => "list",
        "delete" => "deletecollection",
        other => other,
    }
}

/// The first segment of a path without a leading slash, and what is behind it.
fn segment(path: &str) -> (&str, &str) {
    path.split_once('/').unwrap_or((path, ""))
}

/// Takes a segment that is not empty off the path.
fn take(path: &mut &str) -> Option<String> {
    let (first, rest) = segment(path);
    if first.is_empty() {
        return None;
    }
    *path = rest;
    percent_decoded(first)
}

/// A whole path, percent-decoded. One with a slash inside of a segment stays as it is: decoded, it would be another path, and
/// what lets in by paths would let in to what it hides.
fn decoded(path: &str) -> String {
    let slashes = |text: &str| text.matches('/').count();
    percent_decoded(path)
        .filter(|decoded| slashes(decoded) == slashes(path))
        .unwrap_or_else(|| path.to_owned())
}

/// Percent-decodes a segment; `None` if it is not UTF-8 then.
pub(crate) fn percent_decoded(segment: &str) -> Option<String> {
    if !segment.contains('%') {
        return Some(segment.to_owned());
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |byte: &u8| char::from(*byte).to_digit(16);
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                bytes.push((hex(high)? * 16 + hex(low)?) as u8);
                rest = tail;
            }
            (b'%', _) => return None,
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

/// The name in `metadata.name=NAME`, if that is a part of the selector and can be a name.
fn name_in_selector(selector: &[Requirement]) -> Option<String> {
    let name = selector.iter().find_map(|one| one.value("metadata.name"))?;
    names::path_segment(name).is_ok().then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// verb, group/version, namespace, resource, name, subresource, rest
    type Row<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str, &'a str, &'a str);

    #[track_caller]
    fn check(method: Method, path_and_query: &str, expected: Row<'_>) {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let info = RequestInfo::parse(&method, path, &Query::parse(query));
        let api = if info.group.is_empty() {
            info.version.clone()
        } else {
            format!("{}/{}", info.group, info.version)
        };
        let row: Row<'_> =
            (&info.verb, &api, &info.namespace, &info.resource, &info.name, &info.subresource, &info.rest);
        assert_eq!(row, expected, "{path_and_query}");
        assert!(info.is_resource);
    }

    #[test]
    fn request_for_a_resource_is_taken_apart() {
        check(Method::GET, "/api/v1/pods", ("list", "v1", "", "pods", "", "", ""));
        check(Method::GET, "/api/v1/namespaces", ("list", "v1", "", "namespaces", "", "", ""));
        check(Method::GET, "/api/v1/namespaces/a", ("get", "v1", "a", "namespaces", "a", "", ""));
        check(
            Method::PUT,
            "/api/v1/namespaces/a/finalize",
            ("update", "v1", "a", "namespaces", "a", "finalize", ""),
        );
        check(Method::GET, "/api/v1/namespaces/a/pods?watch=1", ("watch", "v1", "a", "pods", "", "", ""));
        check(Method::GET, "/api/v1/namespaces/a/pods/b?watch=1", ("get", "v1", "a", "pods", "b", "", ""));
        check(Method::GET, "/api/v1/pods?watch=false", ("list", "v1", "", "pods", "", "", ""));
        check(
            Method::DELETE,
            "/apis/apps/v1/namespaces/a/deployments",
            ("deletecollection", "apps/v1", "a", "deployments", "", "", ""),
        );
        check(
            Method::PATCH,
            "/apis/apps/v1/namespaces/a/deployments/d/scale",
            ("patch", "apps/v1", "a", "deployments", "d", "scale", ""),
        );
        check(
            Method::GET,
            "/api/v1/namespaces/a/pods/b/proxy/x/y%2Fz",
            ("get", "v1", "a", "pods", "b", "proxy", "x/y%2Fz"),
        );
        check(Method::GET, "/api/v1/watch/namespaces/a/pods", ("watch", "v1", "a", "pods", "", "", ""));
        check(
            Method::GET,
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
            ("get", "rbac.authorization.k8s.io/v1", "", "clusterroles", "system:node", "", ""),
        );
        let hidden =
            RequestInfo::parse(&Method::GET, "/apis%2Fmetrics.k8s.io/v1beta1/pods", &Query::parse(""));
        assert!(!hidden.is_resource && hidden.path.starts_with("/apis%2F"), "no rule for paths lets it in");
        check(Method::GET, "/%61pi/v1/n%61mespaces/a/p%6Fds", ("list", "v1", "a", "pods", "", "", ""));
        check(
            Method::GET,
            "/api/v1/nodes?fieldSelector=metadata.name%3Dn1",
            ("list", "v1", "", "nodes", "n1", "", ""),
        );
    }

    #[test]
    fn request_for_another_path_is_not_a_resource() {
        for path in [
            "/",
            "/api",
            "/api/v1",
            "/apis/apps/v1",
            "/apis/apps",
            "/healthz",
            "",
            "/api/v1/%ff",
            "/api/v1/%4",
        ] {
            let info = RequestInfo::parse(&Method::GET, path, &Query::default());
            assert!(!info.is_resource, "{path}");
            assert_eq!(info.verb, "get");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_request_is_read(
            method in "GET|PUT|POST|PATCH|DELETE|OPTIONS|MELT",
            path in "(/(api|apis|v1|apps|namespaces|pods|status|proxy|watch|%2[Ff0]|%[0-9a-z]{0,2}|[ -~]{0,6})){0,9}/?",
            query in "((limit|continue|resourceVersion|resourceVersionMatch|watch|labelSelector|fieldSelector|dryRun|\
                sendInitialEvents|timeoutSeconds|fieldValidation|fieldManager|force)=(1|0|true|Exact|All|%[0-9a-f]{2}|\
                [ -~]{0,8})&){0,5}",
        ) {
            let (method, query) = (Method::from_bytes(method.as_bytes())?, Query::parse(&query));
            let info = RequestInfo::parse(&method, &path, &query);
            proptest::prop_assert_eq!(&info.path, &decoded(&path));
            proptest::prop_assert_eq!(info.path.matches('/').count(), path.matches('/').count());
            proptest::prop_assert!(!info.is_resource || !(info.resource.is_empty() || info.version.is_empty()));
            let pods = skep_api::registry::registry().find("", "v1", "pods").expect("is served");
            let _ = crate::options::ListOptions::parse(pods, &query);
            let _ = crate::options::WatchOptions::parse(pods, &query);
            let _ = crate::options::WriteOptions::parse("UpdateOptions", &query);
            let _ = crate::options::ApplyOptions::parse(&query);
        }
    }
}
