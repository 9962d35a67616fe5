//! Moving a cluster's state from one store to another, verified object by object.
//!
//! Owns the copy and the comparison. Does not keep writers away: what changes meanwhile is found by the comparison, and
//! refused.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};

use crate::{Expected, KeyValue, ListRequest, Revision, Store, StoreError};

/// Objects read at once.
const PAGE: usize = 1000;
/// Writes under way at once.
const WRITES: usize = 64;

/// Why a move did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// One of the stores failed; the source is as it was.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is something where the copy should go.
    #[error("the target is not empty: it holds {key}")]
    NotEmpty {
        /// One of the keys there.
        key: String,
    },
    /// The copy is not the same.
    #[error("{key} is not the same in both: stop whatever writes, empty the target, and begin again")]
    Differs {
        /// The first key that differs.
        key: String,
    },
}

/// What was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// How many keys were written and compared.
    pub keys: usize,
    /// The newest revision of the source.
    pub source: Revision,
    /// The newest revision of the target.
    pub target: Revision,
}

/// Copies every key that starts with `prefix`, with what is left of its time to live, and compares the two.
///
/// # Errors
/// See [`MigrateError`]. The source is never changed.
pub async fn migrate(from: &dyn Store, to: &dyn Store, prefix: &str) -> Result<Migrated, MigrateError> {
    let first = ListRequest { prefix: prefix.into(), limit: 1, ..ListRequest::default() };
    if let Some(kv) = to.list(first).await?.items.into_iter().next() {
        return Err(MigrateError::NotEmpty { key: kv.key });
    }
    let lives = from.expiries().await?;
    let mut source = Pages::new(from, prefix);
    while let Some(page) = source.next().await? {
        let writes = page.into_iter().map(|kv| {
            // Not shorter than a second, so that the comparison still finds it.
            let ttl = lives.get(&kv.key).map(|left| (*left).max(Duration::from_secs(1)));
            async move { to.put(&kv.key, kv.value, Expected::Absent, ttl).await.map(drop) }
        });
        stream::iter(writes).buffer_unordered(WRITES).try_collect::<()>().await?;
    }
    compare(from, to, prefix, &lives).await
}

/// Holds the newest state of both against each other. Keys with a time to live may be gone from one of them.
async fn compare(
    from: &dyn Store,
    to: &dyn Store,
    prefix: &str,
    lives: &BTreeMap<String, Duration>,
) -> Result<Migrated, MigrateError> {
    let (mut source, mut target) = (Pages::new(from, prefix), Pages::new(to, prefix));
    let (mut left, mut right) = (source.one().await?, target.one().await?);
    let mut keys = 0;
    loop {
        let lone = match (&left, &right) {
            (None, None) => {
                let (source, target) = (source.revision(), target.revision());
                return Ok(Migrated { keys, source, target });
            }
            (Some(one), Some(other)) if one.key == other.key => {
                if one.value != other.value {
                    return Err(MigrateError::Differs { key: one.key.clone() });
                }
                keys += 1;
                (left, right) = (source.one().await?, target.one().await?);
                continue;
            }
            (Some(one), Some(other)) if one.key < other.key => left.take(),
            (Some(_), None) => left.take(),
            _ => right.take(),
        };
        if let Some(lone) = lone.filter(|kv| !lives.contains_key(&kv.key)) {
            return Err(MigrateError::Differs { key: lone.key });
        }
        match left {
            None => left = source.one().await?,
            Some(_) => right = target.one().await?,
        }
    }
}

/// A range, page by page, at one revision.
struct Pages<'s> {
    store: &'s dyn Store,
    request: ListRequest,
    done: bool,
    ready: std::vec::IntoIter<KeyValue>,
}

impl<'s> Pages<'s> {
    fn new(store: &'s dyn Store, prefix: &str) -> Self {
        let request = ListRequest { prefix: prefix.into(), limit: PAGE, ..ListRequest::default() };
        Self { store, request, done: false, ready: Vec::new().into_iter() }
    }

    fn revision(&self) -> Revision {
        self.request.revision.unwrap_or_default()
    }

    async fn next(&mut self) -> Result<Option<Vec<KeyValue>>, StoreError> {
        if self.done {
            return Ok(None);
        }
        let page = self.store.list(self.request.clone()).await?;
        self.request.start_after = page.items.last().map(|kv| kv.key.clone());
        self.request.revision = Some(page.revision);
        self.done = page.remaining == 0;
        Ok(Some(page.items))
    }

    async fn one(&mut self) -> Result<Option<KeyValue>, StoreError> {
        loop {
            if let Some(kv) = self.ready.next() {
                return Ok(Some(kv));
            }
            match self.next().await? {
                Some(page) => self.ready = page.into_iter(),
                None => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryStore;

    async fn put(store: &MemoryStore, key: &str, value: &str, ttl: Option<Duration>) {
        store.put(key, value.to_owned().into(), Expected::Absent, ttl).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn migration_copies_every_key_with_the_rest_of_its_life() {
        let (from, to) = (MemoryStore::new(), MemoryStore::new());
        for number in 0..2500 {
            put(&from, &format!("/registry/a/{number:05}"), &number.to_string(), None).await;
        }
        put(&from, "/other", "x", None).await;
        put(&from, "/registry/events/e", "x", Some(Duration::from_secs(100))).await;
        tokio::time::sleep(Duration::from_secs(40)).await;
        let moved = migrate(&from, &to, "/registry/").await.unwrap();
        assert_eq!(moved.keys, 2501);
        assert!(to.get("/other").await.unwrap().0.is_none());
        tokio::time::sleep(Duration::from_secs(50)).await;
        assert!(to.get("/registry/events/e").await.unwrap().0.is_some());
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(to.get("/registry/events/e").await.unwrap().0.is_none());
    }

    #[tokio::test]
    async fn target_that_holds_something_is_refused_and_kept() {
        let (from, to) = (MemoryStore::new(), MemoryStore::new());
        put(&from, "/registry/a", "1", None).await;
        put(&to, "/registry/b", "2", None).await;
        let refused = migrate(&from, &to, "/registry/").await;
        assert!(matches!(refused, Err(MigrateError::NotEmpty { key }) if key == "/registry/b"));
        assert!(to.get("/registry/a").await.unwrap().0.is_none());
    }

    #[tokio::test]
    async fn comparison_finds_what_differs() {
        let cases: [(&[&str], &[&str], Option<&str>); 6] = [
            (&["a", "b"], &["a", "b"], None),
            (&["a", "b"], &["a"], Some("/b")),
            (&["a"], &["a", "b"], Some("/b")),
            (&["a", "c"], &["b", "c"], Some("/a")),
            (&["b", "c"], &["a", "b", "c"], Some("/a")),
            (&[], &["t"], None),
        ];
        let lives = BTreeMap::from([("/t".to_owned(), Duration::from_secs(1))]);
        for (left, right, wanted) in cases {
            let (from, to) = (MemoryStore::new(), MemoryStore::new());
            for (store, names) in [(&from, left), (&to, right)] {
                for name in names {
                    put(store, &format!("/{name}"), "v", None).await;
                }
            }
            let found = match compare(&from, &to, "/", &lives).await {
                Ok(_) => None,
                Err(MigrateError::Differs { key }) => Some(key),
                Err(other) => panic!("{other:?}"),
            };
            assert_eq!(found.as_deref(), wanted, "{left:?} against {right:?}");
        }
        let (from, to) = (MemoryStore::new(), MemoryStore::new());
        put(&from, "/a", "1", None).await;
        put(&to, "/a", "2", None).await;
        assert!(matches!(compare(&from, &to, "/", &lives).await, Err(MigrateError::Differs { .. })));
    }
}
