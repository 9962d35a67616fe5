//! Who and what is let in: authentication, the audit log, impersonation, a seat, authorization; paths that suit their kind,
//! and how long a client waits.

use std::sync::Arc;
use std::time::Duration;

use http::header::ACCEPT_ENCODING;
use http::request::Parts;
use skep_api::registry::Resource;
use skep_api::status::Status;
use skep_api::validation::names;
use tokio::time::Instant;

use crate::audit::Audited;
use crate::course::Course;
use crate::duration;
use crate::fairness::Facts;
use crate::query::Query;
use crate::request::RequestInfo;
use crate::server::Inner;
use crate::user::UserInfo;

/// Nobody waits longer for a seat.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Who makes a request, if they may: authenticate, write down, impersonate, authorize, in upstream's order.
pub(super) async fn let_in(
    inner: &Inner,
    info: &RequestInfo,
    resource: Option<&Arc<Resource>>,
    query: &Query,
    parts: &mut Parts,
    course: &mut Course,
) -> Result<UserInfo, Status> {
    let user = match inner.gate().authenticate(parts, info).await {
        Ok(user) => user,
        Err(status) => {
            inner.audit().refused(&course.id, info, parts, &status).await;
            return Err(status);
        }
    };
    course.record = inner.audit().receive(&course.id, &user, info, parts).await?;
    if course.record.wants_response() {
        // The answer is to be read on its way out.
        parts.headers.remove(ACCEPT_ENCODING);
        parts.extensions.insert(Audited);
    }
    let user = match inner.gate().impersonate(&user, parts, info).await? {
        Some(assumed) => {
            course.record.impersonated(&assumed);
            assumed.user
        }
        None => user,
    };
    seat(inner, info, resource, query, &user, course).await?;
    let decision = inner.gate().decide(&user, info).await;
    let allowed = decision.is_allowed();
    course.record.annotate("authorization.k8s.io/decision", if allowed { "allow" } else { "forbid" });
    course.record.annotate("authorization.k8s.io/reason", &decision.reason);
    if allowed { Ok(user) } else { Err(decision.refusal(&user, info)) }
}

/// Waits for a seat. What lasts needs none, but for watches while they begin.
async fn seat(
    inner: &Inner,
    info: &RequestInfo,
    resource: Option<&Arc<Resource>>,
    query: &Query,
    user: &UserInfo,
    course: &mut Course,
) -> Result<(), Status> {
    if info.is_long_running() && info.verb != "watch" {
        return Ok(());
    }
    let facts = || resource.map(|resource| facts(inner, resource)).unwrap_or_default();
    let limit = inner.lasting().request;
    let left = course.deadline.map_or(limit, |deadline| deadline.saturating_duration_since(Instant::now()));
    let patience = (left / 4).min(LONGEST_WAIT);
    let started = Instant::now();
    let (classified, permit) = inner.fairness().enter(user, info, query, facts, patience, &course.lane).await;
    course.notes.waited(started.elapsed());
    course.classified = classified;
    course.cut_off = permit.is_err();
    course.permit = Some(permit?);
    Ok(())
}

/// What a request for a resource may cost.
fn facts(inner: &Inner, resource: &Resource) -> Facts {
    let usage = inner.storage().cache.collection(resource).map(|collection| collection.usage());
    let watchers = usize::try_from(inner.metrics().watchers(resource).get()).unwrap_or_default();
    let (objects, bytes) = usage.map_or((0, 0), |usage| (usage.objects, usage.object_bytes));
    Facts { objects, bytes, watchers }
}

/// Whether the path suits the kind: namespaces where there are namespaces, and nothing behind the end.
pub(super) fn check_path(resource: &Resource, info: &RequestInfo) -> Result<(), Status> {
    let namespace_is_itself =
        resource.group.is_empty() && resource.plural == "namespaces" && info.name == info.namespace;
    let misplaced = !resource.namespaced && !info.namespace.is_empty() && !namespace_is_itself;
    let all_namespaces = resource.namespaced && info.namespace.is_empty();
    let trailing = !info.rest.is_empty() && info.subresource != "proxy";
    if misplaced || trailing {
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

/// Names that cannot be in paths are those of no object.
fn check_name(name: &str) -> Result<(), Status> {
    names::path_segment(name)
        .map_err(|why| Status::bad_request(format!("Name parameter invalid: {name:?}: {why}")))
}

pub(super) fn no_such_method() -> Status {
    Status::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
}

/// How long the client is ready to wait (`timeout=10s`), within what the server is.
pub(super) fn patience(query: &Query, limit: Duration) -> Result<Duration, Status> {
    let Some(text) = query.get("timeout") else { return Ok(limit) };
    match duration::parse(text) {
        Ok(Duration::ZERO) => Ok(limit),
        Ok(asked) => Ok(asked.min(limit)),
        Err(why) => Err(Status::bad_request(format!("invalid timeout specified in the request URL - {why}"))),
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
            ("timeout=-1s", None),
            ("timeout=x", None),
        ];
        for (query, milliseconds) in cases {
            let found = patience(&Query::parse(query), limit);
            assert_eq!(found.ok(), milliseconds.map(Duration::from_millis), "{query}");
        }
    }
}
