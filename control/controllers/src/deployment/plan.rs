//! From one Deployment, its ReplicaSets and their pods to the writes that bring it one step further. Pure.
//!
//! One plan is one step: the ReplicaSets' own progress brings the next. The writes are ordered so that it
//! is safe to stop after any of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::core::ObjectMeta;

use super::conditions::{self, condition};
use super::hash::{POD_TEMPLATE_HASH, same_template, template_hash};
use super::{annotations, scaling};
use crate::pod::Pod;
use crate::runtime::ownership::{controller_reference, selects_all};

/// Everything the plan depends on, besides the time.
pub struct Observed<'a> {
    /// The Deployment.
    pub deployment: &'a Deployment,
    /// The ReplicaSets that it controls.
    pub replica_sets: Vec<Arc<ReplicaSet>>,
    /// The pods of each ReplicaSet, by its uid.
    pub pods: HashMap<String, Vec<Arc<Pod>>>,
}

/// What to write, in this order: actions, the revision annotation, the status.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Writes to ReplicaSets.
    pub actions: Vec<Action>,
    /// The Deployment's revision annotation, when it has to change.
    pub revision: Option<i64>,
    /// The Deployment's status, when it has to change.
    pub status: Option<DeploymentStatus>,
    /// When to look again even if nothing changes.
    pub requeue: Option<Duration>,
    /// The selector is empty: nothing is done, and people are told.
    pub selects_everything: bool,
}

/// One write to a ReplicaSet.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create it.
    Create(Box<ReplicaSet>),
    /// Replace it; `scaled` is its size before when that changes.
    Update {
        /// The ReplicaSet as it shall be.
        set: Box<ReplicaSet>,
        /// Its `spec.replicas` before, if it is scaled.
        scaled_from: Option<i32>,
    },
    /// Delete it: it is old, empty and beyond the history limit.
    Delete {
        /// Its name.
        name: String,
        /// Its uid, as a precondition.
        uid: Option<String>,
    },
}

/// Plans one step.
pub fn plan(observed: Observed<'_>, now: Timestamp) -> Plan {
    let Some(spec) = observed.deployment.spec.as_ref() else { return Plan::default() };
    if selects_all(&spec.selector) {
        return only_observed(observed.deployment);
    }
    let mut step = Step::new(observed, now);
    if step.deployment.metadata.deletion_timestamp.is_some() {
        step.find_newest();
        step.status = step.calculate_status();
        return step.finish();
    }
    step.note_pause();
    if spec.paused == Some(true) || step.is_being_scaled() {
        step.find_newest();
        scaling::scale(&mut step);
        if spec.paused == Some(true) {
            step.clean_up();
        }
        step.status = step.calculate_status();
    } else if is_recreate(step.deployment) {
        step.recreate();
    } else {
        step.roll();
    }
    step.finish()
}

/// Whether the strategy is to delete all old pods before creating new ones.
pub fn is_recreate(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
}

fn only_observed(deployment: &Deployment) -> Plan {
    let mut status = deployment.status.clone().unwrap_or_default();
    let behind = status.observed_generation.unwrap_or(0) < deployment.metadata.generation.unwrap_or(0);
    status.observed_generation = deployment.metadata.generation;
    Plan { status: behind.then_some(status), selects_everything: true, ..Plan::default() }
}

/// A ReplicaSet while a step is planned.
pub(super) struct Set {
    pub(super) object: ReplicaSet,
    fate: Fate,
    scaled_from: Option<i32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Untouched,
    Created,
    Updated,
    Deleted,
}

impl Set {
    /// `spec.replicas`.
    pub(super) fn replicas(&self) -> i32 {
        size(&self.object)
    }

    /// `status.availableReplicas`.
    pub(super) fn available(&self) -> i32 {
        self.object.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
    }

    /// `status.replicas`.
    pub(super) fn actual(&self) -> i32 {
        self.object.status.as_ref().map_or(0, |status| status.replicas)
    }

    pub(super) fn name(&self) -> &str {
        self.object.metadata.name.as_deref().unwrap_or_default()
    }

    fn touch(&mut self) {
        if self.fate == Fate::Untouched {
            self.fate = Fate::Updated;
        }
    }
}

/// `spec.replicas` of a ReplicaSet; 1 where it is not given.
pub(super) fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().map_or(0, |spec| spec.replicas.unwrap_or(1))
}

/// The state of planning one step.
pub(super) struct Step<'a> {
    pub(super) deployment: &'a Deployment,
    /// Oldest first.
    pub(super) sets: Vec<Set>,
    pub(super) pods: HashMap<String, Vec<Arc<Pod>>>,
    /// Which of `sets` has the Deployment's template.
    pub(super) newest: Option<usize>,
    pub(super) status: DeploymentStatus,
    pub(super) now: Timestamp,
    revision: Option<i64>,
}

impl<'a> Step<'a> {
    fn new(observed: Observed<'a>, now: Timestamp) -> Self {
        let mut sets: Vec<Set> = observed
            .replica_sets
            .iter()
            .map(|set| Set { object: ReplicaSet::clone(set), fate: Fate::Untouched, scaled_from: None })
            .collect();
        sets.sort_by_cached_key(|set| {
            let meta = &set.object.metadata;
            (meta.creation_timestamp.as_ref().map(|time| time.0), meta.name.clone())
        });
        let status = observed.deployment.status.clone().unwrap_or_default();
        Self {
            deployment: observed.deployment,
            sets,
            pods: observed.pods,
            newest: None,
            status,
            now,
            revision: None,
        }
    }

    /// `spec.replicas` of the Deployment; 1 where it is not given.
    pub(super) fn desired(&self) -> i32 {
        self.deployment.spec.as_ref().map_or(0, |spec| spec.replicas.unwrap_or(1))
    }

    fn template(&self) -> Option<&'a PodTemplateSpec> {
        self.deployment.spec.as_ref().map(|spec| &spec.template)
    }

    /// Indexes of all sets but the newest, oldest first.
    pub(super) fn old(&self) -> Vec<usize> {
        (0..self.sets.len()).filter(|index| Some(*index) != self.newest).collect()
    }

    /// Sum of `spec.replicas`.
    pub(super) fn total(&self) -> i32 {
        self.sets.iter().map(Set::replicas).sum()
    }

    /// Finds the set with the Deployment's template and brings its annotations and revision up to date.
    pub(super) fn find_newest(&mut self) {
        let Some(template) = self.template() else { return };
        let same = |set: &Set| {
            set.object
                .spec
                .as_ref()
                .and_then(|spec| spec.template.as_ref())
                .is_some_and(|t| same_template(t, template))
        };
        self.newest = self.sets.iter().position(same);
        let Some(newest) = self.newest else { return };
        let new_revision = self.next_revision();
        let min_ready = self.deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
        let set = &mut self.sets[newest];
        let mut changed = annotations::copy_to(&mut set.object, self.deployment, new_revision, true);
        if let Some(spec) = set.object.spec.as_mut()
            && spec.min_ready_seconds.unwrap_or(0) != min_ready.unwrap_or(0)
        {
            spec.min_ready_seconds = min_ready;
            changed = true;
        }
        if changed {
            set.touch();
        }
        let name = set.name().to_owned();
        self.adopt_revision(newest);
        if self.has_deadline() && conditions::get(&self.status, conditions::PROGRESSING).is_none() {
            let message = format!("Found new replica set \"{name}\"");
            self.progressing("True", conditions::NEW_SET_FOUND, message);
        }
    }

    /// Like [`Step::find_newest`], but plans a new set when there is none with the template.
    pub(super) fn find_or_create_newest(&mut self) {
        self.find_newest();
        if self.newest.is_some() {
            return;
        }
        let Some(mut set) = new_set(self.deployment) else { return };
        annotations::copy_to(&mut set, self.deployment, self.next_revision(), false);
        let name = set.metadata.name.clone().unwrap_or_default();
        self.sets.push(Set { object: set, fate: Fate::Created, scaled_from: None });
        let newest = self.sets.len() - 1;
        self.newest = Some(newest);
        let replicas = scaling::newest_size(self);
        let (desired, max) = (self.desired(), self.desired() + scaling::max_surge(self.deployment));
        if let Some(spec) = self.sets[newest].object.spec.as_mut() {
            spec.replicas = Some(replicas);
        }
        annotations::set_sizes(&mut self.sets[newest].object, desired, max);
        self.adopt_revision(newest);
        if self.has_deadline() {
            let message = format!("Created new replica set \"{name}\"");
            self.progressing("True", conditions::NEW_SET_CREATED, message);
        }
    }

    fn next_revision(&self) -> i64 {
        annotations::max_revision(self.old().into_iter().map(|index| &self.sets[index].object)) + 1
    }

    fn adopt_revision(&mut self, newest: usize) {
        let of_set = annotations::revision(self.sets[newest].object.metadata.annotations.as_ref());
        if annotations::revision(self.deployment.metadata.annotations.as_ref()) != of_set {
            self.revision = Some(of_set);
        }
    }

    /// Plans a size for a set, and writes the Deployment's sizes down in its annotations.
    pub(super) fn resize(&mut self, index: usize, replicas: i32) -> bool {
        let (desired, max) = (self.desired(), self.desired() + scaling::max_surge(self.deployment));
        let set = &mut self.sets[index];
        let before = set.replicas();
        let noted = annotations::set_sizes(&mut set.object, desired, max);
        if let Some(spec) = set.object.spec.as_mut() {
            spec.replicas = Some(replicas);
        }
        if before != replicas {
            set.scaled_from.get_or_insert(before);
        }
        if noted || before != replicas {
            set.touch();
        }
        before != replicas
    }

    /// Deletes old, empty sets beyond the history limit, lowest revisions first.
    pub(super) fn clean_up(&mut self) {
        let limit = self.deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit);
        let Some(limit) = limit.filter(|limit| *limit != i32::MAX) else { return };
        let alive = |index: &usize| self.sets[*index].object.metadata.deletion_timestamp.is_none();
        let mut old: Vec<usize> = self.old().into_iter().filter(alive).collect();
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        old.sort_by_key(|index| {
            annotations::revision(self.sets[*index].object.metadata.annotations.as_ref())
        });
        for index in old.into_iter().take(surplus) {
            let set = &mut self.sets[index];
            let observed =
                set.object.status.as_ref().and_then(|status| status.observed_generation).unwrap_or(0);
            let settled = set.object.metadata.generation.unwrap_or(0) <= observed;
            if set.actual() == 0 && set.replicas() == 0 && settled && set.fate == Fate::Untouched {
                set.fate = Fate::Deleted;
            }
        }
    }

    pub(super) fn has_deadline(&self) -> bool {
        conditions::progress_deadline(self.deployment).is_some()
    }

    pub(super) fn progressing(&mut self, status: &str, reason: &str, message: String) {
        let condition = condition(conditions::PROGRESSING, status, reason, message, self.now);
        conditions::set(&mut self.status, condition);
    }

    /// Says in the `Progressing` condition that a rollout was paused or resumed.
    fn note_pause(&mut self) {
        let current = conditions::get(&self.status, conditions::PROGRESSING);
        if !self.has_deadline() || conditions::has_reason(current, conditions::TIMED_OUT) {
            return;
        }
        let noted = conditions::has_reason(current, conditions::PAUSED);
        let paused = self.deployment.spec.as_ref().is_some_and(|spec| spec.paused == Some(true));
        if paused && !noted {
            self.progressing("Unknown", conditions::PAUSED, "Deployment is paused".to_owned());
        } else if !paused && noted {
            self.progressing("Unknown", conditions::RESUMED, "Deployment is resumed".to_owned());
        }
    }

    /// Whether `spec.replicas` changed since the active sets were last sized.
    fn is_being_scaled(&self) -> bool {
        let desired = self.desired();
        self.sets.iter().filter(|set| set.replicas() > 0).any(|set| {
            annotations::number(&set.object, annotations::DESIRED_REPLICAS)
                .is_some_and(|noted| noted != desired)
        })
    }

    fn finish(self) -> Plan {
        let old = super::status::normal(self.deployment.status.clone().unwrap_or_default());
        let status = super::status::normal(self.status);
        let requeue = super::status::look_again(self.deployment, &status, self.now);
        let mut sets = self.sets;
        // What adds pods comes before what takes them away, so that stopping in between is safe.
        sets.sort_by_key(|set| match set.fate {
            Fate::Created => 0,
            Fate::Updated if set.scaled_from.is_none_or(|from| from < set.replicas()) => 1,
            _ => 2,
        });
        let actions = sets.into_iter().filter_map(|set| match set.fate {
            Fate::Untouched => None,
            Fate::Created => Some(Action::Create(Box::new(set.object))),
            Fate::Updated => Some(Action::Update { set: Box::new(set.object), scaled_from: set.scaled_from }),
            Fate::Deleted => Some(Action::Delete {
                name: set.object.metadata.name.unwrap_or_default(),
                uid: set.object.metadata.uid,
            }),
        });
        Plan {
            actions: actions.collect(),
            revision: self.revision,
            status: (status != old).then_some(status),
            requeue,
            selects_everything: false,
        }
    }
}

/// The ReplicaSet for the Deployment's present template, with no replicas yet.
fn new_set(deployment: &Deployment) -> Option<ReplicaSet> {
    let spec = deployment.spec.as_ref()?;
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = template_hash(&spec.template, collisions);
    let mut template = spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(POD_TEMPLATE_HASH.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(POD_TEMPLATE_HASH.to_owned(), hash.clone());
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    Some(ReplicaSet {
        metadata: ObjectMeta {
            name: Some(set_name(name, &hash)),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![controller_reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            min_ready_seconds: spec.min_ready_seconds,
            replicas: Some(0),
            selector,
            template: Some(template),
        }),
        status: None,
    })
}

/// `<deployment>-<hash>`; the name of the Deployment is cut where the pods' names would get too long.
fn set_name(deployment: &str, hash: &str) -> String {
    const LONGEST: usize = 253 - 10;
    let mut end = deployment.len().min(LONGEST - hash.len() - 1);
    while !deployment.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}-{hash}", &deployment[..end])
}

/// The status to write when the name of the new ReplicaSet is taken by another template.
pub fn after_collision(deployment: &Deployment) -> DeploymentStatus {
    let mut status = deployment.status.clone().unwrap_or_default();
    status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
    status
}

/// The status to write when the new ReplicaSet could not be created; `None` when that is nothing new.
pub fn after_create_failed(
    deployment: &Deployment,
    set: &str,
    why: &str,
    now: Timestamp,
) -> Option<DeploymentStatus> {
    conditions::progress_deadline(deployment)?;
    let old = deployment.status.clone().unwrap_or_default();
    let mut status = old.clone();
    let message = format!("Failed to create new replica set \"{set}\": {why}");
    let failed = condition(conditions::PROGRESSING, "False", conditions::SET_CREATE_FAILED, message, now);
    conditions::set(&mut status, failed);
    (status != old).then_some(status)
}
