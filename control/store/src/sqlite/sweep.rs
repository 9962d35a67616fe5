//! Forgetting: how far history may be forgotten, and the removal of what was, in bounded steps.
//!
//! Owns the retention rule (pure) and its SQL. Runs inside the writer's transactions, so that it costs no fsync of its own
//! while there are writes, and nothing at all while there are none.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::options::Retention;
use super::schema::{State, number};
use crate::Revision;

/// Revisions that stay whatever their size.
const LEAST: u64 = 100;

/// The least time between two marks.
const MARK_EVERY: Duration = Duration::from_secs(1);

/// Revisions that are removed before the clock is looked at again.
const PIECE: u64 = 32;

/// Free pages that are not worth giving back: the next writes use them.
const SPARE_PAGES: i64 = 256;

/// Nor is this part of all pages.
const SPARE_PART: i64 = 16;

/// Bytes of a page.
pub(super) const PAGE: i64 = 4096;

/// The pages of the data file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pages {
    pub(super) all: i64,
    pub(super) free: i64,
}

impl Pages {
    pub(super) fn count(connection: &Connection) -> rusqlite::Result<Self> {
        let number = |sql| connection.prepare_cached(sql)?.query_row([], |row| row.get(0));
        Ok(Self { all: number("PRAGMA page_count")?, free: number("PRAGMA freelist_count")? })
    }

    /// Whether those in use come to more than two and a half times the live data. So, with some spare pages, the file
    /// stays within three times, whatever the values are like: superseded rows leave holes in pages that live ones keep.
    fn are_many(self, live_bytes: i64) -> bool {
        (self.all - self.free).saturating_mul(PAGE) > live_bytes.saturating_mul(5) / 2
    }
}

/// Which revision was the newest when: ages without a clock that can jump. Starts anew with the process.
#[derive(Debug, Default)]
pub(super) struct Marks(VecDeque<(Instant, Revision)>);

impl Marks {
    /// Notes that `revision` is the newest at `now`.
    pub(super) fn note(&mut self, now: Instant, revision: Revision) {
        if self.0.back().is_none_or(|(last, _)| now.duration_since(*last) >= MARK_EVERY) {
            self.0.push_back((now, revision));
        }
    }

    /// The newest revision that is older than `age`.
    fn older_than(&mut self, now: Instant, age: Duration) -> Option<Revision> {
        let old = self.0.partition_point(|(made, _)| now.duration_since(*made) >= age);
        let (_, revision) = *self.0.get(old.checked_sub(1)?)?;
        self.0.drain(..old - 1);
        Some(revision)
    }
}

/// Up to where history should be forgotten. `step` bounds how many revisions are given up for their size at a time.
pub(super) fn target(
    state: &State,
    pages: Pages,
    marks: &mut Marks,
    now: Instant,
    retention: &Retention,
    step: u64,
) -> Revision {
    let newest = state.revision.0;
    let by_age = marks.older_than(now, retention.age).map_or(0, |revision| revision.0);
    let by_count = newest.saturating_sub(retention.revisions);
    let history = u64::try_from(state.total_bytes - state.live_bytes).unwrap_or_default();
    let large = history > retention.bytes && pages.are_many(state.live_bytes);
    // What is already given up but not yet removed still counts, so wait for it.
    let by_size = if large && state.swept == state.compacted {
        state.compacted.0.saturating_add(step).min(newest.saturating_sub(LEAST))
    } else {
        0
    };
    state.compacted.max(Revision(by_age.max(by_count).max(by_size)))
}

/// Removes the history of up to `most` revisions that were given up; stops early, but not at once, at `deadline`.
pub(super) fn sweep(
    connection: &Connection,
    state: &mut State,
    most: u64,
    deadline: Instant,
) -> rusqlite::Result<()> {
    let upto = Revision(state.swept.0.saturating_add(most)).min(state.compacted);
    while state.swept < upto {
        let next = Revision(state.swept.0 + PIECE).min(upto);
        sweep_to(connection, state, next)?;
        if Instant::now() >= deadline {
            break;
        }
    }
    Ok(())
}

fn sweep_to(connection: &Connection, state: &mut State, upto: Revision) -> rusqlite::Result<()> {
    let superseded = "DELETE FROM entry WHERE rev IN
        (SELECT prev_rev FROM entry WHERE rev > ?1 AND rev <= ?2 AND prev_rev IS NOT NULL)
        RETURNING length(key) + ifnull(length(value), 0)";
    let deletions = "DELETE FROM entry WHERE rev > ?1 AND rev <= ?2 AND value IS NULL
        RETURNING length(key)";
    for sql in [superseded, deletions] {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query((number(state.swept), number(upto)))?;
        while let Some(row) = rows.next()? {
            state.total_bytes -= row.get::<_, i64>(0)?;
        }
    }
    state.swept = upto;
    Ok(())
}

/// Of these `pages`, gives up to `most` back to the file system when more are free than the next writes use; stops at `deadline`.
pub(super) fn vacuum(
    connection: &Connection,
    pages: Pages,
    most: u32,
    deadline: Instant,
) -> rusqlite::Result<()> {
    if pages.free > SPARE_PAGES.max(pages.all / SPARE_PART) {
        let mut statement = connection.prepare_cached(&format!("PRAGMA incremental_vacuum({most})"))?;
        // One page per row.
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() && Instant::now() < deadline {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Retention = Retention { age: Duration::from_secs(300), revisions: 1000, bytes: 5000 };

    /// So many that the file is too large for its live data.
    const MANY: Pages = Pages { all: 100, free: 0 };
    const FEW: Pages = Pages { all: 100, free: 100 };

    fn state(revision: u64, live: i64, total: i64) -> State {
        State { revision: Revision(revision), live_bytes: live, total_bytes: total, ..State::default() }
    }

    #[test]
    fn target_within_every_limit_stays() {
        let now = Instant::now();
        let mut marks = Marks::default();
        marks.note(now, Revision(1));
        assert_eq!(target(&state(900, 0, 5000), MANY, &mut marks, now, &KEEP, 64), Revision(0));
        assert_eq!(target(&state(900, 0, 6000), FEW, &mut marks, now, &KEEP, 64), Revision(0));
    }

    #[test]
    fn target_by_count_keeps_the_newest_revisions() {
        let target = target(&state(1500, 0, 0), FEW, &mut Marks::default(), Instant::now(), &KEEP, 64);
        assert_eq!(target, Revision(500));
    }

    #[test]
    fn target_by_age_is_the_newest_revision_that_is_old() {
        let start = Instant::now();
        let mut marks = Marks::default();
        for second in 0..400 {
            marks.note(start + Duration::from_secs(second), Revision(second * 2));
        }
        let now = start + Duration::from_secs(400);
        assert_eq!(target(&state(900, 0, 0), FEW, &mut marks, now, &KEEP, 64), Revision(200));
        assert_eq!(
            target(&state(900, 0, 0), FEW, &mut marks, now, &KEEP, 64),
            Revision(200),
            "asking twice is the same"
        );
    }

    #[test]
    fn target_by_size_moves_in_steps_and_waits_for_the_sweep() {
        let (now, mut marks) = (Instant::now(), Marks::default());
        let mut full = state(900, 100, 6000);
        let mut ask = |state: &State, pages| target(state, pages, &mut marks, now, &KEEP, 64);
        assert_eq!(ask(&full, MANY), Revision(64));
        full.compacted = Revision(64);
        assert_eq!(ask(&full, MANY), Revision(64), "not swept yet");
        full.swept = Revision(64);
        assert_eq!(ask(&full, MANY), Revision(128));
        let (live, whole) = (100_000, 120_000);
        assert_eq!(ask(&State { live_bytes: live, total_bytes: whole, ..full }, FEW), Revision(64));
        let pages = live * 5 / 2 / PAGE;
        for (all, free, forgets) in [(pages, 0, false), (pages + 1, 0, true), (pages + 9, 9, false)] {
            let at = ask(&State { live_bytes: live, total_bytes: whole, ..full }, Pages { all, free });
            assert_eq!(at > Revision(64), forgets, "{all} pages, {free} of them free");
        }
    }
}
