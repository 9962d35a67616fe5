//! Deleting whole collections.

use std::sync::Arc;

use futures::{StreamExt, stream};
use skep_api::status::Status;

use super::{DeleteOptions, Deleted, Scope, Storage};
use crate::cache::Object;
use crate::failure;
use crate::options::ListOptions;

/// So many objects are deleted at once.
const AT_ONCE: usize = 8;

impl Storage {
    /// Deletes everything that is selected, and returns it with the revision at which it was read. Objects that go in the
    /// meantime are no error.
    ///
    /// # Errors
    ///
    /// The first one that a deletion ends with.
    pub(crate) async fn delete_collection(
        &self,
        scope: &Scope<'_>,
        options: &DeleteOptions,
        list: &ListOptions,
    ) -> Result<(Vec<Arc<Object>>, u64), Status> {
        self.cache.catch_up().await.map_err(failure::read)?;
        let resource = scope.resource;
        let collection = self.cache.collection(resource).ok_or_else(Status::no_such_path)?;
        let snapshot = self.cache.snapshot(&collection);
        let prefix = resource.store_prefix(Some(scope.namespace));
        let all = snapshot.range(&prefix, None).cloned().collect();
        let selected: Vec<Arc<Object>> = self
            .converter
            .views(resource, all)
            .await?
            .into_iter()
            .filter(|object| list.selection.is_everything() || list.selection.matches(resource, object))
            .take(if list.limit == 0 { usize::MAX } else { list.limit })
            .collect();
        let mut deletions = stream::iter(selected)
            .map(|object| async move {
                let value = object.value();
                let namespace = value["metadata"]["namespace"].as_str().unwrap_or_default();
                let name = value["metadata"]["name"].as_str().unwrap_or_default();
                match self.delete(&Scope { namespace, ..*scope }, name, options).await {
                    Ok(Deleted::Gone(object) | Deleted::Going(object)) => Ok(Some(object)),
                    Err(status) if status.code == 404 => Ok(None),
                    Err(status) => Err(status),
                }
            })
            .buffered(AT_ONCE);
        let mut deleted = Vec::new();
        while let Some(one) = deletions.next().await {
            deleted.extend(one?);
        }
        Ok((deleted, snapshot.revision))
    }
}
