//! `pods/eviction`: a deletion that disruption budgets have a say in.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::{Value, json};
use skep_api::disruption::{self, Ruling};
use skep_api::registry::registry;
use skep_api::status::Status;

use super::Call;
use crate::body::Body;
use crate::cache::Object;
use crate::gate::ObjectReader;
use crate::options::WriteOptions;
use crate::respond::Manner;
use crate::storage::{DeleteOptions, Part, Scope, metadata};

/// So often an eviction is judged again because the pod changed meanwhile.
const ATTEMPTS: usize = 8;

pub(super) async fn evict(call: &Call, body: Body) -> Result<Response<Body>, Status> {
    let manner = Manner::plain(&call.parts, &call.query);
    let options = WriteOptions::parse("CreateOptions", &call.query)?;
    let mut eviction = call.sub_body(body, options.validation).await?;
    metadata::is_in_namespace(&eviction, &call.info.namespace)?;
    let name = eviction["metadata"]["name"].as_str().unwrap_or_default();
    if name != call.info.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    eviction["metadata"]["namespace"] = json!(call.info.namespace);
    call.admit(options.dry_run, &mut eviction).await?;
    let wishes = eviction.get("deleteOptions").filter(|wishes| !wishes.is_null());
    let deletion = DeleteOptions::parse(wishes, &call.query)?;
    let scope = Scope { admitted: true, ..call.scope(options.dry_run || deletion.dry_run) };
    let mut tries = 1;
    loop {
        match once(call, &scope, &deletion).await {
            // Decided by a pod that is another by now.
            Err(status) if status.code == 409 && deletion.is_unconditional() && tries < ATTEMPTS => {
                tries += 1
            }
            other => break other?,
        }
    }
    let done =
        json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
    Ok(manner.value(StatusCode::CREATED, &done))
}

async fn once(call: &Call, scope: &Scope<'_>, deletion: &DeleteOptions) -> Result<(), Status> {
    let name = &call.info.name;
    let storage = call.server.storage();
    let pod = storage.get(scope, name).await?;
    deletion.check(&call.resource, name, &crate::respond::view(&call.resource, &pod))?;
    let ended = is_over(&pod.value());
    let spent = !disruption::is_free(&pod.value()) && spend(call, scope, &pod).await?;
    let mut deletion = deletion.clone();
    let mut revision = pod.revision();
    if !scope.dry_run && !ended {
        let now = call.server.ids().now_text();
        let seen = revision.to_string();
        let same = |found: &Value| spent || found["metadata"]["resourceVersion"].as_str() == Some(&seen);
        let propose = |found: &Value| match same(found) {
            true => Ok(disruption::condemn(found, &now)),
            false => Err(Status::modified(&call.resource, name)),
        };
        revision = storage.update(scope, name, Part::Own, &propose).await?.revision();
    }
    // Nobody's budget was asked, for the pod as it was: it must be that pod still.
    if !spent && !ended {
        deletion.only_at(revision);
    }
    storage.delete(scope, name, &deletion).await.map(drop)
}

/// Whether the pod has ended or is on its way out: then it can only get closer to its end.
fn is_over(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
        || pod["metadata"]["deletionTimestamp"].is_string()
}

/// Takes the eviction out of the pod's budget, if one covers it. Whether it did.
async fn spend(call: &Call, scope: &Scope<'_>, pod: &Arc<Object>) -> Result<bool, Status> {
    let budgets = call.server.storage().cache.list("policy", "poddisruptionbudgets", &call.info.namespace);
    let budgets: Vec<Value> = budgets.iter().map(|budget| (**budget).clone()).collect();
    let name = match disruption::covering(&pod.value(), &budgets)[..] {
        [] => return Ok(false),
        [budget] => budget["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        _ => {
            let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not \
                       support.";
            return Err(Status::new(500, "", why));
        }
    };
    let resource =
        registry().find("policy", "v1", "poddisruptionbudgets").ok_or_else(Status::no_such_path)?;
    let of_budget = Scope { resource, subresource: "status", ..*scope };
    let now = call.server.ids().now_text();
    let spent = parking_lot::Mutex::new(false);
    let propose = |budget: &Value| {
        let ruling = disruption::judge(&pod.value(), budget, &now)?;
        *spent.lock() = ruling != Ruling::Free;
        Ok(match ruling {
            Ruling::Free => budget.clone(),
            Ruling::Spend(status) => {
                let mut budget = budget.clone();
                budget["status"] = status;
                budget
            }
        })
    };
    match call.server.storage().update(&of_budget, &name, Part::Own, &propose).await {
        // The budget went meanwhile: nothing protects the pod any more.
        Err(status) if status.code == 404 => Ok(false),
        Err(status) => Err(status),
        Ok(_) => Ok(spent.into_inner()),
    }
}
