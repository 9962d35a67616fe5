//! The options of a request: what a list or watch selects and where it reads, how a write is to be done.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use skep_api::decode::FieldValidation;
use skep_api::registry::Resource;
use skep_api::select::{FieldSelector, LabelSelector};
use skep_api::status::Status;
use skep_api::validation::FieldError;

use crate::cache::Object;
use crate::failure::invalid_options;
use crate::handlers::LONGEST_MANAGER;
use crate::query::Query;
use crate::respond::view;

/// Where a list reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadAt {
    /// Everything acknowledged so far.
    Newest,
    /// Whatever is at hand.
    Any,
    /// At this revision or later.
    NotOlderThan(u64),
    /// At this revision.
    Exact(u64),
}

/// Which objects a list, watch or deletion of a collection is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selection {
    /// Reads both selectors.
    pub(crate) fn parse(resource: &Resource, query: &Query) -> Result<Self, Status> {
        let labels = query.get("labelSelector").map(LabelSelector::parse).transpose()?.unwrap_or_default();
        let fields =
            query.get("fieldSelector").map(|text| FieldSelector::parse(resource, text)).transpose()?;
        Ok(Self { labels, fields: fields.unwrap_or_default() })
    }

    /// Whether everything is selected.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether this object is selected by what it is in the version of `resource`.
    pub(crate) fn matches(&self, resource: &Resource, object: &Object) -> bool {
        if !self.labels.is_empty() && !object.is_selected(&self.labels) {
            return false;
        }
        if self.fields.is_empty() {
            true
        } else if resource.is_served_as_stored() {
            self.fields.matches(&object.only(self.fields.paths()))
        } else {
            self.fields.matches(&view(resource, object))
        }
    }
    /// The same of an object that is not stored.
    pub(crate) fn matches_value(&self, object: &Value) -> bool {
        self.labels.matches(object) && self.fields.matches(object)
    }
}

/// Where a list that was cut off goes on: what a client sends back as `continue`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// The revision of the snapshot; `None` goes on in the newest.
    pub(crate) revision: Option<u64>,
    /// The last key that was sent, below the prefix of the list.
    pub(crate) after: String,
}

impl Token {
    /// The text of the token, in upstream's form.
    pub(crate) fn encode(&self) -> String {
        let revision = self.revision.map_or(-1, |revision| revision as i64);
        let text = json!({ "v": "meta.k8s.io/v1", "rv": revision, "start": format!("{}\0", self.after) });
        URL_SAFE_NO_PAD.encode(text.to_string())
    }

    fn decode(text: &str) -> Result<Self, Status> {
        let bad = |why: &str| Status::bad_request(format!("continue key is not valid: {why}"));
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| bad("not base64"))?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| bad("not JSON"))?;
        if value["v"] != "meta.k8s.io/v1" {
            return Err(bad("server does not recognize this encoded version"));
        }
        let start =
            value["start"].as_str().filter(|start| !start.is_empty()).ok_or_else(|| bad("no start"))?;
        if start.split('/').any(|part| part == "..") {
            return Err(bad("start leads out of the list"));
        }
        let revision = match value["rv"].as_i64() {
            Some(-1) => None,
            Some(revision) if revision > 0 => Some(revision as u64),
            _ => return Err(bad("incorrect encoded start resourceVersion")),
        };
        Ok(Self { revision, after: start.trim_end_matches('\0').to_owned() })
    }
}

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

fn forbidden(field: &str, why: &str) -> Status {
    invalid_options("ListOptions", FieldError::forbidden(field, why))
}

/// The revision of a request; `None` when there is none.
fn revision(query: &Query) -> Result<Option<u64>, Status> {
    let Some(text) = query.get("resourceVersion") else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        Status::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: \
             invalid syntax"
        ))
    })
}

fn number(query: &Query, name: &str) -> Result<Option<u64>, Status> {
    match query.number(name) {
        Ok(None) => Ok(None),
        Ok(Some(number)) => Ok(Some(number.max(0) as u64)),
        Err(text) => Err(Status::bad_request(format!(
            "strconv.ParseInt: parsing {text:?}: invalid syntax (parameter {name})"
        ))),
    }
}

impl ListOptions {
    /// Reads the options of a list (Kubernetes API concepts, "resourceVersion parameter").
    pub(crate) fn parse(resource: &Resource, query: &Query) -> Result<Self, Status> {
        let selection = Selection::parse(resource, query)?;
        let limit = number(query, "limit")?.unwrap_or_default() as usize;
        // Lists are answered sooner; what is no number is refused all the same.
        number(query, "timeoutSeconds")?;
        let revision = revision(query)?;
        let token = query.get("continue").map(Token::decode).transpose()?;
        let word = query.get("resourceVersionMatch");
        if query.has("sendInitialEvents") {
            return Err(forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
        }
        match (word, revision, &token) {
            (Some(_), _, Some(_)) => {
                let why = "resourceVersionMatch is forbidden when continue is provided";
                return Err(forbidden("resourceVersionMatch", why));
            }
            (Some(_), None, None) => {
                let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                return Err(forbidden("resourceVersionMatch", why));
            }
            (_, Some(1..), Some(_)) => {
                return Err(Status::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            _ => {}
        }
        let at = match (word, revision) {
            (None | Some("NotOlderThan"), Some(0)) => ReadAt::Any,
            (None, None) => ReadAt::Newest,
            (None, Some(revision)) if limit > 0 => ReadAt::Exact(revision),
            (None | Some("NotOlderThan"), Some(revision)) => ReadAt::NotOlderThan(revision),
            (Some("Exact"), Some(0)) => {
                let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                return Err(forbidden("resourceVersionMatch", why));
            }
            (Some("Exact"), Some(revision)) => ReadAt::Exact(revision),
            (Some(other), _) => return Err(unknown_match(other)),
        };
        Ok(Self { selection, limit, at, token })
    }
}

fn unknown_match(word: &str) -> Status {
    let choices = ["Exact", "NotOlderThan", ""];
    invalid_options("ListOptions", FieldError::not_supported("resourceVersionMatch", word, &choices))
}

impl WatchOptions {
    /// Reads the options of a watch (KEP-3157 for `sendInitialEvents`).
    pub(crate) fn parse(resource: &Resource, query: &Query) -> Result<Self, Status> {
        let selection = Selection::parse(resource, query)?;
        let revision = revision(query)?;
        let bookmarks = query.flag("allowWatchBookmarks");
        let timeout = number(query, "timeoutSeconds")?.filter(|seconds| *seconds > 0);
        let word = query.get("resourceVersionMatch");
        let at = match (query.optional_flag("sendInitialEvents"), word) {
            (None, Some(_)) => {
                let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                return Err(forbidden("resourceVersionMatch", why));
            }
            (Some(_), None) => {
                let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
                return Err(forbidden("resourceVersionMatch", why));
            }
            (Some(_), Some(word)) if word != "NotOlderThan" => return Err(unknown_match(word)),
            (Some(true), _) => WatchFrom::State { at: read_at(revision), marked: bookmarks },
            (Some(false), _) if revision.unwrap_or_default() == 0 => WatchFrom::Now,
            (None, _) if revision.unwrap_or_default() == 0 => {
                WatchFrom::State { at: read_at(revision), marked: false }
            }
            (_, _) => WatchFrom::After(revision.unwrap_or_default()),
        };
        Ok(Self { selection, at, bookmarks, timeout })
    }
}

fn read_at(revision: Option<u64>) -> ReadAt {
    match revision {
        None => ReadAt::Newest,
        Some(0) => ReadAt::Any,
        Some(revision) => ReadAt::NotOlderThan(revision),
    }
}

/// The options of a write that are the same for all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WriteOptions {
    /// Everything but the write itself is done.
    pub(crate) dry_run: bool,
    /// What to do about unknown fields.
    pub(crate) validation: FieldValidation,
}

impl WriteOptions {
    /// Reads the options; `kind` names them in errors.
    pub(crate) fn parse(kind: &str, query: &Query) -> Result<Self, Status> {
        manager(kind, query)?;
        if kind == "PatchOptions" && query.has("force") {
            let why = "may not be specified for non-apply patch";
            return Err(invalid_options(kind, FieldError::forbidden("force", why)));
        }
        Self::common(kind, query)
    }

    fn common(kind: &str, query: &Query) -> Result<Self, Status> {
        Ok(Self {
            dry_run: dry_run(kind, query.all("dryRun").filter(|word| !word.is_empty()))?,
            validation: FieldValidation::parse(query.get("fieldValidation").unwrap_or_default())?,
        })
    }
}

/// Checks the name of the field manager.
fn manager(kind: &str, query: &Query) -> Result<(), Status> {
    let name = query.get("fieldManager").unwrap_or_default();
    if name.chars().count() > LONGEST_MANAGER {
        return Err(invalid_options(kind, FieldError::too_long("fieldManager", LONGEST_MANAGER)));
    }
    if name.chars().any(char::is_control) {
        let why = "should only contain printable characters";
        return Err(invalid_options(kind, FieldError::invalid("fieldManager", name, why)));
    }
    Ok(())
}

/// The options of an apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApplyOptions {
    pub(crate) write: WriteOptions,
    pub(crate) manager: String,
    /// Whether to take over what others own.
    pub(crate) force: bool,
}

impl ApplyOptions {
    /// Reads the options.
    pub(crate) fn parse(query: &Query) -> Result<Self, Status> {
        let kind = "PatchOptions";
        manager(kind, query)?;
        let manager = query.get("fieldManager").unwrap_or_default().to_owned();
        if manager.is_empty() {
            let error = FieldError::required("fieldManager", "is required for apply patch");
            return Err(invalid_options(kind, error));
        }
        Ok(Self { write: WriteOptions::common(kind, query)?, manager, force: query.flag("force") })
    }
}

/// Reads the words of `dryRun`, of which there is one.
pub(crate) fn dry_run<'a>(kind: &str, words: impl Iterator<Item = &'a str>) -> Result<bool, Status> {
    let mut found = false;
    for word in words {
        if word != "All" {
            return Err(invalid_options(kind, FieldError::not_supported("dryRun", word, &["All"])));
        }
        found = true;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use skep_api::registry::registry;

    use super::*;

    fn list(query: &str) -> Result<ListOptions, Status> {
        ListOptions::parse(registry().find("", "v1", "pods").unwrap(), &Query::parse(query))
    }

    fn watch(query: &str) -> Result<WatchOptions, Status> {
        WatchOptions::parse(registry().find("", "v1", "pods").unwrap(), &Query::parse(query))
    }

    #[test]
    fn list_reads_where_upstream_reads() {
        let cases = [
            ("", ReadAt::Newest),
            ("resourceVersion=0", ReadAt::Any),
            ("resourceVersion=7", ReadAt::NotOlderThan(7)),
            ("resourceVersion=7&limit=3", ReadAt::Exact(7)),
            ("resourceVersion=7&limit=3&resourceVersionMatch=NotOlderThan", ReadAt::NotOlderThan(7)),
            ("resourceVersion=7&resourceVersionMatch=Exact", ReadAt::Exact(7)),
            ("resourceVersion=0&resourceVersionMatch=NotOlderThan", ReadAt::Any),
        ];
        for (query, expected) in cases {
            assert_eq!(list(query).unwrap().at, expected, "{query}");
        }
    }

    #[test]
    fn list_with_contradictions_is_refused() {
        let cases = [
            ("resourceVersionMatch=Exact", 422),
            ("resourceVersion=0&resourceVersionMatch=Exact", 422),
            ("resourceVersion=1&resourceVersionMatch=Newest", 422),
            ("resourceVersion=x", 400),
            ("limit=x", 400),
            ("continue=%%%", 400),
            ("continue=e30", 400),
            ("labelSelector=a+in+(", 400),
            ("fieldSelector=spec.color%3Dred", 400),
        ];
        for (query, code) in cases {
            assert_eq!(list(query).unwrap_err().code, code, "{query}");
        }
    }

    #[test]
    fn token_survives_the_way_to_the_client_and_back() {
        for token in
            [Token { revision: Some(9), after: "a/x".into() }, Token { revision: None, after: "y".into() }]
        {
            assert_eq!(Token::decode(&token.encode()).unwrap(), token);
        }
    }

    #[test]
    fn watch_begins_where_upstream_begins() {
        let initial = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
        assert_eq!(watch("").unwrap().at, WatchFrom::State { at: ReadAt::Newest, marked: false });
        assert_eq!(
            watch("resourceVersion=0").unwrap().at,
            WatchFrom::State { at: ReadAt::Any, marked: false }
        );
        assert_eq!(watch("resourceVersion=5").unwrap().at, WatchFrom::After(5));
        assert_eq!(watch(initial).unwrap().at, WatchFrom::State { at: ReadAt::Newest, marked: true });
        assert_eq!(watch("sendInitialEvents=true").unwrap_err().code, 422);
        assert_eq!(watch("resourceVersionMatch=NotOlderThan").unwrap_err().code, 422);
    }
}
