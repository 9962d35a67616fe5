//! `status.typeChecking`: follows the policies that judge, and writes down what their expressions get wrong about the kinds
//! that they name. A policy whose `observedGeneration` is its generation has been looked at.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use skep_api::object::{name, number};
use skep_api::policy;
use skep_api::registry::{Resource, registry};
use skep_api::status::Status;
use tokio_util::sync::CancellationToken;

use crate::definitions::Kinds;
use crate::pki::MASTERS;
use crate::storage::{Ownership, Part, Scope, Storage};
use crate::user::UserInfo;

/// A pass that failed is made again after this time.
const PAUSE: Duration = Duration::from_secs(1);

/// Keeps the statuses of policies in step with their expressions.
pub(crate) struct TypeChecks {
    storage: Storage,
    kinds: Arc<Kinds>,
    resource: Arc<Resource>,
    user: UserInfo,
}

impl TypeChecks {
    /// Follows the policies until `stop`.
    pub(crate) fn start(storage: Storage, kinds: Arc<Kinds>, stop: CancellationToken) {
        let found =
            registry().find(skep_api::admissionregistration::GROUP, "v1", "validatingadmissionpolicies");
        let Some(resource) = found.cloned() else { return };
        let user = UserInfo::new("system:apiserver", &[MASTERS]);
        let one = Self { storage, kinds, resource, user };
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = one.follow() => {}
            }
        });
    }

    async fn follow(&self) {
        let Some(collection) = self.storage.cache.collection(&self.resource) else { return };
        let mut changes = collection.signal();
        loop {
            changes.borrow_and_update();
            let mut failed = false;
            for object in self.storage.cache.snapshot(&collection).objects.values() {
                if let Err(status) = self.check(&object.value()).await {
                    tracing::warn!(policy = name(&object.value()), error = %status, "cannot write the status");
                    failed = true;
                }
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(PAUSE), if failed => {}
            }
        }
    }

    async fn check(&self, policy: &Value) -> Result<(), Status> {
        let generation = number(policy, &["metadata", "generation"]).unwrap_or_default();
        if number(policy, &["status", "observedGeneration"]) == Some(generation) {
            return Ok(());
        }
        let kinds = self.kinds.current();
        let warnings = policy::warnings(policy, &kinds);
        let mut checking = json!({});
        if !warnings.is_empty() {
            checking["expressionWarnings"] = json!(warnings);
        }
        let propose = |current: &Value| {
            let mut new = current.clone();
            if number(current, &["metadata", "generation"]) == Some(generation) {
                if !new["status"].is_object() {
                    new["status"] = json!({});
                }
                new["status"]["observedGeneration"] = json!(generation);
                new["status"]["typeChecking"] = checking.clone();
            }
            Ok(new)
        };
        let scope = Scope {
            resource: &self.resource,
            kinds: &kinds,
            namespace: "",
            subresource: "status",
            user: &self.user,
            dry_run: false,
            ownership: Ownership::Changed("kube-apiserver"),
            asked: None,
            admitted: true,
        };
        match self.storage.update(&scope, name(policy), Part::Status, &propose).await {
            Err(status) if status.code != 404 => Err(status),
            _ => Ok(()),
        }
    }
}
