//! Checks of a data file: SQLite's own, and that the tables agree with each other.
//!
//! Only reads. What was found goes into [`StoreError::Corrupt`].

use std::path::Path;

use rusqlite::Connection;

use super::failure::Failure;
use super::schema::State;
use crate::StoreError;

/// How much is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// What every start can afford: the pages of the file.
    Pages,
    /// Indexes too, and every row's contents against the counters: for copies.
    Everything,
}

/// Checks the file's structure; works on any SQLite file.
pub(super) fn structure(connection: &Connection, path: &Path, depth: Depth) -> Result<(), StoreError> {
    let sql = match depth {
        Depth::Pages => "PRAGMA quick_check(1)",
        Depth::Everything => "PRAGMA integrity_check(1)",
    };
    let result = connection.query_row(sql, [], |row| row.get::<_, String>(0));
    let detail = result.map_err(|error| Failure { operation: "check the data file", path }.explain(error))?;
    if detail == "ok" { Ok(()) } else { Err(corrupt(path, detail)) }
}

/// Checks what the tables say; works on a file of the newest schema.
pub(super) fn contents(connection: &Connection, path: &Path, depth: Depth) -> Result<State, StoreError> {
    let failed = |error| Failure { operation: "check the data file", path }.explain(error);
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(failed);
    let state = match State::read(connection) {
        Ok(state) => state,
        Err(rusqlite::Error::QueryReturnedNoRows) => {
            return Err(corrupt(path, "the counters are missing".into()));
        }
        Err(error) => return Err(failed(error)),
    };
    let newest = number("SELECT ifnull(max(rev), 0) FROM entry")?;
    if newest > super::schema::number(state.revision) {
        let detail = format!("revision {newest} is there, the counter says {}", state.revision.0);
        return Err(corrupt(path, detail));
    }
    let lost = number(
        "SELECT count(*) FROM head h LEFT JOIN entry e ON e.rev = h.rev
            WHERE e.key IS NOT h.key OR e.value IS NULL",
    )?;
    if lost > 0 {
        return Err(corrupt(path, format!("{lost} keys point to values that are not there")));
    }
    if depth == Depth::Everything {
        let total = number("SELECT ifnull(sum(length(key) + ifnull(length(value), 0)), 0) FROM entry")?;
        let live = number(
            "SELECT ifnull(sum(length(e.key) + length(e.value)), 0) FROM head h CROSS JOIN entry e ON e.rev = h.rev",
        )?;
        if (total, live) != (state.total_bytes, state.live_bytes) {
            let counted = (state.total_bytes, state.live_bytes);
            return Err(corrupt(
                path,
                format!("{total} bytes, {live} of them live; the counters say {counted:?}"),
            ));
        }
    }
    Ok(state)
}

fn corrupt(path: &Path, detail: String) -> StoreError {
    StoreError::Corrupt { path: path.to_owned(), detail }
}
