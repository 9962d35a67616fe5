//! Resizing pods in place (KEP-1287): what containers are given, which may differ from what their pod asks for now.
//!
//! Three things of each container, for processor time and memory: *desired*, as the API's spec has it; *allocated*, what
//! the node has promised, against which everything here is done; *actual*, what the container was given last. A resize
//! leads from left to right:
//!
//! | state | on | to |
//! |---|---|---|
//! | desired is not allocated | it fits beside what the node promised to others ([`crate::claims`]) | allocated |
//! | desired is not allocated | it does not fit | condition `PodResizePending`; tried again when another pod leaves |
//! | allocated is not actual | the runtime takes it, or the container is started anew where its policy asks | actual |
//! | allocated is not actual | the runtime refuses | condition `PodResizeInProgress` with the reason `Error`; tried again |
//!
//! Pure, but for [`crate::claims`]. What an agent needs of the one before it is in the API's status: allocated requests as
//! `allocatedResources`, actual limits as `resources`.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodCondition, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::observe::Observed;
use crate::spec::resources::Needs;

/// Condition of a pod whose node has no room for what it asks.
pub const PENDING: &str = "PodResizePending";
/// Condition of a pod whose containers are being given what it asks.
pub const IN_PROGRESS: &str = "PodResizeInProgress";
/// What can be resized.
const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// Resources by container name.
pub type Resources = BTreeMap<String, ResourceRequirements>;

/// What a pod's containers have been promised and given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resize {
    /// Promised.
    pub allocated: Resources,
    /// Given, by the id of the container that has it.
    pub actual: HashMap<String, ResourceRequirements>,
    /// Why the pod is not promised what it asks for.
    pub pending: Option<String>,
    /// Why its containers are not given what they were promised.
    pub failed: Option<String>,
}

/// What is to be done to one running container.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Its id in the runtime.
    pub id: String,
    /// Its name.
    pub name: String,
    /// It must be started anew, for its policy says so.
    pub restart: bool,
    /// Its memory limit shrinks to this many bytes.
    pub shrinks_to: Option<i64>,
}

impl Resize {
    /// As the status of `pod` has it, and what the pod asks for where that says nothing.
    pub fn of(pod: &Pod) -> Self {
        let mut allocated = desired(pod);
        for status in statuses(pod) {
            let Some(known) = allocated.get_mut(&status.name) else { continue };
            if let Some(requests) = &status.allocated_resources {
                overwrite(&mut known.requests, Some(requests));
            }
            if let Some(resources) = &status.resources {
                overwrite(&mut known.limits, resources.limits.as_ref());
            }
        }
        Self { allocated, ..Self::default() }
    }

    /// The pod with what it was promised in the place of what it asks for.
    pub fn effective(&self, pod: &Pod) -> Pod {
        let mut pod = pod.clone();
        for container in containers_mut(&mut pod) {
            if let Some(allocated) = self.allocated.get(&container.name) {
                container.resources = Some(allocated.clone());
            }
        }
        pod
    }

    /// Takes note of containers that run: one that is not known was made from what is promised, or else by an earlier
    /// agent, who said in the status what it gave.
    pub fn adopt(&mut self, pod: &Pod, observed: &Observed) {
        let running: Vec<_> = observed.instances.iter().filter(|run| run.is_running()).collect();
        self.actual.retain(|id, _| running.iter().any(|run| run.id == *id));
        for run in running.into_iter().filter(|run| !self.actual.contains_key(&run.id)).collect::<Vec<_>>() {
            let Some(allocated) = self.allocated.get(&run.name) else { continue };
            let suffix = format!("://{}", run.id);
            let told = statuses(pod)
                .find(|status| status.container_id.as_ref().is_some_and(|id| id.ends_with(&suffix)))
                .and_then(|status| status.resources.clone());
            self.actual.insert(run.id.clone(), told.unwrap_or_else(|| allocated.clone()));
        }
    }

    /// Which running containers of the effective `pod` have to be changed, those that shrink first.
    pub fn changes(&self, pod: &Pod, observed: &Observed) -> Vec<Change> {
        let mut found = Vec::new();
        for container in containers(pod) {
            let Some(run) = observed.newest(&container.name).filter(|run| run.is_running()) else { continue };
            let Some(actual) = self.actual.get(&run.id) else { continue };
            let allocated = container.resources.clone().unwrap_or_default();
            let changed = changed(actual, &allocated);
            if changed.is_empty() {
                continue;
            }
            let (before, after) = (Needs::of(Some(actual)), Needs::of(Some(&allocated)));
            let shrinks = after.memory_limit.filter(|after| before.memory_limit.is_some_and(|b| b > *after));
            found.push((
                after.cpu_limit > before.cpu_limit || after.memory_limit > before.memory_limit,
                Change {
                    id: run.id.clone(),
                    name: container.name.clone(),
                    restart: changed.iter().any(|resource| restarts(container, resource)),
                    shrinks_to: shrinks,
                },
            ));
        }
        found.sort_by_key(|(grows, _)| *grows);
        found.into_iter().map(|(_, change)| change).collect()
    }

    /// The pod with as much for every container as it is promised or has, whichever is more: bounds of the whole
    /// while its parts change one after the other.
    pub fn widest(&self, pod: &Pod, observed: &Observed) -> Pod {
        let mut wide = pod.clone();
        for container in containers_mut(&mut wide) {
            let run = observed.newest(&container.name).filter(|run| run.is_running());
            let Some(actual) = run.and_then(|run| self.actual.get(&run.id)) else { continue };
            let resources = container.resources.get_or_insert_default();
            for (list, had) in
                [(&mut resources.limits, &actual.limits), (&mut resources.requests, &actual.requests)]
            {
                let (Some(list), Some(had)) = (list, had) else { continue };
                for resource in RESIZABLE {
                    let (Some(now), Some(before)) = (list.get_mut(resource), had.get(resource)) else {
                        continue;
                    };
                    if amount(resource, before) > amount(resource, now) {
                        *now = before.clone();
                    }
                }
            }
        }
        wide
    }

    /// What the status says of a container: what its newest run has, and what it was promised where none runs.
    pub fn shown(&self, container: &Container, observed: &Observed) -> Option<ResourceRequirements> {
        let run = observed.newest(&container.name).filter(|run| run.is_running());
        let actual = run.and_then(|run| self.actual.get(&run.id));
        actual.cloned().or_else(|| container.resources.clone())
    }

    /// The conditions that hold now, without their times.
    pub fn conditions(&self, pod: &Pod, observed: &Observed) -> Vec<PodCondition> {
        let condition = |kind: &str, reason: Option<&str>, message: Option<&String>| PodCondition {
            type_: kind.to_owned(),
            status: "True".to_owned(),
            reason: reason.map(str::to_owned),
            message: message.cloned(),
            observed_generation: pod.metadata.generation,
            ..PodCondition::default()
        };
        let pending = self.pending.as_ref().map(|why| condition(PENDING, Some("Deferred"), Some(why)));
        let in_progress = !self.changes(pod, observed).is_empty();
        let reason = self.failed.as_ref().map(|_| "Error");
        let in_progress = in_progress.then(|| condition(IN_PROGRESS, reason, self.failed.as_ref()));
        pending.into_iter().chain(in_progress).collect()
    }
}

/// What the containers of `pod` ask for.
pub fn desired(pod: &Pod) -> Resources {
    let one =
        |container: &Container| (container.name.clone(), container.resources.clone().unwrap_or_default());
    containers(pod).map(one).collect()
}

/// Whether two pods' containers differ in what can be resized.
pub fn differ(one: &Resources, other: &Resources) -> bool {
    one.iter()
        .any(|(name, resources)| other.get(name).is_none_or(|other| !changed(resources, other).is_empty()))
}

/// The resizable resources in which the two differ.
fn changed(one: &ResourceRequirements, other: &ResourceRequirements) -> Vec<&'static str> {
    let same = |resource: &str| {
        let of = |list: &Option<BTreeMap<String, Quantity>>| {
            list.as_ref().and_then(|list| list.get(resource)).map(|quantity| amount(resource, quantity))
        };
        of(&one.limits) == of(&other.limits) && of(&one.requests) == of(&other.requests)
    };
    RESIZABLE.into_iter().filter(|resource| !same(resource)).collect()
}

/// Thousandths of a processor, or bytes.
fn amount(resource: &str, quantity: &Quantity) -> Option<i64> {
    use crate::spec::quantity;
    if resource == "cpu" { quantity::milli(quantity) } else { quantity::units(quantity) }
}

/// Whether the container is to be started anew when this resource changes.
fn restarts(container: &Container, resource: &str) -> bool {
    let policies = container.resize_policy.iter().flatten();
    let mut policies = policies.filter(|policy| policy.resource_name == resource);
    policies.any(|policy| policy.restart_policy == "RestartContainer")
}

/// Gives what can be resized in `list` the amounts in `from`.
fn overwrite(list: &mut Option<BTreeMap<String, Quantity>>, from: Option<&BTreeMap<String, Quantity>>) {
    let Some(list) = list else { return };
    for resource in RESIZABLE {
        if let (Some(amount), Some(told)) = (list.get_mut(resource), from.and_then(|from| from.get(resource)))
        {
            *amount = told.clone();
        }
    }
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.iter();
    spec.flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers))
}

fn containers_mut(pod: &mut Pod) -> impl Iterator<Item = &mut Container> {
    let spec = pod.spec.iter_mut();
    spec.flat_map(|spec| spec.init_containers.iter_mut().flatten().chain(&mut spec.containers))
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    status.flat_map(|status| {
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten())
    })
}

#[cfg(test)]
mod tests;
