//! Configuration objects in the form that requests need, made once for each version of an object and shared by all
//! requests: nothing is read or parsed on the way of a write.

use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::Value;
use skep_api::object::name;

use crate::cache::Cache;
use crate::gate::ObjectReader;

struct State<T> {
    generation: u64,
    made: Arc<Vec<(Arc<Value>, Arc<T>)>>,
}

/// The objects of one kind, compiled, in order of their names.
pub(super) struct Compiled<T> {
    cache: Arc<Cache>,
    plural: &'static str,
    compile: fn(&Value) -> T,
    state: RwLock<State<T>>,
}

impl<T> Compiled<T> {
    /// Objects of the group `admissionregistration.k8s.io`.
    pub(super) fn new(cache: Arc<Cache>, plural: &'static str, compile: fn(&Value) -> T) -> Self {
        let state = RwLock::new(State { generation: u64::MAX, made: Arc::default() });
        Self { cache, plural, compile, state }
    }

    /// All of them now, each with the object that it was made of.
    pub(super) fn current(&self) -> Arc<Vec<(Arc<Value>, Arc<T>)>> {
        let group = skep_api::admissionregistration::GROUP;
        let generation = self.cache.generation(group, self.plural);
        {
            let state = self.state.read();
            if state.generation == generation {
                return state.made.clone();
            }
        }
        let mut state = self.state.write();
        if state.generation != generation {
            let mut all = self.cache.list(group, self.plural, "");
            all.sort_by(|a, b| name(a).cmp(name(b)));
            let made = all.into_iter().map(|object| {
                // An unchanged object is the same one.
                let kept = state.made.iter().find(|(old, _)| Arc::ptr_eq(old, &object));
                let compiled =
                    kept.map_or_else(|| Arc::new((self.compile)(&object)), |(_, kept)| kept.clone());
                (object, compiled)
            });
            *state = State { generation, made: Arc::new(made.collect()) };
        }
        state.made.clone()
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.current().is_empty()
    }
}
