//! What fairness holds, as the three tables that upstream shows below `/debug/api_priority_and_fairness/`: its columns, and
//! its way to set them. Pure, but for locking each level once.
//!
//! Where upstream leaves a column at nought that it has a name for, the number is what the name says: who waited too long is
//! among `TimedoutRequests`, and only who went away is among `CancelledRequests`.

use std::fmt::Write;

use jiff::{SignedDuration, Timestamp};

use super::Fairness;
use super::classify;
use super::levels::{Active, Levels};
use super::queues::{Request, Seconds, Snapshot, Work};
use crate::duration;

/// The narrowest column.
const NARROWEST: usize = 8;
/// The time of what has not been yet, as Go writes it.
const NEVER: &str = "0001-01-01T00:00:00Z";

const OF_LEVEL: [&str; 10] = [
    "PriorityLevelName",
    "ActiveQueues",
    "IsIdle",
    "IsQuiescing",
    "WaitingRequests",
    "ExecutingRequests",
    "DispatchedRequests",
    "RejectedRequests",
    "TimedoutRequests",
    "CancelledRequests",
];
const OF_QUEUE: [&str; 9] = [
    "PriorityLevelName",
    "Index",
    "PendingRequests",
    "ExecutingRequests",
    "SeatsInUse",
    "NextDispatchR",
    "InitialSeatsSum",
    "MaxSeatsSum",
    "TotalWorkSum",
];
/// The fifth is written so.
const OF_REQUEST: [&str; 10] = [
    "PriorityLevelName",
    "FlowSchemaName",
    "QueueIndex",
    "RequestIndexInQueue",
    "FlowDistingsher",
    "ArriveTime",
    "InitialSeats",
    "FinalSeats",
    "AdditionalLatency",
    "StartTime",
];
const DETAILS: [&str; 8] =
    ["UserName", "Verb", "APIPath", "Namespace", "Name", "APIVersion", "Resource", "SubResource"];

/// One of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Levels,
    Queues,
    /// `details` are who asks, and for what.
    Requests {
        details: bool,
    },
}

impl Table {
    /// The table at a path.
    pub(crate) fn find(path: &str, details: bool) -> Option<Self> {
        match path.strip_prefix("/debug/api_priority_and_fairness/")? {
            "dump_priority_levels" => Some(Self::Levels),
            "dump_queues" => Some(Self::Queues),
            "dump_requests" => Some(Self::Requests { details }),
            _ => None,
        }
    }
}

impl Fairness {
    /// A table of what there is at `now`.
    pub(crate) fn table(&self, table: Table, now: Timestamp) -> String {
        let levels = self.inner.levels.read().clone();
        let clock = Wall { now, seconds: self.inner.now() };
        aligned(&match table {
            Table::Levels => of_levels(&levels),
            Table::Queues => of_queues(&levels),
            Table::Requests { details } => of_requests(&levels, details, &clock),
        })
    }
}

type Rows = Vec<Vec<String>>;

/// What the seconds of fairness are on the clock on the wall.
struct Wall {
    now: Timestamp,
    seconds: Seconds,
}

impl Wall {
    fn text(&self, at: Seconds) -> String {
        let ago = SignedDuration::try_from_secs_f64(self.seconds - at).unwrap_or_default();
        self.now.saturating_sub(ago).unwrap_or(Timestamp::MIN).to_string()
    }
}

/// Levels in order of their names, those on their way out among them; whether they are.
fn shown(levels: &Levels) -> Vec<(&Active, bool, Snapshot)> {
    let there = levels.levels.values().map(|one| (&**one, false));
    let leaving = levels.leaving.iter().map(|one| (&**one, true));
    let mut all: Vec<_> = there.chain(leaving).collect();
    all.sort_by(|(one, _), (other, _)| one.level.name.cmp(&other.level.name));
    let seen = |active: &Active| active.state.queues.lock().snapshot();
    all.into_iter().map(|(active, leaves)| (active, leaves, seen(active))).collect()
}

fn heads(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn of_levels(levels: &Levels) -> Rows {
    let mut rows = vec![heads(&OF_LEVEL)];
    for (active, leaves, seen) in shown(levels) {
        let busy = seen.queues.iter().filter(|(_, queue)| !queue.waiting.is_empty()).count();
        let counts = seen.counts;
        rows.push(vec![
            active.level.name.to_string(),
            busy.to_string(),
            seen.is_idle.to_string(),
            leaves.to_string(),
            seen.waiting.to_string(),
            seen.executing.to_string(),
            counts.dispatched.to_string(),
            counts.rejected.to_string(),
            counts.timed_out.to_string(),
            counts.cancelled.to_string(),
        ]);
    }
    rows
}

fn of_queues(levels: &Levels) -> Rows {
    let mut rows = vec![heads(&OF_QUEUE)];
    for (active, _, seen) in shown(levels) {
        for (at, queue) in &seen.queues {
            let sum = |of: fn(&Work) -> u32| queue.waiting.iter().map(|one| of(&one.work)).sum::<u32>();
            let work: f64 = queue.waiting.iter().map(|one| one.work.total()).sum();
            rows.push(vec![
                active.level.name.to_string(),
                at.to_string(),
                queue.waiting.len().to_string(),
                queue.executing.len().to_string(),
                queue.seats.to_string(),
                seat_seconds(queue.next),
                sum(|work| work.seats).to_string(),
                sum(Work::width).to_string(),
                seat_seconds(work),
            ]);
        }
    }
    rows
}

fn of_requests(levels: &Levels, details: bool, clock: &Wall) -> Rows {
    let mut rows = vec![heads(&OF_REQUEST)];
    if details {
        rows[0].extend(heads(&DETAILS));
    }
    for (active, _, seen) in shown(levels) {
        let mut push = |queue: &str, at: String, one: &Request| {
            let mut row = of_request(&active.level.name, queue, at, one, clock);
            if details {
                row.extend(detailed(one));
            }
            rows.push(row);
        };
        for (number, queue) in &seen.queues {
            let number = number.to_string();
            for (at, one) in queue.waiting.iter().enumerate() {
                push(&number, at.to_string(), one);
            }
            for one in &queue.executing {
                push(&number, "-1".to_owned(), one);
            }
        }
        for one in &seen.queueless {
            push("-1", "-1".to_owned(), one);
        }
    }
    rows
}

fn of_request(level: &str, queue: &str, at: String, one: &Request, clock: &Wall) -> Vec<String> {
    let distinguisher = classify::distinguisher(&one.schema, &one.asking.user, &one.asking.info);
    vec![
        level.to_owned(),
        one.schema.name.to_string(),
        queue.to_owned(),
        at,
        plain(distinguisher),
        clock.text(one.arrived),
        one.work.seats.to_string(),
        one.work.final_seats.to_string(),
        duration::text(one.work.lingering),
        one.started.map_or_else(|| NEVER.to_owned(), |started| clock.text(started)),
    ]
}

fn detailed(one: &Request) -> Vec<String> {
    let info = &one.asking.info;
    let version = match info.group.as_str() {
        "" => info.version.clone(),
        group => format!("{group}/{}", info.version),
    };
    let named = [&*one.asking.user, &info.verb, &info.path, &info.namespace, &info.name, &version];
    named.into_iter().chain([info.resource.as_str(), &info.subresource]).map(plain).collect()
}

/// What others made up, such that it cannot pass for more than one column or row.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter.is_control() {
            true => plain.extend(letter.escape_default()),
            false => plain.push(letter),
        }
    }
    plain
}

/// As upstream writes what seats times seconds are.
fn seat_seconds(value: f64) -> String {
    format!("{value:.8}ss")
}

/// Rows with their columns below each other: each but the last ends with a comma, and a space at least.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let wide = |at: usize| rows.iter().map(|row| row[at].chars().count() + 2).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns).map(|at| wide(at).max(NARROWEST)).collect();
    let mut text = String::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            if at + 1 == row.len() {
                text.push_str(cell);
            } else {
                // Writing to a text does not fail.
                let _ = write!(text, "{:<width$}", format!("{cell},"), width = widths[at]);
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_set_as_upstream_sets_them() {
        let rows: Rows = [["a", "bb", "c"], ["longer-than-that", "", "d"]].map(|row| heads(&row)).into();
        assert_eq!(aligned(&rows), "a,                bb,     c\nlonger-than-that, ,       d\n");
        assert_eq!(
            (seat_seconds(0.003), seat_seconds(12.5)),
            ("0.00300000ss".into(), "12.50000000ss".into())
        );
    }

    #[test]
    fn name_with_a_line_break_stays_in_its_column() {
        assert_eq!(plain("a\n\tb, ü"), "a\\n\\tb, ü");
    }
}
