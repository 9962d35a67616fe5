//! Which kinds to delete in which order, when to look again, and what the status says. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::ObjectMeta;
use kube::discovery::{ApiCapabilities, ApiResource, Scope, verbs};

/// The finalizer that this controller removes.
pub const FINALIZER: &str = "kubernetes";

/// Whether the namespace waits for this controller.
pub fn holds(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
    finalizers.is_some_and(|finalizers| finalizers.iter().any(|name| name == FINALIZER))
}

/// A kind whose objects have to go.
#[derive(Clone, Debug)]
pub struct Kind {
    /// The kind.
    pub resource: ApiResource,
    /// Whether one call deletes them all.
    pub collection: bool,
}

/// The namespaced kinds whose objects can be listed and deleted, pods first.
pub fn kinds(discovered: impl IntoIterator<Item = (ApiResource, ApiCapabilities)>) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = discovered
        .into_iter()
        .filter(|(_, can)| can.scope == Scope::Namespaced)
        .filter(|(_, can)| can.supports_operation(verbs::LIST) && can.supports_operation(verbs::DELETE))
        .map(|(resource, can)| Kind {
            resource,
            collection: can.supports_operation(verbs::DELETE_COLLECTION),
        })
        // Events of the namespace's end are in both groups; one deletion is enough.
        .filter(|kind| kind.resource.group != "events.k8s.io")
        .collect();
    kinds.sort_by_key(|kind| (!is_pods(kind), kind.resource.group.clone(), kind.resource.plural.clone()));
    kinds
}

/// Whether these are pods.
pub fn is_pods(kind: &Kind) -> bool {
    kind.resource.group.is_empty() && kind.resource.plural == "pods"
}

/// What a pass over the namespace found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Remaining {
    /// Objects left, by `plural.group`.
    pub objects: BTreeMap<String, usize>,
    /// Objects left that wait for this finalizer, by finalizer.
    pub finalizers: BTreeMap<String, usize>,
    /// The longest grace period of an object left, in seconds.
    pub grace: i64,
    /// Kinds whose deletion failed, and why.
    pub failures: Vec<String>,
    /// Why the kinds could not all be discovered.
    pub undiscovered: Option<String>,
}

impl Remaining {
    /// Takes the objects of one kind in that are still there.
    pub fn add(&mut self, kind: &Kind, objects: &[ObjectMeta]) {
        if objects.is_empty() {
            return;
        }
        let resource = &kind.resource;
        let name = if resource.group.is_empty() {
            format!("{}.", resource.plural)
        } else {
            format!("{}.{}", resource.plural, resource.group)
        };
        *self.objects.entry(name).or_default() += objects.len();
        for object in objects {
            for finalizer in object.finalizers.iter().flatten() {
                *self.finalizers.entry(finalizer.clone()).or_default() += 1;
            }
            self.grace = self.grace.max(object.deletion_grace_period_seconds.unwrap_or(0));
        }
    }

    /// Whether the namespace may go.
    pub fn is_nothing(&self) -> bool {
        self.objects.is_empty() && self.failures.is_empty() && self.undiscovered.is_none()
    }

    /// When to look again: soon while things go fast, later when something takes its time. `pass` counts the
    /// looks so far.
    pub fn look_again(&self, pass: u32) -> Duration {
        if self.grace > 0 && pass < 8 {
            // What ends before its grace period is over should not keep the namespace until then.
            return Duration::from_secs(1 << pass.min(3))
                .min(Duration::from_secs(self.grace.unsigned_abs() + 1));
        }
        Duration::from_secs(1 << pass.min(5))
    }

    /// The conditions of the status.
    pub fn conditions(&self, now: &Time) -> Vec<NamespaceCondition> {
        let of = |type_: &str, trouble: Option<(&str, String)>, well: (&str, &str)| {
            let status = if trouble.is_some() { "True" } else { "False" };
            let (reason, message) = trouble.unwrap_or((well.0, well.1.to_owned()));
            NamespaceCondition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message),
                last_transition_time: Some(now.clone()),
            }
        };
        let undiscovered = self.undiscovered.as_ref();
        let failed = (!self.failures.is_empty()).then(|| self.failures.join(", "));
        vec![
            of(
                "NamespaceDeletionDiscoveryFailure",
                undiscovered
                    .map(|why| ("DiscoveryFailed", format!("Discovery failed for some groups: {why}"))),
                ("ResourcesDiscovered", "All resources successfully discovered"),
            ),
            of(
                "NamespaceDeletionGroupVersionParsingFailure",
                None,
                ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
            ),
            of(
                "NamespaceDeletionContentFailure",
                failed.map(|why| {
                    ("ContentDeletionFailed", format!("Failed to delete all resource types: {why}"))
                }),
                ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
            ),
            of(
                "NamespaceContentRemaining",
                self.content(),
                ("ContentRemoved", "All content successfully removed"),
            ),
            of(
                "NamespaceFinalizersRemaining",
                self.held(),
                ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
            ),
        ]
    }

    /// Which objects are left.
    fn content(&self) -> Option<(&'static str, String)> {
        let counted = |(name, count): (&String, &usize)| format!("{name} has {count} resource instances");
        let list: Vec<String> = self.objects.iter().map(counted).collect();
        (!list.is_empty())
            .then(|| ("SomeResourcesRemain", format!("Some resources are remaining: {}", list.join(", "))))
    }

    /// Which finalizers hold them.
    fn held(&self) -> Option<(&'static str, String)> {
        let counted = |(name, count): (&String, &usize)| format!("{name} in {count} resource instances");
        let list: Vec<String> = self.finalizers.iter().map(counted).collect();
        let message =
            || format!("Some content in the namespace has finalizers remaining: {}", list.join(", "));
        (!list.is_empty()).then(|| ("SomeFinalizersRemain", message()))
    }
}

/// Merges conditions into those recorded; `None` when that changes nothing but times.
pub fn merge(old: &[NamespaceCondition], new: Vec<NamespaceCondition>) -> Option<Vec<NamespaceCondition>> {
    let mut merged = old.to_vec();
    let mut changed = false;
    for condition in new {
        match merged.iter_mut().find(|known| known.type_ == condition.type_) {
            Some(known) if known.status == condition.status && known.message == condition.message => {}
            Some(known) => {
                let kept = known.last_transition_time.clone().filter(|_| known.status == condition.status);
                let last_transition_time = kept.or_else(|| condition.last_transition_time.clone());
                *known = NamespaceCondition { last_transition_time, ..condition };
                changed = true;
            }
            None => {
                merged.push(condition);
                changed = true;
            }
        }
    }
    changed.then_some(merged)
}
