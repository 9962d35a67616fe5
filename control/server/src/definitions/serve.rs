//! From the definitions that are established to the kinds that are served: their caches and their registry entries.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use skep_api::object::{at, name};
use skep_api::registry::Resource;
use skep_api::{custom, definition};
use skep_store::StoreError;

use super::Definitions;

/// A definition that is served.
#[derive(Clone)]
pub(super) struct Served {
    definition: Arc<Value>,
    resources: Vec<Arc<Resource>>,
}

/// How much of a definition another one differs in.
#[derive(PartialEq, Eq)]
enum Difference {
    None,
    /// In something that watchers need not know.
    Little,
    /// In what objects look like.
    Looks,
}

fn difference(old: &Value, new: &Value) -> Difference {
    let of = |path: &[&str]| at(old, path) == at(new, path);
    let going = |one: &Value| at(one, &["metadata", "deletionTimestamp"]).is_some();
    if !of(&["spec"]) || !of(&["status", "acceptedNames"]) || !of(&["metadata", "uid"]) {
        Difference::Looks
    } else if going(old) != going(new) {
        Difference::Little
    } else {
        Difference::None
    }
}

impl Definitions {
    /// Serves what is established, and nothing else.
    ///
    /// # Errors
    ///
    /// When the objects of a new kind cannot be read.
    pub(super) async fn serve(&self) -> Result<(), StoreError> {
        let mut old = self.served.lock().clone();
        let mut new = BTreeMap::new();
        let (mut changed, mut restart) = (false, Vec::new());
        for definition in &self.all() {
            if !definition::is_established(definition) {
                continue;
            }
            let before = old.remove(name(definition));
            let difference = before
                .as_ref()
                .map_or(Difference::Looks, |before| difference(&before.definition, definition));
            let served = match before {
                Some(before) if difference == Difference::None => before,
                before => {
                    changed = true;
                    if before.is_some() && difference == Difference::Looks {
                        restart.push(name(definition).to_owned());
                    }
                    let resources = self.storage.cel.compile(|| custom::resources(definition));
                    Served { definition: definition.clone(), resources }
                }
            };
            new.insert(name(definition).to_owned(), served);
        }
        let outcome = self.fill(&new).await;
        if changed || !old.is_empty() {
            self.kinds.replace(new.values().flat_map(|one| one.resources.iter().cloned()));
            self.forget(&old, &new);
        }
        for resource in restart.iter().filter_map(|name| new[name].resources.first()) {
            self.storage.cache.restart_watches(resource);
        }
        *self.served.lock() = new;
        outcome
    }

    async fn fill(&self, new: &BTreeMap<String, Served>) -> Result<(), StoreError> {
        for resource in new.values().filter_map(|one| one.resources.first()) {
            if self.storage.cache.collection(resource).is_none() {
                self.storage.cache.add(resource).await?;
            }
        }
        Ok(())
    }

    /// What is not served any more needs no cache.
    fn forget(&self, old: &BTreeMap<String, Served>, new: &BTreeMap<String, Served>) {
        let prefix = |one: &Served| one.resources.first().map(|resource| resource.store_prefix(None));
        let kept: Vec<_> = new.values().filter_map(prefix).collect();
        for gone in old.values().filter_map(prefix).filter(|gone| !kept.contains(gone)) {
            self.storage.cache.remove(&gone);
        }
    }
}
