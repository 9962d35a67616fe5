//! `componentstatuses`: how the parts of the control plane are, in the form that old clients ask for. Nothing is stored.
//!
//! Upstream looks at fixed ports of its own machine. Here the scheduler and the controllers may run in this process or on
//! any machine: who leads holds a Lease, which says the same. The store is asked itself.

use std::time::Duration;

use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use skep_api::status::Status;
use skep_api::table;

use super::Call;
use crate::body::Body;
use crate::negotiate::Form;
use crate::options::ListOptions;
use crate::respond::Manner;
use crate::storage::Scope;

/// The parts that elect a leader: what they are called here, and their Leases.
const LEADERS: [(&str, &str); 2] =
    [("controller-manager", "kube-controller-manager"), ("scheduler", "kube-scheduler")];
/// The store, whichever it is.
const STORE: &str = "etcd-0";
/// So long the store has to answer.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) async fn get(call: &Call) -> Result<Response<Body>, Status> {
    let manner = Manner::of(&call.parts, &call.query, false)?;
    let name = call.info.name.as_str();
    let Some(status) = statuses(call).await?.into_iter().find(|one| one["metadata"]["name"] == name) else {
        let why = format!("componentstatus {name:?} not found");
        return Err(Status::new(404, "NotFound", why).about("", "componentstatus", name));
    };
    let answer = match manner.form {
        Form::Object => {
            let mut status = status;
            status["kind"] = "ComponentStatus".into();
            status["apiVersion"] = "v1".into();
            status
        }
        Form::Metadata(_) => table::partial_metadata(&status),
        Form::Table => rows(call, &manner, &[&status]),
    };
    Ok(manner.value(StatusCode::OK, &answer))
}

pub(super) async fn list(call: &Call) -> Result<Response<Body>, Status> {
    let manner = Manner::of(&call.parts, &call.query, false)?;
    let options = ListOptions::parse(&call.resource, &call.query)?;
    let mut all = statuses(call).await?;
    all.retain(|one| options.selection.matches_value(one));
    let list = |kind: &str, api_version: &str, items: Vec<Value>| json!({ "kind": kind, "apiVersion": api_version, "metadata": {}, "items": items });
    let answer = match manner.form {
        Form::Object => list("ComponentStatusList", "v1", all),
        Form::Metadata(_) => {
            let items = all.iter().map(table::partial_metadata).collect();
            list("PartialObjectMetadataList", "meta.k8s.io/v1", items)
        }
        Form::Table => rows(call, &manner, &all.iter().collect::<Vec<_>>()),
    };
    Ok(manner.value(StatusCode::OK, &answer))
}

fn rows(call: &Call, manner: &Manner, objects: &[&Value]) -> Value {
    table::render(&call.resource, objects, None, manner.include, call.server.ids().now())
}

async fn statuses(call: &Call) -> Result<Vec<Value>, Status> {
    let leases = call.kinds.find("coordination.k8s.io", "v1", "leases").ok_or_else(Status::no_such_path)?;
    let scope = Scope { resource: leases, namespace: "kube-system", ..call.scope(false) };
    let (storage, now) = (call.server.storage(), call.server.ids().now());
    let mut all = Vec::new();
    for (name, lease) in LEADERS {
        let found = match storage.get(&scope, lease).await {
            Ok(found) => Some(found.value()),
            Err(status) if status.code == 404 => None,
            Err(status) => return Err(status),
        };
        all.push(status(name, leads(found.as_deref(), lease, now)));
    }
    let answer = tokio::time::timeout(PATIENCE, storage.store.current_revision()).await;
    all.push(status(
        STORE,
        match answer {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the store does not answer".to_owned()),
        },
    ));
    Ok(all)
}

/// Whether somebody leads by this Lease.
fn leads(lease: Option<&Value>, name: &str, now: Timestamp) -> Result<(), String> {
    let spec = &lease.ok_or_else(|| format!("there is no lease {name}"))?["spec"];
    if spec["holderIdentity"].as_str().unwrap_or_default().is_empty() {
        return Err(format!("nobody holds the lease {name}"));
    }
    let renewed = spec["renewTime"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
    let until = renewed.map(|time| time.as_second() + spec["leaseDurationSeconds"].as_i64().unwrap_or(0));
    match until {
        Some(until) if until >= now.as_second() => Ok(()),
        _ => Err(format!("the lease {name} has not been renewed in time")),
    }
}

fn status(name: &str, health: Result<(), String>) -> Value {
    let (status, message) = match health {
        Ok(()) => ("True", "ok".to_owned()),
        Err(why) => ("False", why),
    };
    json!({
        "metadata": { "name": name },
        "conditions": [{ "type": "Healthy", "status": status, "message": message }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leader_is_healthy_as_long_as_its_lease() {
        let now: Timestamp = "2030-01-01T00:01:00Z".parse().unwrap();
        let lease = |holder: &str, renewed: &str| json!({ "spec": { "holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 15 } });
        let health = |lease: Value| leads(Some(&lease), "l", now);
        assert_eq!(health(lease("a", "2030-01-01T00:00:50.000000Z")), Ok(()));
        assert!(health(lease("a", "2030-01-01T00:00:40.000000Z")).unwrap_err().contains("renewed in time"));
        assert!(health(lease("", "2030-01-01T00:00:50.000000Z")).unwrap_err().contains("nobody holds"));
        assert_eq!(leads(None, "l", now), Err("there is no lease l".to_owned()));
    }
}
