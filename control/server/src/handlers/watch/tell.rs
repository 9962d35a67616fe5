//! What a session of a watch says of changes: the line of each that its client is to be told of.

use std::sync::Arc;

use bytes::Bytes;

use super::Session;
use crate::cache::{Change, EventType, Object};

impl Session {
    /// Changes in the version of the request; a webhook that does not convert them ends the session with this piece.
    pub(super) async fn converted(&mut self, changes: Vec<Arc<Change>>) -> Result<Vec<Arc<Change>>, Bytes> {
        let Self { converter, renderer, ended, terminated, .. } = self;
        converter.changes(renderer.resource(), changes).await.map_err(|status| {
            *ended = true;
            terminated.inc();
            renderer.notice("ERROR", &status.to_value())
        })
    }

    /// A bookmark at the newest revision, behind whatever happened up to it.
    pub(super) async fn bookmark(&mut self) -> Bytes {
        let changes = match self.watcher.poll() {
            Ok(changes) => changes,
            Err(gone) => return self.gone(gone),
        };
        let changes = match self.converted(changes).await {
            Ok(changes) => changes,
            Err(piece) => return piece,
        };
        self.tell(&changes);
        let bookmark = self.renderer.bookmark(self.watcher.position(), None);
        let bookmark = self.renderer.notice("BOOKMARK", &bookmark);
        match self.pieces.pop() {
            Some(first) => {
                self.pieces.push(bookmark);
                first
            }
            None => bookmark,
        }
    }

    pub(super) fn selects(&self, object: &Object) -> bool {
        self.selection.is_everything() || self.selection.matches(self.renderer.resource(), object)
    }

    /// Makes pieces of the lines of those changes that this client is told of.
    pub(super) fn tell(&mut self, changes: &[Arc<Change>]) {
        self.renderer.set_time(self.ids.now());
        let mut told = 0;
        for (at, change) in changes.iter().enumerate() {
            let Some(line) = self.line(change) else { continue };
            told += 1;
            self.sizes.observe(line.len() as f64);
            match at + 1 == changes.len() {
                true => self.pieces.push_last(line),
                false => self.pieces.push(line),
            }
        }
        self.events.inc_by(told);
    }

    fn line(&mut self, change: &Change) -> Option<Bytes> {
        let mut kind = change.kind;
        if !self.selection.is_everything() {
            // An object that begins or ceases to be selected comes or goes, for this client.
            let before = change.previous.as_ref().filter(|previous| self.selects(previous));
            let after = kind != EventType::Deleted && self.selects(&change.object);
            kind = match (before, after) {
                (None, false) => return None,
                (None, true) => EventType::Added,
                (Some(_), true) => EventType::Modified,
                (Some(previous), false) if kind != EventType::Deleted => {
                    let (last, _) = previous.deleted_at(change.revision);
                    return Some(self.renderer.event("DELETED", &last));
                }
                (Some(_), false) => EventType::Deleted,
            };
        }
        if kind == change.kind && self.renderer.is_plain(&change.object) {
            return Some(change.line.clone());
        }
        Some(self.renderer.event(kind.as_str(), &change.object))
    }
}
