//! What a write is about, who owns what it changes, and how often it is tried.

use serde_json::{Value, json};
use skep_api::apply::{self, Conversions};
use skep_api::registry::{Registry, Resource};
use skep_api::status::Status;
use skep_api::validation;
use tokio::time::Instant;

use crate::admission::Asked;
use crate::failure;
use crate::latencies::{Inside, Layer};
use crate::user::UserInfo;

/// So often a write that nobody asked for and that lost against another is decided again.
const ATTEMPTS: usize = 64;

/// What a write is about.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) resource: &'a Resource,
    /// All kinds.
    pub(crate) kinds: &'a Registry,
    /// The namespace of the path, empty for cluster scope.
    pub(crate) namespace: &'a str,
    pub(crate) subresource: &'a str,
    /// Who asks: nodes and the granting of rights are judged by it.
    pub(crate) user: &'a UserInfo,
    pub(crate) dry_run: bool,
    pub(crate) ownership: Ownership<'a>,
    /// The request that asks for it; nothing for what this server does by itself.
    pub(crate) asked: Option<Asked<'a>>,
    /// Whether admission has had its say already, about the operation that the write is a part of.
    pub(crate) admitted: bool,
}

/// Who gets to own what a write changes (`metadata.managedFields`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership<'a> {
    /// This field manager, as of any write but apply.
    Changed(&'a str),
    /// The proposal says so itself: server-side apply.
    Decided,
}

impl Scope<'_> {
    /// The options of the request, as an object of this kind.
    pub(crate) fn options(&self, kind: &str) -> Value {
        let none = || json!({ "kind": kind, "apiVersion": "meta.k8s.io/v1" });
        self.asked.map_or_else(none, |asked| asked.options(kind))
    }

    /// The request that it is for is in a layer as long as what comes out lives.
    pub(super) fn enter(&self, layer: Layer) -> Option<Inside<'_>> {
        self.asked.map(|asked| asked.notes.latencies.enter(layer))
    }

    /// Whether the request is a patch.
    pub(crate) fn is_patch(&self) -> bool {
        self.asked.is_some_and(|asked| asked.verb == "patch")
    }

    /// Warns the author of an object that is fit, and is likely not what was meant.
    pub(super) fn warn(&self, object: &Value, old: Option<&Value>) {
        if let Some(asked) = self.asked {
            let warnings = validation::warnings(self.resource, object, old);
            warnings.into_iter().for_each(|warning| asked.notes.warn(warning));
        }
    }

    /// Takes out owners that are there twice after admission, and warns of it.
    pub(super) fn dedup_owners(&self, object: &mut Value) {
        let duplicates = skep_api::object::dedup_owners(object);
        if let Some(asked) = self.asked.filter(|_| !duplicates.is_empty()) {
            asked.notes.warn_of_owners(" after mutating admission happens", &duplicates);
        }
    }

    /// Records in a proposed object that it was changed from `old`, which is an empty object for a new one.
    pub(super) fn own(&self, now: &str, conversions: &Conversions, old: &Value, object: &mut Value) {
        if let Ownership::Changed(name) = self.ownership {
            apply::update(&self.writer(name, now, conversions), old, object);
        }
    }

    /// The writer of that name at the endpoint of this request.
    pub(crate) fn writer<'b>(
        &'b self,
        name: &'b str,
        now: &'b str,
        conversions: &'b Conversions,
    ) -> apply::Writer<'b> {
        let (resource, subresource) = (self.resource, self.subresource);
        apply::Writer { resource, registry: self.kinds, name, subresource, now, conversions }
    }
}

/// How often a write is decided again that lost against another one. Each time another one was written, so all together
/// get on; a request goes on for as long as its client waits, as upstream's do.
pub(super) struct Attempts {
    left: usize,
    until: Option<Instant>,
}

impl Attempts {
    pub(super) fn of(scope: &Scope<'_>) -> Self {
        match scope.asked.and_then(|asked| asked.until) {
            None => Self { left: ATTEMPTS, until: None },
            until => Self { left: usize::MAX, until },
        }
    }

    /// Begins another attempt.
    ///
    /// # Errors
    ///
    /// 504 when the time is over, 409 when it was tried often enough.
    pub(super) fn another(&mut self, scope: &Scope<'_>, name: &str) -> Result<(), Status> {
        if self.until.is_some_and(|until| until <= Instant::now()) {
            return Err(failure::too_long());
        }
        self.left = self.left.checked_sub(1).ok_or_else(|| Status::modified(scope.resource, name))?;
        Ok(())
    }
}
