//! How many seats a request takes: lists and watches by what they have to read, writes by who is told. Pure.

use std::time::Duration;

use super::queues::Work;
use crate::query::Query;
use crate::request::RequestInfo;

/// Bytes that a seat stands for, and the most that a list holds in memory at once, since it is streamed.
const BYTES_PER_SEAT: usize = 100_000;
const MOST_BYTES: usize = 1_000_000;
const MOST_LIST_SEATS: u32 = 100;
const MOST_WRITE_SEATS: u32 = 10;
/// So many watchers take one seat for so long, each time that something is written.
const WATCHES_PER_SEAT: usize = 10;
const PER_EVENT: Duration = Duration::from_millis(5);

/// What is known about the resource of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// How many objects there are, and how many bytes they have together.
    pub(crate) objects: usize,
    pub(crate) bytes: usize,
    /// How many watch it.
    pub(crate) watchers: usize,
}

/// What a request costs. `most` is what its level gives to one request, 0 where it does not say.
pub(super) fn estimate(info: &RequestInfo, query: &Query, facts: Facts, most: u32) -> Work {
    if !info.is_resource {
        return Work::ONE;
    }
    let within = |limit: u32| if most == 0 { limit } else { most.min(limit) };
    match info.verb.as_str() {
        "list" => Work { seats: list(info, query, facts, within(MOST_LIST_SEATS)), ..Work::ONE },
        "watch" if begins_with_state(query) => {
            Work { seats: list(info, query, facts, within(MOST_LIST_SEATS)), ..Work::ONE }
        }
        _ if is_told(info) => write(facts.watchers, within(MOST_WRITE_SEATS)),
        _ => Work::ONE,
    }
}

/// Whether those are told of it who watch. The token of an account is no event for those who watch accounts.
pub(super) fn is_told(info: &RequestInfo) -> bool {
    info.is_resource
        && matches!(info.verb.as_str(), "create" | "update" | "patch" | "delete")
        && info.subresource != "token"
}

fn begins_with_state(query: &Query) -> bool {
    query.flag("sendInitialEvents") || matches!(query.get("resourceVersion"), None | Some("0"))
}

fn list(info: &RequestInfo, query: &Query, facts: Facts, most: u32) -> u32 {
    let limit = query.number("limit").ok().flatten().and_then(|limit| usize::try_from(limit).ok());
    let limited = match limit.filter(|limit| *limit > 0) {
        Some(limit) => facts.objects.min(limit),
        None => facts.objects,
    };
    let objects = if info.name.is_empty() { limited } else { 1 };
    let average = facts.bytes.checked_div(facts.objects).unwrap_or_default();
    let bytes = (objects * average).min(MOST_BYTES);
    (bytes.div_ceil(BYTES_PER_SEAT) as u32).clamp(1, most.max(1))
}

fn write(watchers: usize, most: u32) -> Work {
    if watchers < WATCHES_PER_SEAT {
        return Work::ONE;
    }
    let seats = watchers.div_ceil(WATCHES_PER_SEAT) as u32;
    let final_seats = seats.min(most.max(1));
    Work { seats: 1, final_seats, lingering: PER_EVENT * seats / final_seats }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn work(line: &str, facts: Facts, most: u32) -> Work {
        let (method, target) = line.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query = Query::parse(query);
        estimate(&RequestInfo::parse(&method.parse::<Method>().unwrap(), path, &query), &query, facts, most)
    }

    #[test]
    fn lists_and_watches_cost_what_they_read() {
        let facts = Facts { objects: 1000, bytes: 5_000_000, watchers: 0 };
        for (line, seats) in [
            ("GET /api/v1/pods", 10),
            ("GET /api/v1/pods?limit=100", 5),
            ("GET /api/v1/pods?fieldSelector=metadata.name%3Da", 1),
            ("GET /api/v1/pods?watch=1", 10),
            ("GET /api/v1/pods?watch=1&resourceVersion=0", 10),
            ("GET /api/v1/pods?watch=1&resourceVersion=77", 1),
            ("GET /api/v1/pods?watch=1&resourceVersion=77&sendInitialEvents=true", 10),
            ("GET /api/v1/namespaces/a/pods/b", 1),
            ("GET /healthz", 1),
        ] {
            assert_eq!(work(line, facts, 0), Work { seats, ..Work::ONE }, "{line}");
        }
        assert_eq!(work("GET /api/v1/pods", facts, 4).seats, 4, "the level gives less");
        assert_eq!(work("GET /api/v1/pods", Facts::default(), 0).seats, 1);
    }

    #[test]
    fn writes_cost_by_their_watchers() {
        let with = |watchers, most| {
            let facts = Facts { watchers, ..Facts::default() };
            work("PUT /api/v1/namespaces/a/pods/b", facts, most)
        };
        assert_eq!(with(9, 0), Work::ONE);
        assert_eq!(with(50, 0), Work { seats: 1, final_seats: 5, lingering: PER_EVENT });
        assert_eq!(with(200, 0), Work { seats: 1, final_seats: 10, lingering: PER_EVENT * 2 });
        assert_eq!(with(50, 1), Work { seats: 1, final_seats: 1, lingering: PER_EVENT * 5 });
        let facts = Facts { watchers: 50, ..Facts::default() };
        assert_eq!(work("POST /api/v1/namespaces/a/serviceaccounts/b/token", facts, 0), Work::ONE);
    }
}
