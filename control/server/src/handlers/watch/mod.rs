//! watch: what is there, if asked for, then every change in order, until the client, the clock or the server ends it.
//!
//! A session goes through: initial objects -> (bookmark that marks their end) -> changes and bookmarks -> end. A session
//! whose place in the changes is gone ends with an ERROR event of code 410.

mod pieces;
mod tell;
mod waits;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt};
use http::Response;
use serde_json::json;
use skep_api::status::Status;
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use self::pieces::Pieces;
use self::waits::{BOOKMARKS, Waits, Woken, until, waits};
use super::Call;
use super::read::state;
use crate::body::Body;
use crate::cache::{Change, Gone, Object, Watcher};
use crate::conversion::Converter;
use crate::failure;
use crate::fairness::Permit;
use crate::ids::Ids;
use crate::metrics::Counted;
use crate::options::{Selection, WatchFrom, WatchOptions};
use crate::respond::{CHUNK, Renderer, streamed};
use crate::turns;

/// So often changes that are at hand are told without a look at what else came.
const IN_A_ROW: usize = 32;

pub(super) async fn watch(call: &Call) -> Result<Response<Body>, Status> {
    // Of events nobody minds how their form is called.
    let manner = call.any_manner()?;
    let options = WatchOptions::parse(&call.resource, &call.query)?;
    call.is_streamable()?;
    let cache = &call.server.storage().cache;
    let collection = cache.collection(&call.resource).ok_or_else(Status::no_such_path)?;
    let ending = collection.ending();
    // Kinds change before the watches of the old ones are ended: who looked its kind up before, and asks here when to
    // end only after that, would go on with the old looks.
    let stale = call.resource.custom.is_some() && !call.is_current();
    let prefix = call.resource.store_prefix(Some(call.scope(false).namespace));
    let (initial, position, marked) = match options.at {
        WatchFrom::After(revision) => (VecDeque::new(), revision, false),
        WatchFrom::Now => (VecDeque::new(), cache.catch_up().await.map_err(failure::read)?, false),
        WatchFrom::State { at, marked } => {
            let snapshot = state(call, &collection, at).await?;
            let objects = snapshot.range(&prefix, None).cloned().collect();
            let objects = call.server.storage().converter.views(&call.resource, objects).await?;
            (objects.into(), snapshot.revision, marked)
        }
    };
    let shortest = call.server.lasting().watch.as_secs().max(1);
    let beginning = marked.then(|| {
        let metrics = call.server.metrics().watch_beginnings(&call.resource, &call.info);
        (metrics, call.began)
    });
    let seconds = options.timeout.unwrap_or_else(|| shortest + call.server.ids().below(shortest));
    let now = Instant::now();
    let session = Session {
        initial,
        permit: call.permit.lock().take(),
        mark: marked.then_some(position),
        beginning,
        watcher: cache.watch(&collection, prefix, position),
        pieces: Pieces::default(),
        in_a_row: 0,
        renderer: call.renderer(&manner),
        ids: call.server.ids().clone(),
        converter: call.server.storage().converter.clone(),
        selection: options.selection,
        bookmarks: options.bookmarks,
        waits: waits(
            call.server.ending().farewell(),
            ending,
            now + Duration::from_secs(seconds.min(u64::from(u32::MAX))),
            options.bookmarks.then_some(now + BOOKMARKS),
        ),
        closing: false,
        ended: stale,
        stays: call.server.ending().farewell().join(),
        gauge: call.server.metrics().watches(&call.resource, &call.info),
        events: call.server.metrics().watch_events(&call.resource),
        sizes: call.server.metrics().watch_event_sizes(&call.resource),
        terminated: call.server.metrics().terminated_watchers(&call.resource),
    };
    let kind = session.renderer.stream_type();
    let pieces = stream::unfold(session, |mut session| async move {
        let piece = session.next().await?;
        Some((piece, session))
    });
    Ok(streamed(pieces, kind))
}

struct Session {
    /// What is still to be told of the state at the beginning.
    initial: VecDeque<Arc<Object>>,
    /// The seats that the beginning takes.
    permit: Option<Permit>,
    /// The end of it is to be marked, at this revision.
    mark: Option<u64>,
    /// Where it is counted how long it took until then, and since when.
    beginning: Option<(prometheus::Histogram, Instant)>,
    watcher: Watcher,
    /// What was made of changes and is not given yet.
    pieces: Pieces,
    /// How often changes were at hand without waiting for them.
    in_a_row: usize,
    renderer: Renderer,
    ids: Ids,
    converter: Converter,
    selection: Selection,
    bookmarks: bool,
    waits: Waits,
    /// The collection goes, or changes its looks: what happened until then is told, and no more.
    closing: bool,
    ended: bool,
    #[expect(dead_code, reason = "counts by living")]
    stays: TaskTrackerToken,
    #[expect(dead_code, reason = "counts by living")]
    gauge: [Counted; 2],
    events: prometheus::IntCounter,
    /// Bytes of each of them.
    sizes: prometheus::Histogram,
    terminated: prometheus::IntCounter,
}

impl Session {
    /// The next piece of the answer.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(piece) = self.pieces.pop() {
            return Some(piece);
        }
        if self.ended {
            return None;
        }
        if let Some(piece) = self.beginning().await {
            return Some(piece);
        }
        loop {
            let changes = match self.at_hand() {
                Some(changes) => changes,
                None => tokio::select! {
                    biased;
                    Some(woken) = self.waits.next() => match woken {
                        Woken::Stopped => return None,
                        Woken::Ending => {
                            self.closing = true;
                            continue;
                        }
                        Woken::Deadline => {
                            self.ended = true;
                            return self.last_bookmark().await;
                        }
                        Woken::Bookmark => {
                            self.waits.push(until(Instant::now() + BOOKMARKS, Woken::Bookmark));
                            return Some(self.bookmark().await);
                        }
                    },
                    // The last changes are deletions, as a rule.
                    () = std::future::ready(()), if self.closing => self.watcher.poll(),
                    changes = self.watcher.next() => changes,
                },
            };
            let changes = match changes {
                Ok(changes) if changes.is_empty() => return None,
                Ok(changes) => changes,
                Err(gone) => return Some(self.gone(gone)),
            };
            let changes = match self.converted(changes).await {
                Ok(changes) => changes,
                Err(piece) => return Some(piece),
            };
            self.tell(&changes);
            if let Some(piece) = self.pieces.pop() {
                return Some(piece);
            }
        }
    }

    /// Changes that are there already, which is what wakes a session nearly always: what else may have is looked at only
    /// without any, and now and then, so that a session that is busy with changes ends in time all the same.
    fn at_hand(&mut self) -> Option<Result<Vec<Arc<Change>>, Gone>> {
        self.in_a_row += 1;
        if !self.closing && self.in_a_row < IN_A_ROW {
            let changes = self.watcher.look();
            if !changes.as_ref().is_ok_and(Vec::is_empty) {
                return Some(changes);
            }
        }
        self.in_a_row = 0;
        None
    }

    /// The end of a session that cannot be told what happened.
    fn gone(&mut self, gone: Gone) -> Bytes {
        self.ended = true;
        self.terminated.inc();
        let status = failure::too_old(self.watcher.position(), gone.oldest);
        self.renderer.notice("ERROR", &status.to_value())
    }

    /// A piece of the state at the beginning, and the mark behind it.
    async fn beginning(&mut self) -> Option<Bytes> {
        let mut piece = BytesMut::new();
        while piece.len() < CHUNK {
            turns::pause().await;
            let Some(object) = self.initial.pop_front() else { break };
            if self.selects(&object) {
                let event = self.renderer.event("ADDED", &object);
                self.sizes.observe(event.len() as f64);
                self.events.inc();
                piece.extend_from_slice(&event);
            }
        }
        if self.initial.is_empty()
            && let Some(revision) = self.mark.take()
        {
            let annotations = json!({ "k8s.io/initial-events-end": "true" });
            let bookmark = self.renderer.bookmark(revision, Some(annotations));
            piece.extend_from_slice(&self.renderer.notice("BOOKMARK", &bookmark));
            if let Some((histogram, began)) = self.beginning.take() {
                histogram.observe(began.elapsed().as_secs_f64());
            }
        }
        if self.initial.is_empty() {
            self.initial = VecDeque::new();
            self.permit = None;
        }
        (!piece.is_empty()).then(|| piece.freeze())
    }

    async fn last_bookmark(&mut self) -> Option<Bytes> {
        if self.bookmarks { Some(self.bookmark().await) } else { None }
    }
}
