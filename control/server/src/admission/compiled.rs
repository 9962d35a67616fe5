//! Configuration objects in the form that requests need, made once for each version of an object and shared by all
//! requests: nothing is read or parsed on the way of a write.
//!
//! Those out of files come first, and are told apart from those of the API: only they have a say in writes of objects that
//! are webhooks and policies themselves.

use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::Value;
use skep_api::object::name;

use super::manifests::Manifests;
use crate::cache::Cache;
use crate::gate::ObjectReader;

/// What was made of an object, with that object.
type Pair<T> = (Arc<Value>, Arc<T>);

/// All that was made.
pub(super) struct Made<T> {
    all: Vec<Pair<T>>,
    /// So many of them, at the beginning, are out of files.
    files: usize,
}

impl<T> Made<T> {
    /// All, or only those out of files: which have a say where others must not. Each with whether it is one of these.
    pub(super) fn reaching(&self, only_files: bool) -> impl Iterator<Item = (&Pair<T>, bool)> {
        let end = if only_files { self.files } else { self.all.len() };
        self.all[..end].iter().enumerate().map(|(at, pair)| (pair, at < self.files))
    }
}

struct State<T> {
    generation: u64,
    files: Arc<Vec<Arc<Value>>>,
    made: Arc<Made<T>>,
}

/// The objects of one kind, compiled, in order of their names.
pub(super) struct Compiled<T> {
    cache: Arc<Cache>,
    plural: &'static str,
    manifests: Option<Arc<Manifests>>,
    compile: fn(&Value) -> T,
    state: RwLock<State<T>>,
}

impl<T> Compiled<T> {
    /// Objects of the group `admissionregistration.k8s.io`, those out of files among them.
    pub(super) fn new(
        cache: Arc<Cache>,
        plural: &'static str,
        manifests: Option<Arc<Manifests>>,
        compile: fn(&Value) -> T,
    ) -> Self {
        let made = Arc::new(Made { all: Vec::new(), files: 0 });
        let state = RwLock::new(State { generation: u64::MAX, files: Arc::default(), made });
        Self { cache, plural, manifests, compile, state }
    }

    /// All of them now, each with the object that it was made of.
    pub(super) fn current(&self) -> Arc<Made<T>> {
        let group = skep_api::admissionregistration::GROUP;
        let generation = self.cache.generation(group, self.plural);
        let files = self.manifests.as_ref().map(|manifests| manifests.of(self.plural));
        let is_current = |state: &State<T>| {
            state.generation == generation
                && files.as_ref().is_none_or(|files| Arc::ptr_eq(files, &state.files))
        };
        {
            let state = self.state.read();
            if is_current(&state) {
                return state.made.clone();
            }
        }
        let mut state = self.state.write();
        if !is_current(&state) {
            let mut all = self.cache.list(group, self.plural, "");
            all.sort_by(|a, b| name(a).cmp(name(b)));
            let files = files.unwrap_or_default();
            let made = files.iter().cloned().chain(all).map(|object| {
                // An unchanged object is the same one.
                let kept = state.made.all.iter().find(|(old, _)| Arc::ptr_eq(old, &object));
                let compiled =
                    kept.map_or_else(|| Arc::new((self.compile)(&object)), |(_, kept)| kept.clone());
                (object, compiled)
            });
            let made = Arc::new(Made { all: made.collect(), files: files.len() });
            *state = State { generation, files, made };
        }
        state.made.clone()
    }

    /// Whether there are none; of those out of files only, where others must not have a say.
    pub(super) fn is_empty(&self, only_files: bool) -> bool {
        self.current().reaching(only_files).next().is_none()
    }
}
