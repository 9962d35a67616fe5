//! What an admission plug-in is told about a write, and what it may say beside its verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde_json::{Value, json};
use skep_api::status::Status;
use tokio::time::Instant;

use crate::latencies::Latencies;
use crate::query::Query;
use crate::storage::Scope;
use crate::user::UserInfo;

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
    /// A connection to it is opened (exec, attach, port-forward, proxy); the object is that of the options.
    Connect,
}

impl Operation {
    /// The word in admission reviews and policies.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// From which audit level on an annotation is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AuditDetail {
    /// With every event that is more than a count.
    Metadata,
    /// With events that carry the request.
    Request,
}

/// What is said about a request beside its answer: warnings for its author, annotations for the audit log. One per
/// request, shared by everybody who handles it.
#[derive(Debug, Default)]
pub struct Notes {
    warnings: Mutex<Vec<String>>,
    annotations: Mutex<BTreeMap<String, (AuditDetail, String)>>,
    /// How long it was where.
    pub(crate) latencies: Latencies,
}

impl Notes {
    /// Warns the author. A warning that was given is not given again, as a write may be decided several times.
    pub fn warn(&self, text: impl Into<String>) {
        let (text, mut warnings) = (text.into(), self.warnings.lock());
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    /// Warns of owners with these uids that were there twice, and are no longer. `when`: nothing, or when they were.
    pub(crate) fn warn_of_owners(&self, when: &str, uids: &[String]) {
        self.warn(format!(
            ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and may \
             reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            uids.join(", ")
        ));
    }

    /// Annotates the audit event, at the level of metadata; `key` is `NAME.admission.k8s.io/WHAT`.
    pub fn annotate(&self, key: &str, value: impl Into<String>) {
        self.annotate_at(AuditDetail::Metadata, key, value);
    }

    /// Annotates the audit event. What an annotation says first stays.
    pub fn annotate_at(&self, detail: AuditDetail, key: &str, value: impl Into<String>) {
        self.annotations.lock().entry(key.to_owned()).or_insert_with(|| (detail, value.into()));
    }

    /// The warnings so far.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().clone()
    }

    /// The annotations for an event of this detail.
    pub fn annotations(&self, detail: AuditDetail) -> BTreeMap<String, String> {
        let all = self.annotations.lock();
        let told = all.iter().filter(|(_, (least, _))| *least <= detail);
        told.map(|(key, (_, value))| (key.clone(), value.clone())).collect()
    }
}

/// The request that a write comes from.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The verb of the request.
    pub(crate) verb: &'a str,
    pub(crate) query: &'a Query,
    pub(crate) notes: &'a Notes,
    /// When it has to be over.
    pub(crate) until: Option<Instant>,
}

impl Asked<'_> {
    /// The options of the request as an object of this kind (`CreateOptions`, `UpdateOptions`).
    pub(crate) fn options(&self, kind: &str) -> Value {
        let mut options = json!({ "kind": kind, "apiVersion": "meta.k8s.io/v1" });
        for name in ["fieldManager", "fieldValidation"] {
            if let Some(value) = self.query.get(name) {
                options[name] = value.into();
            }
        }
        let dry: Vec<&str> = self.query.all("dryRun").filter(|word| !word.is_empty()).collect();
        if !dry.is_empty() {
            options["dryRun"] = json!(dry);
        }
        options
    }
}

/// Whether those that have changed an object before are to look at it again, because one after them changed it, too.
#[derive(Debug, Default)]
pub(crate) struct Again {
    asked: AtomicBool,
    second: AtomicBool,
    plugins: Mutex<BTreeMap<&'static str, Round>>,
}

/// What one plug-in remembers between the rounds.
#[derive(Debug, Default)]
struct Round {
    /// The object as the plug-in left it.
    left: Option<Value>,
    /// Those who were asked and want to see later changes.
    invoked: BTreeSet<String>,
    /// Those of them after whom something changed.
    wanted: BTreeSet<String>,
}

impl Round {
    fn require(&mut self) {
        self.wanted.append(&mut self.invoked);
    }
}

impl Again {
    /// A plug-in that asks others begins: what changed since it ended is for those who want to see it.
    pub(super) fn begin(&self, plugin: &'static str, object: Option<&Value>) {
        let mut plugins = self.plugins.lock();
        let round = plugins.entry(plugin).or_default();
        if self.is_second() && round.left.as_ref() != object {
            round.require();
        }
    }

    /// Somebody whom the plug-in asked changed the object.
    pub(super) fn require(&self, plugin: &'static str) {
        self.plugins.lock().entry(plugin).or_default().require();
        self.ask();
    }

    /// Somebody was asked who wants to see later changes.
    pub(super) fn invoked(&self, plugin: &'static str, who: String) {
        self.plugins.lock().entry(plugin).or_default().invoked.insert(who);
    }

    /// Whether somebody is to be asked in the second round.
    pub(super) fn is_wanted(&self, plugin: &'static str, who: &str) -> bool {
        self.plugins.lock().get(plugin).is_some_and(|round| round.wanted.contains(who))
    }

    /// The plug-in is done with the object for now.
    pub(super) fn end(&self, plugin: &'static str, object: Option<&Value>) {
        self.plugins.lock().entry(plugin).or_default().left = object.cloned();
    }

    /// Asks for a second round of the mutating phase. A second round asks for no third.
    pub(crate) fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    /// Whether this is the second round.
    pub(crate) fn is_second(&self) -> bool {
        self.second.load(Ordering::Relaxed)
    }

    /// Begins the second round if somebody asked for it.
    pub(super) fn begin_second(&self) -> bool {
        let asked = self.asked.load(Ordering::Relaxed);
        self.second.store(asked, Ordering::Relaxed);
        asked
    }
}

/// Something that a plug-in did in view of a write, such as a charge. It is told when the write has happened; when it is
/// dropped before, the write has failed.
pub(crate) trait Hold: Send {
    fn landed(&mut self);
}

/// What the plug-ins hold for one write.
#[derive(Default)]
pub(crate) struct Held(Vec<Box<dyn Hold>>);

impl Held {
    /// The write has happened.
    pub(crate) fn landed(&mut self) {
        self.0.iter_mut().for_each(|one| one.landed());
    }
}

/// What a plug-in knows about a write. Lives as long as one decision, both phases of it.
pub(crate) struct Attributes<'a> {
    pub(crate) operation: Operation,
    /// Resource, namespace, subresource, dry run.
    pub(crate) scope: &'a Scope<'a>,
    /// The name, empty while it is not known.
    pub(crate) name: &'a str,
    /// The object before the write: there for updates and deletions.
    pub(crate) old: Option<&'a Value>,
    /// The options as an object (`CreateOptions` and the like); null for connections.
    pub(crate) options: Value,
    /// What is said beside the verdict.
    #[allow(dead_code, reason = "plug-ins that warn come")]
    pub(crate) notes: &'a Notes,
    pub(crate) again: Again,
    held: Mutex<Held>,
}

impl<'a> Attributes<'a> {
    pub(crate) fn new(
        operation: Operation,
        scope: &'a Scope<'a>,
        name: &'a str,
        old: Option<&'a Value>,
        options: Value,
    ) -> Self {
        /// Where the notes of writes go that nobody asked for.
        static NOBODY: Notes = Notes {
            warnings: Mutex::new(Vec::new()),
            annotations: Mutex::new(BTreeMap::new()),
            latencies: Latencies::new(),
        };
        let notes = scope.asked.map_or(&NOBODY, |asked| asked.notes);
        Self { operation, scope, name, old, options, notes, again: Again::default(), held: Mutex::default() }
    }

    /// Keeps something until the write has happened or failed.
    pub(crate) fn hold(&self, one: impl Hold + 'static) {
        self.held.lock().0.push(Box::new(one));
    }

    /// What is held for the write: whoever does the write keeps it until then.
    pub(crate) fn into_held(self) -> Held {
        self.held.into_inner()
    }

    pub(crate) fn user(&self) -> &'a UserInfo {
        self.scope.user
    }

    pub(crate) fn namespace(&self) -> &'a str {
        self.scope.namespace
    }

    pub(crate) fn subresource(&self) -> &'a str {
        self.scope.subresource
    }

    pub(crate) fn is_dry_run(&self) -> bool {
        self.scope.dry_run
    }

    /// Group, version and kind of the object: those of the subresource where it has a kind of its own.
    pub(crate) fn kind(&self) -> (&'a str, &'a str, &'a str) {
        let resource = self.scope.resource;
        match resource.subresource(self.scope.subresource) {
            Some(part) => (&part.group, &part.version, &part.kind),
            None => (&resource.group, &resource.version, &resource.kind),
        }
    }

    /// Whether the write is about this resource, whichever part of it.
    pub(crate) fn concerns(&self, group: &str, plural: &str) -> bool {
        let resource = self.scope.resource;
        resource.custom.is_none() && resource.group == group && resource.plural == plural
    }

    /// Whether the write is to an object of this kind itself, not to a part of it.
    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.scope.subresource.is_empty() && self.concerns(group, plural)
    }

    /// Whether it is to this part of an object of this kind.
    pub(crate) fn is_part(&self, group: &str, plural: &str, subresource: &str) -> bool {
        self.scope.subresource == subresource && self.concerns(group, plural)
    }

    pub(crate) fn creates(&self) -> bool {
        self.operation == Operation::Create
    }

    pub(crate) fn updates(&self) -> bool {
        self.operation == Operation::Update
    }

    pub(crate) fn deletes(&self) -> bool {
        self.operation == Operation::Delete
    }

    pub(crate) fn creates_pod(&self) -> bool {
        self.creates() && self.is("", "pods")
    }

    /// 403 in the words of upstream's admission.
    pub(crate) fn forbid(&self, why: &str) -> Status {
        let resource = self.scope.resource;
        let name = if self.name.is_empty() { "Unknown" } else { self.name };
        Status::forbidden(&resource.group, &resource.plural, name, why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_said_twice_are_kept_once() {
        let notes = Notes::default();
        for text in ["a", "b", "a"] {
            notes.warn(text);
        }
        notes.annotate("x.admission.k8s.io/a", "first");
        notes.annotate("x.admission.k8s.io/a", "second");
        notes.annotate_at(AuditDetail::Request, "x.admission.k8s.io/b", "patch");
        assert_eq!(notes.warnings(), ["a", "b"]);
        assert_eq!(notes.annotations(AuditDetail::Metadata).len(), 1);
        let all = notes.annotations(AuditDetail::Request);
        assert_eq!((all["x.admission.k8s.io/a"].as_str(), all.len()), ("first", 2));
    }

    #[test]
    fn options_are_those_of_the_query() {
        let query = Query::parse("fieldManager=kubectl&dryRun=All&force=true&fieldValidation=Strict");
        let asked = Asked { verb: "create", query: &query, notes: &Notes::default(), until: None };
        let expected = json!({
            "kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "kubectl", "dryRun": ["All"],
            "fieldValidation": "Strict",
        });
        assert_eq!(asked.options("UpdateOptions"), expected);
    }
}
