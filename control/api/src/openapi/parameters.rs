//! The parameters in the query of each verb, as the documents tell of them. Does not own what they do: two are of upstream's
//! alpha features, which are published whether or not they are on; here they have no effect.

use serde_json::{Value, json};

/// One parameter: its name, its type and what it means.
pub(super) fn query(name: &str, kind: &str, description: &str) -> Value {
    json!({
        "name": name, "in": "query", "description": description,
        "schema": { "type": kind, "uniqueItems": true }
    })
}

/// Name, type and meaning of the parameters in a query.
pub(super) const LIST: [(&str, &str, &str); 11] = [
    ("allowWatchBookmarks", "boolean", "Ask for bookmark events in a watch."),
    ("continue", "string", "The token of the answer that this request continues."),
    ("fieldSelector", "string", "Only objects whose fields meet these conditions."),
    ("labelSelector", "string", "Only objects whose labels meet these conditions."),
    ("limit", "integer", "The most objects that one answer may have."),
    ("resourceVersion", "string", "The version that the answer must have, as resourceVersionMatch says."),
    ("resourceVersionMatch", "string", "How resourceVersion is meant: Exact or NotOlderThan."),
    ("sendInitialEvents", "boolean", "Start a watch with the objects that are there."),
    ("shardSelector", "string", "An alpha feature; has no effect here."),
    ("timeoutSeconds", "integer", "Seconds after which the call ends."),
    ("watch", "boolean", "Send changes instead of a list."),
];
const WRITE: [(&str, &str, &str); 3] = [
    ("dryRun", "string", "With 'All', nothing is stored."),
    ("fieldManager", "string", "The name of the one who makes the change."),
    ("fieldValidation", "string", "What to do about unknown and duplicate fields: Ignore, Warn or Strict."),
];
const DELETE: [(&str, &str, &str); 5] = [
    ("dryRun", "string", "With 'All', nothing is deleted."),
    ("gracePeriodSeconds", "integer", "Seconds until the object is deleted."),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean", "An alpha feature; has no effect here."),
    ("orphanDependents", "boolean", "The older form of propagationPolicy."),
    ("propagationPolicy", "string", "What becomes of dependents: Orphan, Background or Foreground."),
];

/// The parameters of a verb; a stream (`connect`) has none that are told of here.
pub(super) fn parameters(verb: &str, connect: bool) -> Vec<Value> {
    let of =
        |all: &[(&str, &str, &str)]| all.iter().map(|(name, kind, text)| query(name, kind, text)).collect();
    match verb {
        _ if connect => Vec::new(),
        "list" => of(&LIST),
        "deletecollection" => of(&[&DELETE[..], &LIST[1..10]].concat()),
        "create" | "update" => of(&WRITE),
        "patch" => of(&[&WRITE[..], &[("force", "boolean", "Take over fields that others own.")]].concat()),
        "delete" => of(&DELETE),
        _ => Vec::new(),
    }
}
