//! The options of lists and watches (Kubernetes API concepts, "resourceVersion parameter"; KEP-3157 for
//! `sendInitialEvents`).

use skep_api::registry::Resource;
use skep_api::status::Status;
use skep_api::validation::FieldError;

use super::{ReadAt, Selection, Token, number};
use crate::failure::invalid_options;
use crate::query::Query;

const MATCH: &str = "resourceVersionMatch";
const EXACT: &str = "Exact";
const NOT_OLDER: &str = "NotOlderThan";

/// The options of a list.
#[derive(Clone, Debug)]
pub(crate) struct ListOptions {
    pub(crate) selection: Selection,
    /// At most so many objects; 0 means all.
    pub(crate) limit: usize,
    pub(crate) at: ReadAt,
    /// Where to go on.
    pub(crate) token: Option<Token>,
}

/// The options of a watch.
#[derive(Clone, Debug)]
pub(crate) struct WatchOptions {
    pub(crate) selection: Selection,
    pub(crate) at: WatchFrom,
    pub(crate) bookmarks: bool,
    /// Seconds; the server chooses when there are none.
    pub(crate) timeout: Option<u64>,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatchFrom {
    /// With what comes after this revision.
    After(u64),
    /// With what is there, then what comes. `marked` puts a bookmark between the two.
    State {
        /// How new the state must be.
        at: ReadAt,
        /// Whether the end of the state is told.
        marked: bool,
    },
    /// With what comes from now on.
    Now,
}

impl ListOptions {
    /// Reads the options of a list.
    pub(crate) fn parse(resource: &Resource, query: &Query) -> Result<Self, Status> {
        let limit = number(query, "limit")?.unwrap_or_default().max(0);
        // Lists are answered sooner; what is no number is refused all the same.
        number(query, "timeoutSeconds")?;
        refuse(list_errors(query))?;
        let selection = Selection::parse(resource, query)?;
        let (token, revision) = match query.get("continue").map(Token::decode).transpose()? {
            Some(_) if !matches!(query.get("resourceVersion"), None | Some("0")) => {
                return Err(Status::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            token => (token, revision(query)?),
        };
        let at = match (query.get(MATCH), revision) {
            (_, None) => ReadAt::Newest,
            (Some(EXACT), Some(revision)) => ReadAt::Exact(revision),
            (_, Some(0)) => ReadAt::Any,
            (None, Some(revision)) if limit > 0 => ReadAt::Exact(revision),
            (_, Some(revision)) => ReadAt::NotOlderThan(revision),
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(Self { selection, limit, at, token })
    }
}

/// What contradicts itself, or a list.
fn list_errors(query: &Query) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut forbidden = |field: &str, why: &str| errors.push(FieldError::forbidden(field, why));
    let (word, revision) = (query.get(MATCH), query.get("resourceVersion"));
    if word.is_some() && revision.is_none() {
        forbidden(MATCH, "resourceVersionMatch is forbidden unless resourceVersion is provided");
    }
    if word.is_some() && query.get("continue").is_some() {
        forbidden(MATCH, "resourceVersionMatch is forbidden when continue is provided");
    }
    if word == Some(EXACT) && revision == Some("0") {
        forbidden(MATCH, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
    }
    if query.has("sendInitialEvents") {
        forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list");
    }
    if let Some(word) = word.filter(|word| ![EXACT, NOT_OLDER].contains(word)) {
        let at = errors.iter().take_while(|error| error.field == MATCH).count();
        errors.insert(at, FieldError::not_supported(MATCH, word, &[EXACT, NOT_OLDER, ""]));
    }
    errors
}

impl WatchOptions {
    /// Reads the options of a watch.
    pub(crate) fn parse(resource: &Resource, query: &Query) -> Result<Self, Status> {
        let timeout = number(query, "timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok());
        let timeout = timeout.filter(|seconds| *seconds > 0);
        number(query, "limit")?;
        refuse(watch_errors(query))?;
        let selection = Selection::parse(resource, query)?;
        let revision = revision(query)?;
        let bookmarks = query.flag("allowWatchBookmarks");
        let at = match query.optional_flag("sendInitialEvents") {
            Some(true) => WatchFrom::State { at: read_at(revision), marked: bookmarks },
            Some(false) if revision.unwrap_or_default() == 0 => WatchFrom::Now,
            None if revision.unwrap_or_default() == 0 => {
                WatchFrom::State { at: read_at(revision), marked: false }
            }
            _ => WatchFrom::After(revision.unwrap_or_default()),
        };
        Ok(Self { selection, at, bookmarks, timeout })
    }
}

/// What contradicts itself, or a watch.
fn watch_errors(query: &Query) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut forbidden = |why: &str| errors.push(FieldError::forbidden(MATCH, why));
    let (word, events) = (query.get(MATCH), query.has("sendInitialEvents"));
    if events && word != Some(NOT_OLDER) {
        forbidden("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    }
    if word.is_some() && !events {
        forbidden("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
    }
    if let Some(word) = word.filter(|word| *word != NOT_OLDER) {
        errors.push(FieldError::not_supported(MATCH, word, &[NOT_OLDER]));
    }
    // A watch from the beginning is one with initial events, also where it does not say so.
    let whole = !events && matches!(query.get("resourceVersion"), None | Some("0"));
    if (word.is_some() || whole) && query.get("continue").is_some() {
        let why = "resourceVersionMatch is forbidden when continue is provided";
        errors.push(FieldError::forbidden(MATCH, why));
    }
    errors
}

fn refuse(errors: Vec<FieldError>) -> Result<(), Status> {
    if errors.is_empty() { Ok(()) } else { Err(invalid_options("ListOptions", &errors)) }
}

/// The revision of a request; `None` when there is none.
///
/// # Errors
/// 400 when it is no number.
pub(crate) fn revision(query: &Query) -> Result<Option<u64>, Status> {
    let Some(text) = query.get("resourceVersion") else { return Ok(None) };
    text.parse().map(Some).map_err(|error: std::num::ParseIntError| {
        let why = match error.kind() {
            std::num::IntErrorKind::PosOverflow => "value out of range",
            _ => "invalid syntax",
        };
        let why = format!("strconv.ParseUint: parsing {text:?}: {why}");
        let error = FieldError::invalid("resourceVersion", text, why);
        Status::bad_request(format!("invalid resource version: {error}"))
    })
}

fn read_at(revision: Option<u64>) -> ReadAt {
    match revision {
        None => ReadAt::Newest,
        Some(0) => ReadAt::Any,
        Some(revision) => ReadAt::NotOlderThan(revision),
    }
}
