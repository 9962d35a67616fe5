//! What part of a log a client wants, as the query of `containerLogs` says it. Pure.

use jiff::{SignedDuration, Timestamp};

use crate::refusal::Refusal;
use crate::route::{Query, switch, value};

/// One of a process's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Stdout,
    Stderr,
}

/// What part of a log is wanted, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogOptions {
    /// Go on as the log grows, until the container's end.
    pub(crate) follow: bool,
    /// The run before the present one.
    pub(crate) previous: bool,
    /// Write each line's time before it.
    pub(crate) timestamps: bool,
    /// Only so many lines from the end.
    pub(crate) tail: Option<u64>,
    /// Only lines of this time or later.
    pub(crate) since: Option<Timestamp>,
    /// End after so many bytes.
    pub(crate) limit: Option<u64>,
    /// Only one output.
    pub(crate) output: Option<Output>,
}

/// Reads a query. `now` is what `sinceSeconds` counts back from.
pub(crate) fn parse(query: &Query, now: Timestamp) -> Result<LogOptions, Refusal> {
    Ok(LogOptions {
        follow: switch(query, "follow"),
        previous: switch(query, "previous"),
        timestamps: switch(query, "timestamps"),
        tail: number(query, "tailLines", 0)?,
        since: since(query, now)?,
        limit: number(query, "limitBytes", 1)?,
        output: output(query)?,
    })
}

fn number(query: &Query, key: &str, least: i64) -> Result<Option<u64>, Refusal> {
    let Some(text) = value(query, key) else { return Ok(None) };
    let number = text.parse::<i64>().ok().filter(|number| *number >= least);
    let number = number.and_then(|number| u64::try_from(number).ok());
    number.map(Some).ok_or_else(|| {
        Refusal::bad_request(format!("invalid {key} {text:?}: must be an integer of at least {least}"))
    })
}

fn since(query: &Query, now: Timestamp) -> Result<Option<Timestamp>, Refusal> {
    let seconds = number(query, "sinceSeconds", 1)?;
    let time = value(query, "sinceTime");
    match (seconds, time) {
        (Some(_), Some(_)) => {
            Err(Refusal::bad_request("at most one of sinceTime or sinceSeconds may be specified"))
        }
        (Some(seconds), None) => {
            let back = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
            // So far back that no time can say it: everything.
            Ok(Some(now.checked_sub(back).unwrap_or(Timestamp::MIN)))
        }
        (None, Some(text)) => match text.parse() {
            Ok(time) => Ok(Some(time)),
            Err(_) => Err(Refusal::bad_request(format!("invalid sinceTime {text:?}: must be RFC 3339"))),
        },
        (None, None) => Ok(None),
    }
}

fn output(query: &Query) -> Result<Option<Output>, Refusal> {
    match value(query, "stream") {
        None | Some("" | "All") => Ok(None),
        Some("Stdout") => Ok(Some(Output::Stdout)),
        Some("Stderr") => Ok(Some(Output::Stderr)),
        Some(other) => {
            Err(Refusal::bad_request(format!("invalid stream {other:?}: must be All, Stdout or Stderr")))
        }
    }
}
