//! The ring of a collection's newest changes, and the memory that all rings together may hold.
//!
//! A ring drops its oldest changes beyond its own bounds. While all rings together hold too much, the ring with the
//! oldest change of all gives up some. So neither one busy kind nor many can take memory without end, a kind at rest
//! takes nothing from a busy one, and the slowest reader holds nothing but its place. Parsed forms that somebody asked
//! for are not counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::collection::{Change, Gone};

/// What rings may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Most changes of one ring.
    pub(super) changes: usize,
    /// Most bytes of one ring,
    pub(super) bytes: usize,
    /// and of all rings together, but always
    pub(super) bytes_in_all: usize,
    /// so many changes of each.
    pub(super) least: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { changes: 8192, bytes: 64 << 20, bytes_in_all: 256 << 20, least: 256 }
    }
}

/// So many of the newest changes are looked at one by one.
const NEAR: usize = 4;

/// What the rings that share it hold together.
#[derive(Debug, Default)]
pub(super) struct Budget {
    bounds: Bounds,
    used: AtomicUsize,
}

impl Budget {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, used: AtomicUsize::new(0) }
    }

    /// Whether the rings hold more than they may.
    pub(super) fn is_exceeded(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.bounds.bytes_in_all
    }
}

/// The newest changes, in order.
pub(super) struct Ring {
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
    /// Every change after this revision is here.
    floor: u64,
    budget: Arc<Budget>,
}

impl Ring {
    /// An empty ring that begins after revision `floor`.
    pub(super) fn new(budget: Arc<Budget>, floor: u64) -> Self {
        Self { changes: VecDeque::new(), bytes: 0, floor, budget }
    }

    /// How many changes there are, and the bytes that they hold.
    pub(super) fn held(&self) -> (usize, usize) {
        (self.changes.len(), self.bytes)
    }

    pub(super) fn push(&mut self, change: Change) {
        self.account(size(&change), true);
        self.changes.push_back(Arc::new(change));
    }

    /// Drops what is over the ring's own bounds.
    pub(super) fn shrink(&mut self) {
        let bounds = self.budget.bounds;
        while self.changes.len() > bounds.least
            && (self.changes.len() > bounds.changes || self.bytes > bounds.bytes)
        {
            self.drop_oldest();
        }
    }

    /// The revision of the oldest change, if that may be given up.
    pub(super) fn oldest_to_spare(&self) -> Option<u64> {
        let spare = self.changes.len() > self.budget.bounds.least;
        self.changes.front().filter(|_| spare).map(|change| change.revision)
    }

    /// Gives up to `most` of the oldest changes up.
    pub(super) fn give_up(&mut self, most: usize) {
        let spare = self.changes.len().saturating_sub(self.budget.bounds.least);
        (0..most.min(spare)).for_each(|_| self.drop_oldest());
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.changes.pop_front() else { return };
        self.account(size(&oldest), false);
        self.floor = oldest.revision;
    }

    /// Every change after this revision is here.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Forgets everything and begins after revision `floor`.
    pub(super) fn restart(&mut self, floor: u64) {
        self.account(self.bytes, false);
        self.changes.clear();
        self.floor = floor;
    }

    /// Where the changes after `position` begin.
    fn after(&self, position: u64) -> Result<usize, Gone> {
        if position < self.floor {
            return Err(Gone { oldest: self.floor });
        }
        // Most readers are near the end.
        let newer =
            self.changes.iter().rev().take(NEAR).take_while(|change| change.revision > position).count();
        if newer < NEAR {
            return Ok(self.changes.len() - newer);
        }
        Ok(self.changes.partition_point(|change| change.revision <= position))
    }

    /// All changes after `position`.
    pub(super) fn all_after(&self, position: u64) -> Result<Vec<Arc<Change>>, Gone> {
        Ok(self.changes.range(self.after(position)?..).cloned().collect())
    }

    /// About `limit` changes after `position`, never a part of a revision.
    pub(super) fn some_after(&self, position: u64, limit: usize) -> Result<Vec<Arc<Change>>, Gone> {
        let from = self.after(position)?;
        let mut to = (from + limit).min(self.changes.len());
        let revision = |at: usize| self.changes.get(at).map(|change| change.revision);
        while to > from && to < self.changes.len() && revision(to) == revision(to - 1) {
            to += 1;
        }
        Ok(self.changes.range(from..to).cloned().collect())
    }

    fn account(&mut self, bytes: usize, more: bool) {
        if more {
            self.bytes += bytes;
            self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        } else {
            self.bytes -= bytes;
            self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.account(self.bytes, false);
    }
}

/// Bytes that a change may keep in memory: its line, which the object shares, and the object before it.
fn size(change: &Change) -> usize {
    let previous = change.previous.as_ref().map_or(0, |previous| previous.json().len());
    size_of::<Change>() + change.line.len() + previous
}
