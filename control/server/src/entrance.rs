//! Who makes a request, and whether they may: authenticate, write down, impersonate, take a seat, authorize; and what
//! admission says of connections.

use std::sync::Arc;
use std::time::Duration;

use http::header::ACCEPT_ENCODING;
use http::request::Parts;
use serde_json::Value;
use skep_api::registry::{Registry, Resource};
use skep_api::status::Status;
use tokio::time::Instant;

use crate::admission::{Asked, Attributes, Notes, Operation};
use crate::audit::{Audited, Times};
use crate::course::Course;
use crate::fairness::Facts;
use crate::latencies::Layer;
use crate::metrics::Filter;
use crate::query::Query;
use crate::remarks::noting;
use crate::request::RequestInfo;
use crate::server::Inner;
use crate::storage::{Ownership, Scope};
use crate::streams;
use crate::user::UserInfo;

/// Nobody waits longer for a seat.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Who makes a request, if they may: authenticate, write down, impersonate, authorize, in upstream's order.
pub(crate) async fn let_in(
    inner: &Inner,
    info: &Arc<RequestInfo>,
    resource: Option<&Arc<Resource>>,
    query: &Query,
    parts: &mut Parts,
    course: &mut Course,
) -> Result<UserInfo, Status> {
    let (notes, passed) =
        (course.notes.clone(), |filter, took| inner.metrics().requests().passed(filter, took));
    let (latencies, mut lap) = (&notes.latencies, Instant::now());
    let user = match noting(&course.notes, inner.gate().authenticate(parts, info)).await {
        Ok(user) => user,
        Err(status) => {
            inner.audit().refused(&course.id, info, parts, &status, &course.notes).await;
            return Err(status);
        }
    };
    passed(Filter::Authentication, latencies.lap(Layer::Authentication, &mut lap));
    // What watches is told what happens, however long that takes.
    let times = (info.verb != "watch").then(|| Times { notes: course.notes.clone(), began: course.began });
    course.record = inner.audit().receive(&course.id, &user, info, parts, times).await?;
    if course.record.wants_response() {
        // The answer is to be read on its way out.
        parts.headers.remove(ACCEPT_ENCODING);
        parts.extensions.insert(Audited);
    }
    passed(Filter::Audit, lap.elapsed());
    lap = Instant::now();
    let assumed = inner.gate().impersonate(&user, parts, info).await;
    if !matches!(assumed, Ok(None)) {
        passed(Filter::Impersonation, latencies.lap(Layer::Impersonation, &mut lap));
    }
    let user = match assumed? {
        Some(assumed) => {
            course.record.impersonated(&assumed);
            assumed.user
        }
        None => user,
    };
    lap = Instant::now();
    let seated = seat(inner, info, resource, query, &user, course).await;
    passed(Filter::Fairness, lap.elapsed());
    seated?;
    lap = Instant::now();
    let decision = inner.gate().decide(&user, info).await;
    passed(Filter::Authorization, latencies.lap(Layer::Authorization, &mut lap));
    let allowed = decision.is_allowed();
    course.record.annotate("authorization.k8s.io/decision", if allowed { "allow" } else { "forbid" });
    course.record.annotate("authorization.k8s.io/reason", &decision.reason);
    if allowed { Ok(user) } else { Err(decision.refusal(&user, info)) }
}

/// Waits for a seat. What lasts needs none, but for watches while they begin.
async fn seat(
    inner: &Inner,
    info: &Arc<RequestInfo>,
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
    let (classified, permit) = {
        let _waiting = course.notes.latencies.enter(Layer::QueueWait);
        inner.fairness().enter(user, info, query, facts, patience, &course.lane).await
    };
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

/// Asks admission about a connection. Reading a log is none.
pub(crate) async fn connect(
    inner: &Inner,
    info: &RequestInfo,
    kinds: &Registry,
    resource: &Resource,
    user: &UserInfo,
    query: &Query,
    notes: &Notes,
) -> Result<(), Status> {
    if info.subresource == "log" {
        return Ok(());
    }
    let scope = Scope {
        resource,
        kinds,
        namespace: if resource.namespaced { &info.namespace } else { "" },
        subresource: &info.subresource,
        user,
        dry_run: false,
        ownership: Ownership::Decided,
        asked: Some(Asked { verb: &info.verb, query, notes, until: None }),
        admitted: false,
    };
    let attributes = Attributes::new(Operation::Connect, &scope, &info.name, None, Value::Null);
    let mut options = streams::options_object(info, query);
    inner.storage().admission.pass(&attributes, Some(&mut options)).await
}
