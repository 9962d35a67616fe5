//! delete and deletecollection.

use http::{Response, StatusCode};
use skep_api::status::{self, Status};

use super::Call;
use crate::body::Body;
use crate::latencies::Layer;
use crate::negotiate::{self, Number};
use crate::options::ListOptions;
use crate::respond::ListAnswer;
use crate::storage::{DeleteOptions, Deleted};

const SYSTEM_CLASSES: [&str; 2] = ["system-node-critical", "system-cluster-critical"];

/// Whether it is one of the priority classes that every cluster has. All together they can be deleted, as upstream has it.
fn is_system_class(call: &Call, name: &str) -> bool {
    let of = (call.resource.group.as_str(), call.resource.plural.as_str());
    of == ("scheduling.k8s.io", "priorityclasses") && SYSTEM_CLASSES.contains(&name)
}

async fn options(call: &Call, body: Body) -> Result<DeleteOptions, Status> {
    let bytes = call.read(body).await?;
    if bytes.is_empty() {
        return DeleteOptions::parse(None, &call.query);
    }
    let body = skep_api::decode::delete_options(&bytes, negotiate::encoding(&call.parts.headers)?)?;
    call.record.requested(&call.resource, &call.info.subresource, &body);
    DeleteOptions::parse(Some(&body), &call.query)
}

pub(super) async fn delete(call: &Call, body: Body) -> Result<Response<Body>, Status> {
    let manner = call.manner(Number::One)?;
    let options = options(call, body).await?;
    let name = &call.info.name;
    if is_system_class(call, name) {
        let why = "this is a system priority class and cannot be deleted";
        return Err(Status::forbidden(&call.resource.group, &call.resource.plural, name, why));
    }
    match call.server.storage().delete(&call.scope(false), name, &options).await? {
        Deleted::Gone(object) if !call.resource.returns_deleted() => {
            let uid = object.value()["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            Ok(manner.value(StatusCode::OK, &status::deleted(&call.resource, name, &uid)))
        }
        Deleted::Gone(object) => Ok(call.object(&manner, StatusCode::OK, &object)),
        Deleted::Going(object) => {
            let code = if options.cascading { StatusCode::ACCEPTED } else { StatusCode::OK };
            Ok(call.object(&manner, code, &object))
        }
    }
}

pub(super) async fn collection(call: &Call, body: Body) -> Result<Response<Body>, Status> {
    let manner = call.manner(Number::Many)?;
    let list = ListOptions::parse(&call.resource, &call.query)?;
    let options = options(call, body).await?;
    let (objects, revision) =
        call.server.storage().delete_collection(&call.scope(false), &options, &list).await?;
    let objects = Box::new(objects.into_iter());
    let answer = ListAnswer { resource: call.resource.clone(), objects, revision, rest: None };
    let _writing = call.notes.latencies.enter(Layer::Serialize);
    Ok(answer.respond(&manner, call.server.ids().now()).await)
}
