//! A Deployment's status: numbers summed over its ReplicaSets, and how far the rollout is.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSetCondition};

use super::conditions::{self, condition};
use super::plan::Step;
use super::scaling;
use crate::runtime::clock::until;

impl Step<'_> {
    /// The numbers, and the `Available` condition; the other conditions are kept.
    pub(super) fn calculate_status(&self) -> DeploymentStatus {
        let numbers = |of: fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> i32| -> i32 {
            self.sets.iter().filter_map(|set| set.object.status.as_ref()).map(of).sum()
        };
        let available = numbers(|status| status.available_replicas.unwrap_or(0));
        let mut status = DeploymentStatus {
            observed_generation: self.deployment.metadata.generation,
            replicas: Some(numbers(|status| status.replicas)),
            updated_replicas: self.newest.map(|newest| self.sets[newest].actual()),
            ready_replicas: Some(numbers(|status| status.ready_replicas.unwrap_or(0))),
            available_replicas: Some(available),
            unavailable_replicas: Some((self.total() - available).max(0)),
            terminating_replicas: Some(numbers(|status| status.terminating_replicas.unwrap_or(0))),
            collision_count: self.status.collision_count,
            conditions: self.status.conditions.clone(),
        };
        let enough = available >= self.desired() - scaling::max_unavailable(self.deployment);
        let (value, reason, message) = if enough {
            ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        };
        let available = condition(conditions::AVAILABLE, value, reason, message.to_owned(), self.now);
        conditions::set(&mut status, available);
        status
    }

    /// The status with the rollout's progress and the failures of ReplicaSets.
    pub(super) fn sync_rollout_status(&mut self) {
        let mut status = self.calculate_status();
        let before = std::mem::take(&mut self.status);
        if self.has_deadline() {
            self.note_progress(&before, &mut status);
        } else {
            conditions::remove(&mut status, conditions::PROGRESSING);
        }
        match self.replica_failure() {
            Some(failure) => {
                let message = failure.message.clone().unwrap_or_default();
                let reason = failure.reason.as_deref().unwrap_or_default();
                let mut failed =
                    condition(conditions::REPLICA_FAILURE, &failure.status, reason, message, self.now);
                failed.last_transition_time = failure.last_transition_time.clone();
                conditions::set(&mut status, failed);
            }
            None => conditions::remove(&mut status, conditions::REPLICA_FAILURE),
        }
        self.status = status;
    }

    fn note_progress(&self, before: &DeploymentStatus, status: &mut DeploymentStatus) {
        let current = conditions::get(before, conditions::PROGRESSING);
        let settled = status.replicas.unwrap_or(0) == status.updated_replicas.unwrap_or(0)
            && conditions::has_reason(current, conditions::NEW_SET_AVAILABLE);
        if settled {
            return;
        }
        let subject = match self.newest.map(|newest| self.sets[newest].name()) {
            Some(name) => format!("ReplicaSet \"{name}\""),
            None => {
                format!("Deployment \"{}\"", self.deployment.metadata.name.as_deref().unwrap_or_default())
            }
        };
        let progressing = |value: &str, reason: &str, text: &str| {
            condition(conditions::PROGRESSING, value, reason, format!("{subject} {text}"), self.now)
        };
        if is_complete(self.deployment, status) {
            let done = progressing("True", conditions::NEW_SET_AVAILABLE, "has successfully progressed.");
            conditions::set(status, done);
        } else if has_progressed(before, status) {
            let mut on = progressing("True", conditions::SET_UPDATED, "is progressing.");
            // Every bit of progress restarts the deadline, so the condition is written anew.
            if let Some(current) = current.filter(|current| current.status == "True") {
                on.last_transition_time = current.last_transition_time.clone();
            }
            conditions::remove(status, conditions::PROGRESSING);
            conditions::set(status, on);
        } else if is_timed_out(self.deployment, status, self.now) {
            conditions::set(
                status,
                progressing("False", conditions::TIMED_OUT, "has timed out progressing."),
            );
        }
    }

    /// Why a ReplicaSet cannot create or delete pods: the newest's reason first.
    fn replica_failure(&self) -> Option<&ReplicaSetCondition> {
        let newest = self.newest.map(|newest| &self.sets[newest]);
        newest
            .into_iter()
            .chain(self.sets.iter())
            .filter_map(|set| set.object.status.as_ref())
            .flat_map(|status| status.conditions.iter().flatten())
            .find(|condition| condition.type_ == conditions::REPLICA_FAILURE)
    }
}

/// All pods are of the newest template and available, and the status is of the present spec.
pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let desired = deployment.spec.as_ref().map_or(0, |spec| spec.replicas.unwrap_or(1));
    status.updated_replicas.unwrap_or(0) == desired
        && status.replicas.unwrap_or(0) == desired
        && status.available_replicas.unwrap_or(0) == desired
        && status.observed_generation.unwrap_or(0) >= deployment.metadata.generation.unwrap_or(0)
}

fn has_progressed(before: &DeploymentStatus, now: &DeploymentStatus) -> bool {
    let updated = |status: &DeploymentStatus| status.updated_replicas.unwrap_or(0);
    let old = |status: &DeploymentStatus| status.replicas.unwrap_or(0) - updated(status);
    updated(now) > updated(before)
        || old(now) < old(before)
        || now.ready_replicas.unwrap_or(0) > before.ready_replicas.unwrap_or(0)
        || now.available_replicas.unwrap_or(0) > before.available_replicas.unwrap_or(0)
}

fn is_timed_out(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> bool {
    let current = conditions::get(status, conditions::PROGRESSING);
    if conditions::has_reason(current, conditions::NEW_SET_AVAILABLE) {
        return false;
    }
    conditions::has_reason(current, conditions::TIMED_OUT)
        || conditions::deadline(deployment, status).is_some_and(|deadline| deadline < now)
}

/// When to look again because the progress deadline is due then.
pub(super) fn look_again(
    deployment: &Deployment,
    status: &DeploymentStatus,
    now: Timestamp,
) -> Option<Duration> {
    let current = conditions::get(status, conditions::PROGRESSING);
    if is_complete(deployment, status)
        || conditions::has_reason(current, conditions::TIMED_OUT)
        || conditions::has_reason(current, conditions::NEW_SET_AVAILABLE)
        || deployment.metadata.deletion_timestamp.is_some()
        || deployment.spec.as_ref().is_some_and(|spec| spec.paused == Some(true))
    {
        return None;
    }
    let deadline = conditions::deadline(deployment, status)?;
    // One second more: times are stored in whole seconds.
    Some(until(now, deadline) + Duration::from_secs(1))
}

/// Zero and absent are the same in the API; this is the one way in which statuses are compared and written.
pub(super) fn normal(mut status: DeploymentStatus) -> DeploymentStatus {
    let numbers = [
        &mut status.replicas,
        &mut status.updated_replicas,
        &mut status.ready_replicas,
        &mut status.available_replicas,
        &mut status.unavailable_replicas,
    ];
    for number in numbers {
        *number = number.filter(|number| *number != 0);
    }
    status
}
