//! get and list.

use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use serde_json::json;
use skep_api::status::Status;
use skep_store::{ListRequest, Revision, StoreError};

use super::Call;
use crate::body::Body;
use crate::cache::{Collection, Object, ReadError, Snapshot};
use crate::conversion::Converter;
use crate::failure;
use crate::latencies::Layer;
use crate::negotiate::Number;
use crate::options::{ListOptions, ReadAt, Token, revision};
use crate::respond::ListAnswer;
use crate::turns;

/// So long a read waits for a revision that is not there yet.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn get(call: &Call) -> Result<Response<Body>, Status> {
    let manner = call.manner(Number::One)?;
    if call.query.optional_flag("export").unwrap_or_default() {
        let why = "the export parameter, deprecated since v1.14, is no longer supported";
        return Err(Status::bad_request(why));
    }
    let scope = call.scope(false);
    let storage = call.server.storage();
    let revision = revision(&call.query)?;
    if let Some(revision @ 1..) = revision {
        reach(call, revision).await?;
    }
    let object = match revision {
        Some(0) => storage.converter.view(scope.resource, storage.cached(&scope, &call.info.name)?).await?,
        _ => storage.get(&scope, &call.info.name).await?,
    };
    Ok(call.object(&manner, StatusCode::OK, &object))
}

pub(super) async fn list(call: &Call) -> Result<Response<Body>, Status> {
    let manner = call.manner(Number::Many)?;
    let options = ListOptions::parse(&call.resource, &call.query)?;
    let snapshot = snapshot(call, &options).await?;
    let prefix = call.resource.store_prefix(Some(call.scope(false).namespace));
    let after = options.token.as_ref().map(|token| format!("{prefix}{}", token.after));
    let everything = options.selection.is_everything();
    let (revision, now) = (snapshot.revision, call.server.ids().now());
    if options.limit == 0 && !Converter::concerns(&call.resource) {
        let (resource, selection) = (call.resource.clone(), options.selection);
        let selects = move |object: &Object| everything || selection.matches(&resource, object);
        let objects = Box::new(snapshot.each(prefix, after, selects));
        let answer = ListAnswer { resource: call.resource.clone(), objects, revision, rest: None };
        let _writing = call.notes.latencies.enter(Layer::Serialize);
        return Ok(answer.respond(&manner, now).await);
    }
    let mut selected = Vec::new();
    let mut rest = None;
    let snapshot = if everything { snapshot } else { in_version(call, snapshot, &prefix).await? };
    let mut objects = snapshot.range(&prefix, after.as_deref());
    for object in objects.by_ref() {
        if !everything {
            turns::pause().await;
        }
        if !everything && !options.selection.matches(&call.resource, object) {
            continue;
        }
        if options.limit > 0 && selected.len() == options.limit {
            rest = selected.last().map(|last: &Arc<Object>| last.key()[prefix.len()..].to_owned());
            break;
        }
        selected.push(object.clone());
    }
    let rest = rest.map(|after| {
        let remaining = everything.then(|| 1 + objects.count() as u64);
        (Token { revision: Some(snapshot.revision), after }.encode(), remaining)
    });
    let selected = converted(call, selected).await?;
    let objects = Box::new(selected.into_iter());
    let answer = ListAnswer { resource: call.resource.clone(), objects, revision, rest };
    let _writing = call.notes.latencies.enter(Layer::Serialize);
    Ok(answer.respond(&manner, now).await)
}

/// These objects in the version of the request.
async fn converted(call: &Call, objects: Vec<Arc<Object>>) -> Result<Vec<Arc<Object>>, Status> {
    let concerns = Converter::concerns(&call.resource);
    let _converting = concerns.then(|| call.notes.latencies.enter(Layer::Transform));
    call.server.storage().converter.views(&call.resource, objects).await
}

/// The collection with its objects in the version of the request, where a webhook converts them: only these can be
/// selected by what they are there.
async fn in_version(call: &Call, snapshot: Snapshot, prefix: &str) -> Result<Snapshot, Status> {
    if !Converter::concerns(&call.resource) {
        return Ok(snapshot);
    }
    let all = snapshot.range(prefix, None).cloned().collect();
    let all = converted(call, all).await?;
    let objects = all.into_iter().map(|object| (object.key().clone(), object)).collect();
    Ok(Snapshot { objects, revision: snapshot.revision })
}

/// The collection at the revision that the options ask for.
async fn snapshot(call: &Call, options: &ListOptions) -> Result<Snapshot, Status> {
    let cache = &call.server.storage().cache;
    let collection = cache.collection(&call.resource).ok_or_else(Status::no_such_path)?;
    let exact = match &options.token {
        Some(Token { revision, .. }) => *revision,
        None => match options.at {
            ReadAt::Exact(revision) => Some(revision),
            _ => None,
        },
    };
    if let Some(revision) = exact {
        reach(call, revision).await?;
        return past(call, &collection, revision).await.map_err(|status| expired(status, options));
    }
    state(call, &collection, options.at).await
}

/// The collection now, at least as new as asked for.
pub(super) async fn state(call: &Call, collection: &Collection, at: ReadAt) -> Result<Snapshot, Status> {
    let cache = &call.server.storage().cache;
    match at {
        ReadAt::Any => {}
        ReadAt::Newest => {
            let _reading = call.notes.latencies.enter(Layer::Storage);
            cache.catch_up().await.map_err(failure::read)?;
        }
        ReadAt::NotOlderThan(revision) | ReadAt::Exact(revision) => reach(call, revision).await?,
    }
    let snapshot = cache.snapshot(collection);
    let prefix = call.resource.store_prefix(Some(call.scope(false).namespace));
    match collection.unreadable_below(&prefix) {
        Some((key, why)) => Err(failure::unreadable(&key, &why)),
        None => Ok(snapshot),
    }
}

async fn reach(call: &Call, revision: u64) -> Result<(), Status> {
    match call.server.storage().cache.reach(revision, PATIENCE).await {
        Ok(_) => Ok(()),
        Err(ReadError::Behind { applied, wanted }) => Err(failure::too_new(wanted, applied)),
        Err(error) => Err(failure::read(error)),
    }
}

/// The collection as it was: from the cache's ring, or else from the store's history.
async fn past(call: &Call, collection: &Collection, revision: u64) -> Result<Snapshot, Status> {
    let cache = &call.server.storage().cache;
    if cache.is_too_old(revision) {
        return Err(gone());
    }
    if let Ok(snapshot) = collection.snapshot_at(revision) {
        return Ok(snapshot);
    }
    let request = ListRequest {
        prefix: collection.prefix().to_owned(),
        revision: Some(Revision(revision)),
        ..Default::default()
    };
    let listing = {
        let _reading = call.notes.latencies.enter(Layer::Storage);
        call.server.storage().store.list(request).await.map_err(|error| match error {
            StoreError::Compacted { .. } => gone(),
            error => failure::store(error),
        })?
    };
    let _decoding = call.notes.latencies.enter(Layer::Decode);
    let objects = listing.items.into_iter().filter_map(|kv| {
        let key: Arc<str> = kv.key.as_str().into();
        Some((key.clone(), Arc::new(Object::from_stored(key, &kv.value, kv.mod_revision.0)?)))
    });
    Ok(Snapshot { objects: objects.collect(), revision })
}

/// 410: the pages that are left cannot be those of the first one's list.
fn gone() -> Status {
    Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of \
         the results. Continuing with the provided token results in an inconsistent list - objects that were \
         created, modified, or deleted between the time the first chunk was returned and now may show up in the \
         list.",
    )
}

/// A list that cannot be gone on with says how to go on all the same; one at a revision of its own is only too old.
fn expired(status: Status, options: &ListOptions) -> Status {
    if status.code != 410 {
        return status;
    }
    match (&options.token, options.at) {
        (Some(token), _) => {
            let token = Token { revision: None, after: token.after.clone() };
            let mut body = status.to_value();
            body["metadata"]["continue"] = json!(token.encode());
            Status { whole: Some(Box::new(body)), ..status }
        }
        (None, ReadAt::Exact(revision)) => failure::too_old(revision, revision + 1),
        _ => status,
    }
}
