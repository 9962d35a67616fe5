//! The ServiceCIDR `kubernetes`: the networks of the configuration. Made when it is not there, widened to the second family
//! when the configuration has come to have one, and said to be ready as long as it is what the configuration says.
//!
//! One that says something else stays: its addresses are in use. An event tells of it, once.

use serde_json::{Value, json};
use skep_api::status::Status;
use tokio_util::sync::CancellationToken;

use super::claim::{own_scope, own_user};
use super::mend::event;
use crate::storage::{Part, Storage};

pub(crate) const NAME: &str = "kubernetes";
const COMPONENT: &str = "kubernetes-service-cidr-controller";

/// What is to be done about it.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Create,
    /// The second network is added.
    Widen,
    SayReady,
    /// It is not what the configuration says.
    Report(&'static str, String),
    Nothing,
}

/// The next step, by what is there and what is configured.
fn plan(found: Option<&Value>, configured: &[String]) -> Step {
    let Some(found) = found else { return Step::Create };
    let cidrs: Vec<&str> =
        found["spec"]["cidrs"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if found["metadata"]["deletionTimestamp"].is_string() {
        return Step::Nothing;
    }
    if configured.len() == 2 && cidrs == [configured[0].as_str()] {
        return Step::Widen;
    }
    if !cidrs.iter().eq(configured.iter()) {
        let note = format!(
            "The default ServiceCIDR [{}] does not match the controller flag configurations [{}]",
            cidrs.join(" "),
            configured.join(" ")
        );
        return Step::Report("KubernetesDefaultServiceCIDRInconsistent", note);
    }
    let ready =
        found["status"]["conditions"].as_array().into_iter().flatten().find(|one| one["type"] == "Ready");
    match ready.map(|ready| (ready["status"].as_str().unwrap_or_default(), ready)) {
        Some(("True", _)) => Step::Nothing,
        Some(("False", _)) => {
            let note =
                "Configuration matches, but the default ServiceCIDR is said not to be ready".to_owned();
            Step::Report("KubernetesDefaultServiceCIDRNotReady", note)
        }
        _ => Step::SayReady,
    }
}

impl Storage {
    fn configured(&self) -> Vec<String> {
        self.services.ranges.networks.iter().map(ToString::to_string).collect()
    }

    /// Brings it in step. `reported` remembers what was told.
    async fn sync_own_cidr(&self, reported: &mut Option<&'static str>) -> Result<(), Status> {
        let configured = self.configured();
        let user = own_user();
        let scope = own_scope(&self.services.kinds.cidrs, "", &user);
        // One step may call for another: what was made is not said to be ready yet.
        for _ in 0..3 {
            let found = self.get(&scope, NAME).await.ok();
            let there = found.as_ref().map(|found| found.value());
            match plan(there.as_deref(), &configured) {
                Step::Nothing => return Ok(()),
                Step::Create => {
                    let object = json!({
                        "kind": "ServiceCIDR", "apiVersion": "networking.k8s.io/v1",
                        "metadata": { "name": NAME }, "spec": { "cidrs": configured },
                    });
                    match self.create(&scope, object).await {
                        Err(status) if status.reason != "AlreadyExists" => return Err(status),
                        _ => {}
                    }
                }
                Step::Widen => {
                    let propose = |current: &Value| {
                        let mut new = current.clone();
                        new["spec"]["cidrs"] = json!(configured);
                        Ok(new)
                    };
                    self.update(&scope, NAME, Part::Whole, &propose).await?;
                }
                Step::SayReady => {
                    let now = self.ids.now_text();
                    let propose = |current: &Value| {
                        let mut new = current.clone();
                        new["status"]["conditions"] = json!([{
                            "type": "Ready", "status": "True", "reason": "", "lastTransitionTime": now,
                            "message": "Kubernetes default Service CIDR is ready",
                        }]);
                        Ok(new)
                    };
                    let scope = crate::storage::Scope { subresource: "status", ..scope };
                    self.update(&scope, NAME, Part::Status, &propose).await?;
                }
                Step::Report(reason, note) => {
                    if reported.replace(reason) != Some(reason)
                        && let Some(found) = found
                    {
                        event(self, COMPONENT, &found.value(), reason, "ServiceCIDRValidation", &note).await;
                    }
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Makes it for the first time.
    pub(super) async fn begin_own_cidr(&self) -> Result<(), Status> {
        self.sync_own_cidr(&mut None).await
    }
}

/// Keeps it in step with the configuration until `stop`.
pub(super) async fn follow(storage: Storage, stop: CancellationToken) {
    let mut changes = storage.services.sources.cidrs.signal();
    let mut reported = None;
    loop {
        changes.borrow_and_update();
        if let Err(error) = storage.sync_own_cidr(&mut reported).await {
            tracing::warn!(%error, "cannot bring the default ServiceCIDR in step");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_cidr_is_made_widened_and_said_to_be_ready() {
        let both = ["10.96.0.0/24".to_owned(), "fd96::/120".to_owned()];
        let one = json!({ "spec": { "cidrs": ["10.96.0.0/24"] } });
        let ready = |status: &str| {
            json!({
                "spec": { "cidrs": both }, "status": { "conditions": [{ "type": "Ready", "status": status }] },
            })
        };
        assert_eq!(plan(None, &both), Step::Create);
        assert_eq!(plan(Some(&one), &both), Step::Widen);
        assert_eq!(plan(Some(&one), &both[..1]), Step::SayReady);
        assert_eq!(plan(Some(&ready("True")), &both), Step::Nothing);
        assert!(matches!(
            plan(Some(&ready("False")), &both),
            Step::Report("KubernetesDefaultServiceCIDRNotReady", _)
        ));
        let other = plan(Some(&one), &["10.0.0.0/8".to_owned()]);
        let note = "The default ServiceCIDR [10.96.0.0/24] does not match the controller flag configurations [10.0.0.0/8]";
        assert_eq!(other, Step::Report("KubernetesDefaultServiceCIDRInconsistent", note.into()));
        let mut going = one;
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(plan(Some(&going), &both), Step::Nothing);
    }
}
