//! Large ranges, read in two halves at the same time, each over a connection of its own.
//!
//! Owns where a range is cut, and that both halves are of one state: a half that saw a later revision than the other is
//! read again. Where writes come too fast for that, the range is read as any other.

use rusqlite::{Connection, OptionalExtension, Row};

use super::read::{Range, Readers, list_now};
use crate::{KeyValue, Listing, Revision, StoreError};

/// Ranges of fewer keys are read by one connection: the second one would not be worth its while.
const LARGE: i64 = 2000;

/// How often both halves are read.
const TRIES: usize = 3;

/// What a first look at a range gives.
pub(super) enum First {
    /// The range, which is small, and how many keys its limit left off.
    Whole(Vec<KeyValue>, u64),
    /// The range is large: the key in its middle.
    Large(Vec<u8>),
}

/// Reads a range if it is small.
pub(super) fn first_look(connection: &Connection, range: &Range) -> rusqlite::Result<First> {
    match middle(connection, range)? {
        Some(key) => Ok(First::Large(key)),
        None => list_now(connection, range).map(|(items, remaining)| First::Whole(items, remaining)),
    }
}

/// The key in the middle of a large range without a limit.
fn middle(connection: &Connection, range: &Range) -> rusqlite::Result<Option<Vec<u8>>> {
    if range.limit != usize::MAX {
        return Ok(None);
    }
    let sql = "SELECT count(*) FROM head WHERE key >= ?1 AND key < ?2";
    let count = |row: &Row<'_>| row.get::<_, i64>(0);
    let count = connection.prepare_cached(sql)?.query_row((&range.start, &range.end), count)?;
    if count < LARGE {
        return Ok(None);
    }
    let sql = "SELECT key FROM head WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT 1 OFFSET ?3";
    let key = |row: &Row<'_>| row.get(0);
    connection.prepare_cached(sql)?.query_row((&range.start, &range.end, count / 2), key).optional()
}

impl Readers {
    /// The whole range in two halves, cut at `middle`; nothing if writes came in between each time.
    pub(super) async fn list_in_halves(
        &self,
        range: &Range,
        middle: &[u8],
    ) -> Result<Option<Listing>, StoreError> {
        for _ in 0..TRIES {
            let (first, second) =
                tokio::try_join!(self.half(&range.start, middle), self.half(middle, &range.end))?;
            if first.1 == second.1 {
                let (mut items, revision) = first;
                items.extend(second.0);
                return Ok(Some(Listing { items, revision, remaining: 0 }));
            }
        }
        Ok(None)
    }

    async fn half(&self, start: &[u8], end: &[u8]) -> Result<(Vec<KeyValue>, Revision), StoreError> {
        let range = Range { start: start.to_vec(), end: end.to_vec(), limit: usize::MAX };
        let read = move |connection: &Connection, _: &_| list_now(connection, &range);
        let ((items, _), state) = self.run("list", read).await?;
        Ok((items, state.revision))
    }
}
