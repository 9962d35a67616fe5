//! The pods that wait for a node. Pure: whoever calls says what time it is.
//!
//! States of a pod, and how it moves:
//! - *active*: to be tried next, by priority, then by age. Popped by [`Queue::pop`] -> *in flight*.
//! - *in flight*: being tried. [`Queue::scheduled`] ends it; [`Queue::unschedulable`] -> *unschedulable*;
//!   [`Queue::failed`] -> *backing off*.
//! - *backing off*: -> *active* when its time has come.
//! - *unschedulable*: -> *active* or *backing off* on an [`Event`] that a plugin which rejected it says may
//!   help, when the pod itself changes, or after [`LONGEST_WAIT`].
//! - *gated*: its `schedulingGates` are not empty; -> *active* when they are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;

/// Back-off after the first failed attempt; doubles with each.
pub const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// Longest back-off.
pub const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// After this long an unschedulable pod is tried again whatever happened.
pub const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// What may make room for a waiting pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A node is new.
    NodeAdded,
    /// A node's labels changed.
    NodeLabels,
    /// A node's taints changed, or it was cordoned or uncordoned.
    NodeTaints,
    /// A node has another capacity.
    NodeCapacity,
    /// A pod that was on a node has ended or is gone.
    PodGone,
}

/// A pod in the queue.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The pod, as last seen.
    pub pod: Arc<Pod>,
    /// How often it was tried.
    pub attempts: u32,
}

#[derive(Debug)]
struct Entry {
    waiting: Waiting,
    place: Place,
    /// Order of arrival.
    arrival: u64,
    rejected_by: BTreeSet<&'static str>,
    backoff_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Active,
    InFlight,
    Backoff(Instant),
    Unschedulable(Instant),
    Gated,
}

/// How many pods wait in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depths {
    /// To be tried next.
    pub active: usize,
    /// Backing off.
    pub backoff: usize,
    /// Nothing fits.
    pub unschedulable: usize,
    /// Held by scheduling gates.
    pub gated: usize,
}

impl Depths {
    fn count(&mut self, place: Place, by: isize) {
        let depth = match place {
            Place::Active => &mut self.active,
            Place::Backoff(_) => &mut self.backoff,
            Place::Unschedulable(_) => &mut self.unschedulable,
            Place::Gated => &mut self.gated,
            Place::InFlight => return,
        };
        *depth = depth.saturating_add_signed(by);
    }

    fn moved(&mut self, from: &mut Place, to: Place) {
        self.count(*from, -1);
        self.count(to, 1);
        *from = to;
    }
}

/// The pods that wait, by uid.
#[derive(Debug, Default)]
pub struct Queue {
    entries: HashMap<String, Entry>,
    active: BTreeSet<(Reverse<i32>, u64, String)>,
    /// Times at which something moves by itself.
    timers: BTreeMap<(Instant, u64), String>,
    depths: Depths,
    arrivals: u64,
}

impl Queue {
    /// A pod without a node was seen: takes it in, or brings it up to date.
    pub fn apply(&mut self, pod: Arc<Pod>, now: Instant) {
        let Some(uid) = pod.metadata.uid.clone() else { return };
        let gated = is_gated(&pod);
        let Some(entry) = self.entries.get_mut(&uid) else {
            self.arrivals += 1;
            let entry = Entry {
                waiting: Waiting { pod, attempts: 0 },
                place: Place::Gated,
                arrival: self.arrivals,
                rejected_by: BTreeSet::new(),
                backoff_until: None,
            };
            self.depths.gated += 1;
            self.entries.insert(uid.clone(), entry);
            if !gated {
                self.activate(&uid);
            }
            return;
        };
        let changed = matters(&entry.waiting.pod, &pod);
        let moved = priority(&entry.waiting.pod) != priority(&pod);
        let place = entry.place;
        if moved && place == Place::Active {
            self.leave(&uid);
            if let Some(entry) = self.entries.get_mut(&uid) {
                entry.waiting.pod = pod;
            }
            self.activate(&uid);
            return;
        }
        entry.waiting.pod = pod;
        match place {
            Place::Gated if !gated => self.activate(&uid),
            Place::Unschedulable(_) if changed => self.wake(&uid, now),
            _ => {}
        }
    }

    /// The pod has a node, has ended, or is gone.
    pub fn remove(&mut self, uid: &str) {
        self.leave(uid);
        if let Some(entry) = self.entries.remove(uid) {
            self.depths.count(entry.place, -1);
        }
    }

    /// The uids of all pods in the queue.
    pub fn uids(&self) -> impl Iterator<Item = &String> {
        self.entries.keys()
    }

    /// The next pod to try.
    pub fn pop(&mut self, now: Instant) -> Option<Waiting> {
        self.promote(now);
        let (.., uid) = self.active.pop_first()?;
        let entry = self.entries.get_mut(&uid)?;
        self.depths.moved(&mut entry.place, Place::InFlight);
        entry.waiting.attempts = entry.waiting.attempts.saturating_add(1);
        Some(entry.waiting.clone())
    }

    /// A node was found and the pod is bound.
    pub fn scheduled(&mut self, uid: &str) {
        self.remove(uid);
    }

    /// No node fits; these plugins said so.
    pub fn unschedulable(&mut self, uid: &str, rejected_by: BTreeSet<&'static str>, now: Instant) {
        let Some(entry) = self.entries.get_mut(uid).filter(|entry| entry.place == Place::InFlight) else {
            return;
        };
        entry.rejected_by = rejected_by;
        entry.backoff_until = Some(now + backoff(entry.waiting.attempts));
        let until = now + LONGEST_WAIT;
        self.depths.moved(&mut entry.place, Place::Unschedulable(until));
        self.timers.insert((until, entry.arrival), uid.to_owned());
    }

    /// A node was found but binding failed.
    pub fn failed(&mut self, uid: &str, now: Instant) {
        let Some(entry) = self.entries.get_mut(uid).filter(|entry| entry.place == Place::InFlight) else {
            return;
        };
        let until = now + backoff(entry.waiting.attempts);
        self.depths.moved(&mut entry.place, Place::Backoff(until));
        self.timers.insert((until, entry.arrival), uid.to_owned());
    }

    /// Something happened; `helps` says for a plugin whether it may change its mind.
    pub fn event(&mut self, event: Event, helps: impl Fn(&str, Event) -> bool, now: Instant) {
        let stirred: Vec<String> = self
            .entries
            .iter()
            .filter(|(_, entry)| matches!(entry.place, Place::Unschedulable(_)))
            .filter(|(_, entry)| {
                entry.rejected_by.is_empty() || entry.rejected_by.iter().any(|plugin| helps(plugin, event))
            })
            .map(|(uid, _)| uid.clone())
            .collect();
        stirred.iter().for_each(|uid| self.wake(uid, now));
    }

    /// When [`Queue::pop`] may have something although nothing happened.
    pub fn next_time(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|(slot, _)| slot.0)
    }

    /// Whether a pod is to be tried now.
    pub fn is_ready(&self) -> bool {
        !self.active.is_empty()
    }

    /// How many pods wait in which way.
    pub fn depths(&self) -> Depths {
        self.depths
    }

    /// Makes pods active whose time has come.
    pub fn promote(&mut self, now: Instant) {
        while let Some((slot, _)) = self.timers.first_key_value() {
            let slot = *slot;
            if slot.0 > now {
                break;
            }
            if let Some(uid) = self.timers.remove(&slot) {
                self.activate(&uid);
            }
        }
    }

    fn activate(&mut self, uid: &str) {
        self.leave(uid);
        if let Some(entry) = self.entries.get_mut(uid) {
            self.depths.moved(&mut entry.place, Place::Active);
            self.active.insert((Reverse(priority(&entry.waiting.pod)), entry.arrival, uid.to_owned()));
        }
    }

    /// Out of the unschedulable ones, to be tried as soon as its back-off is over.
    fn wake(&mut self, uid: &str, now: Instant) {
        self.leave(uid);
        let Some(entry) = self.entries.get_mut(uid) else { return };
        match entry.backoff_until.filter(|until| *until > now) {
            Some(until) => {
                self.depths.moved(&mut entry.place, Place::Backoff(until));
                self.timers.insert((until, entry.arrival), uid.to_owned());
            }
            None => self.activate(uid),
        }
    }

    fn leave(&mut self, uid: &str) {
        let Some(entry) = self.entries.get(uid) else { return };
        match entry.place {
            Place::Active => {
                self.active.remove(&(Reverse(priority(&entry.waiting.pod)), entry.arrival, uid.to_owned()));
            }
            Place::Backoff(until) | Place::Unschedulable(until) => {
                self.timers.remove(&(until, entry.arrival));
            }
            Place::InFlight | Place::Gated => {}
        }
    }
}

fn is_gated(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.scheduling_gates.iter().flatten().next().is_some())
}

fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}

/// Whether a change of the pod may make a difference: its spec or labels, not its status.
fn matters(old: &Pod, new: &Pod) -> bool {
    old.spec != new.spec || old.metadata.labels != new.metadata.labels
}

/// The back-off after that many attempts.
pub fn backoff(attempts: u32) -> Duration {
    FIRST_BACKOFF
        .saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1).min(16)))
        .min(LONGEST_BACKOFF)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, priority: i32) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "uid": name}, "spec": {"containers": [], "priority": priority},
            }))
            .unwrap(),
        )
    }

    fn pop(queue: &mut Queue, now: Instant) -> Option<String> {
        queue.pop(now).and_then(|waiting| waiting.pod.metadata.name.clone())
    }

    fn rejected() -> BTreeSet<&'static str> {
        BTreeSet::from(["A"])
    }

    #[test]
    fn queue_higher_priority_comes_first_then_the_older() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for (name, priority) in [("old", 0), ("young", 0), ("high", 10)] {
            queue.apply(pod(name, priority), now);
        }
        let order: Vec<String> = std::iter::from_fn(|| pop(&mut queue, now)).collect();
        assert_eq!(order, ["high", "old", "young"]);
    }

    #[test]
    fn queue_unschedulable_pod_wakes_only_on_an_event_that_helps() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.apply(pod("p", 0), now);
        pop(&mut queue, now).unwrap();
        queue.unschedulable("p", rejected(), now);
        let later = now + Duration::from_secs(20);
        queue.event(Event::NodeLabels, |plugin, event| plugin == "A" && event == Event::NodeAdded, later);
        assert_eq!(pop(&mut queue, later), None);
        queue.event(Event::NodeAdded, |plugin, event| plugin == "A" && event == Event::NodeAdded, later);
        assert_eq!(pop(&mut queue, later).as_deref(), Some("p"));
    }

    #[test]
    fn queue_woken_pod_waits_for_the_end_of_its_backoff() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.apply(pod("p", 0), now);
        pop(&mut queue, now).unwrap();
        queue.unschedulable("p", rejected(), now);
        queue.event(Event::NodeAdded, |_, _| true, now);
        assert_eq!(queue.depths().backoff, 1);
        assert_eq!(pop(&mut queue, now), None);
        assert_eq!(queue.next_time(), Some(now + FIRST_BACKOFF));
        assert_eq!(pop(&mut queue, now + FIRST_BACKOFF).as_deref(), Some("p"));
    }

    #[test]
    fn queue_forgotten_unschedulable_pod_is_tried_after_the_longest_wait() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.apply(pod("p", 0), now);
        pop(&mut queue, now).unwrap();
        queue.unschedulable("p", rejected(), now);
        assert_eq!(queue.next_time(), Some(now + LONGEST_WAIT));
        assert_eq!(pop(&mut queue, now + LONGEST_WAIT).as_deref(), Some("p"));
    }

    #[test]
    fn queue_status_change_of_an_unschedulable_pod_does_not_wake_it() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.apply(pod("p", 0), now);
        pop(&mut queue, now).unwrap();
        queue.unschedulable("p", rejected(), now);
        let mut same = Pod::clone(&pod("p", 0));
        same.status.get_or_insert_default().phase = Some("Pending".into());
        queue.apply(Arc::new(same), now);
        assert_eq!(queue.depths().unschedulable, 1);
        let mut other = Pod::clone(&pod("p", 0));
        other.metadata.labels.get_or_insert_default().insert("a".into(), "b".into());
        queue.apply(Arc::new(other), now);
        assert_eq!(queue.depths().backoff, 1);
    }

    #[test]
    fn queue_gated_pod_waits_until_its_gates_are_gone() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let mut gated = Pod::clone(&pod("p", 0));
        gated.spec.as_mut().unwrap().scheduling_gates =
            Some(serde_json::from_value(json!([{"name": "example.com/wait"}])).unwrap());
        queue.apply(Arc::new(gated), now);
        assert_eq!((pop(&mut queue, now), queue.depths().gated), (None, 1));
        queue.apply(pod("p", 0), now);
        assert_eq!(pop(&mut queue, now).as_deref(), Some("p"));
    }

    #[test]
    fn queue_failed_binding_backs_off_longer_each_time() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        queue.apply(pod("p", 0), now);
        for seconds in [1, 2, 4, 8, 10, 10] {
            pop(&mut queue, now).unwrap();
            queue.failed("p", now);
            now += Duration::from_secs(seconds) - Duration::from_millis(1);
            assert_eq!(pop(&mut queue, now), None);
            now += Duration::from_millis(1);
        }
    }

    #[test]
    fn queue_pod_removed_in_flight_does_not_come_back() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.apply(pod("p", 0), now);
        pop(&mut queue, now).unwrap();
        queue.remove("p");
        queue.unschedulable("p", rejected(), now);
        assert_eq!((queue.next_time(), queue.depths()), (None, Depths::default()));
    }

    #[test]
    fn queue_priority_change_of_an_active_pod_moves_it() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.apply(pod("a", 0), now);
        queue.apply(pod("b", 0), now);
        queue.apply(pod("b", 5), now);
        assert_eq!(pop(&mut queue, now).as_deref(), Some("b"));
        assert_eq!(pop(&mut queue, now).as_deref(), Some("a"));
        assert_eq!(pop(&mut queue, now), None);
    }
}
