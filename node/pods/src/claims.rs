//! What the node has promised to its pods, so that it promises no more than it has.
//!
//! Owns the sums, the ports of the node, whether a new pod finds its place, and the order in which pods that wait for room
//! are told that some came free. The scheduler asks the same before it binds a pod; but pods also come with a node's name in
//! them, and two schedulers may not know of each other.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::spec;
use crate::spec::resources::Needs;
use crate::worker::Message;

/// From this priority on a pod is critical: the node does not count for it what it has.
const CRITICAL: i32 = 2_000_000_000;

/// Thousandths of a processor and bytes of memory.
type Amounts = (i64, i64);

/// Why a new pod has no place on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// One word, such as `NodePorts`.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

/// What one pod was promised.
#[derive(Clone, Debug, Default)]
struct Promise {
    amounts: Amounts,
    ports: Vec<Port>,
}

/// A port of the node.
#[derive(Clone, Debug)]
struct Port {
    protocol: String,
    /// Empty for all addresses.
    address: String,
    number: i32,
}

impl Port {
    fn of_pod(pod: &Pod) -> Vec<Self> {
        let containers = pod.spec.iter().flat_map(|spec| {
            let sidecars = spec.init_containers.iter().flatten();
            let sidecars = sidecars.filter(|one| one.restart_policy.as_deref() == Some("Always"));
            spec.containers.iter().chain(sidecars)
        });
        let ports = containers.flat_map(|container| container.ports.iter().flatten());
        ports
            .filter_map(|port| {
                let address = port.host_ip.clone().unwrap_or_default();
                let everywhere = matches!(address.as_str(), "0.0.0.0" | "::");
                Some(Self {
                    protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                    address: if everywhere { String::new() } else { address },
                    number: port.host_port.filter(|port| *port > 0)?,
                })
            })
            .collect()
    }

    fn collides(&self, other: &Self) -> bool {
        let place = self.address.is_empty() || other.address.is_empty() || self.address == other.address;
        place && (self.number, &self.protocol) == (other.number, &other.protocol)
    }
}

/// The promises of one node.
#[derive(Debug)]
pub struct Claims {
    capacity: Amounts,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    promised: HashMap<String, Promise>,
    waiting: HashMap<String, mpsc::UnboundedSender<Message>>,
}

impl Claims {
    /// Of a node with that much for pods.
    pub fn new(capacity: Amounts) -> Self {
        Self { capacity, state: Mutex::default() }
    }

    /// Takes note of a pod that this node accepted before.
    pub fn enter(&self, pod: &Pod) {
        self.state.lock().promised.insert(spec::uid(pod).to_owned(), Promise::to(pod));
    }

    /// Promises a new pod what it needs.
    ///
    /// # Errors
    /// In upstream's words, that the node cannot have it.
    pub fn admit(&self, pod: &Pod) -> Result<(), Refusal> {
        let refused = |reason, why: &str| Refusal { reason, message: format!("Pod was rejected: {why}") };
        let mut state = self.state.lock();
        let promise = Promise::to(pod);
        let critical = pod.spec.as_ref().and_then(|spec| spec.priority).is_some_and(|one| one >= CRITICAL);
        if !critical && let Some((reason, why)) = state.lacks(spec::uid(pod), promise.amounts, self.capacity)
        {
            return Err(refused(reason, &why));
        }
        let taken = state.promised.values().flat_map(|other| &other.ports);
        if taken.into_iter().any(|other| promise.ports.iter().any(|port| port.collides(other))) {
            let why =
                "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
            return Err(refused("NodePorts", why));
        }
        state.promised.insert(spec::uid(pod).to_owned(), promise);
        Ok(())
    }

    /// Promises the pod `needs` instead of what it was promised before.
    ///
    /// # Errors
    /// In upstream's words, that there is no room. The pod is told through `sender` when another leaves.
    pub fn change(
        &self,
        uid: &str,
        needs: &Needs,
        sender: &mpsc::UnboundedSender<Message>,
    ) -> Result<(), String> {
        let mut state = self.state.lock();
        let wanted = amounts(needs);
        let promise = state.promised.get(uid).cloned().unwrap_or_default();
        let before = promise.amounts;
        if let Some((_, why)) = state.lacks(uid, wanted, self.capacity) {
            state.waiting.insert(uid.to_owned(), sender.clone());
            return Err(why);
        }
        let freed = wanted.0 < before.0 || wanted.1 < before.1;
        state.promised.insert(uid.to_owned(), Promise { amounts: wanted, ..promise });
        state.waiting.remove(uid);
        if freed {
            state.tell();
        }
        Ok(())
    }

    /// The pod needs nothing any more.
    pub fn leave(&self, uid: &str) {
        let mut state = self.state.lock();
        state.waiting.remove(uid);
        if state.promised.remove(uid).is_some() {
            state.tell();
        }
    }
}

impl Promise {
    fn to(pod: &Pod) -> Self {
        Self { amounts: amounts(&Needs::of_pod(pod)), ports: Port::of_pod(pod) }
    }
}

impl State {
    /// What is too little for the pod beside all others, in a word and in a sentence. Less than it had before
    /// fits always.
    fn lacks(&self, uid: &str, wanted: Amounts, capacity: Amounts) -> Option<(&'static str, String)> {
        let others = self.promised.iter().filter(|(other, _)| *other != uid).map(|(_, one)| one.amounts);
        let used = others
            .fold((0_i64, 0_i64), |sum, one| (sum.0.saturating_add(one.0), sum.1.saturating_add(one.1)));
        let before = self.promised.get(uid).map(|one| one.amounts).unwrap_or_default();
        let resources = [
            ("cpu", "OutOfcpu", wanted.0, before.0, used.0, capacity.0),
            ("memory", "OutOfmemory", wanted.1, before.1, used.1, capacity.1),
        ];
        resources.into_iter().find_map(|(resource, reason, wanted, before, used, capacity)| {
            let lacking = wanted > before && used.saturating_add(wanted) > capacity;
            lacking.then(|| {
                let why = format!(
                    "Node didn't have enough resource: {resource}, requested: {wanted}, used: {used}, \
                     capacity: {capacity}"
                );
                (reason, why)
            })
        })
    }

    fn tell(&mut self) {
        for (_, sender) in self.waiting.drain() {
            // Without a receiver that pod is gone too.
            sender.send(Message::Wake).ok();
        }
    }
}

fn amounts(needs: &Needs) -> Amounts {
    (needs.cpu_request.unwrap_or(0), needs.memory_request.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    use serde_json::{Value, json};

    fn cpu(milli: i64) -> Needs {
        Needs { cpu_request: Some(milli), ..Needs::default() }
    }

    fn pod(uid: &str, container: Value) -> Pod {
        let spec = json!({ "containers": [container] });
        serde_json::from_value(json!({ "metadata": { "name": uid, "uid": uid }, "spec": spec })).unwrap()
    }

    fn wanting(uid: &str, milli: i64) -> Pod {
        pod(uid, json!({ "name": "c", "resources": { "requests": { "cpu": format!("{milli}m") } } }))
    }

    fn listening(uid: &str, port: Value) -> Pod {
        pod(uid, json!({ "name": "c", "ports": [port] }))
    }

    #[test]
    fn pod_that_finds_no_room_is_refused_unless_it_is_critical() {
        let claims = Claims::new((1000, 100));
        claims.admit(&wanting("a", 600)).unwrap();
        let refused = claims.admit(&wanting("b", 500)).unwrap_err();
        assert_eq!(refused.reason, "OutOfcpu");
        assert_eq!(
            refused.message,
            "Pod was rejected: Node didn't have enough resource: cpu, requested: 500, used: 600, capacity: 1000"
        );
        // Who was refused was promised nothing.
        claims.admit(&wanting("c", 400)).unwrap();
        let mut critical = wanting("d", 500);
        critical.spec.as_mut().unwrap().priority = Some(2_000_001_000);
        claims.admit(&critical).unwrap();
        claims.leave("a");
        claims.leave("d");
        claims.admit(&wanting("b", 500)).unwrap();
    }

    #[test]
    fn pod_whose_port_is_taken_is_refused_until_it_is_free() {
        let claims = Claims::new((1000, 100));
        let port = |address: &str, protocol: &str| json!({ "containerPort": 80, "hostPort": 80, "hostIP": address, "protocol": protocol });
        claims.admit(&listening("a", port("", "TCP"))).unwrap();
        let refused = claims.admit(&listening("b", port("10.0.0.1", "TCP"))).unwrap_err();
        assert_eq!(refused.reason, "NodePorts");
        claims.admit(&listening("c", port("", "UDP"))).unwrap();
        claims.admit(&listening("d", json!({ "containerPort": 80 }))).unwrap();
        claims.leave("a");
        claims.admit(&listening("b", port("10.0.0.1", "TCP"))).unwrap();
        claims.admit(&listening("e", port("10.0.0.2", "TCP"))).unwrap();
        assert!(claims.admit(&listening("f", port("0.0.0.0", "TCP"))).is_err());
    }

    #[test]
    fn change_that_does_not_fit_is_refused_and_told_when_another_pod_leaves_or_shrinks() {
        let claims = Claims::new((1000, 100));
        let (sender, mut told) = mpsc::unbounded_channel();
        claims.enter(&wanting("a", 400));
        claims.enter(&wanting("b", 500));
        let refused = claims.change("a", &cpu(600), &sender).unwrap_err();
        assert_eq!(
            refused,
            "Node didn't have enough resource: cpu, requested: 600, used: 500, capacity: 1000"
        );
        assert!(told.try_recv().is_err());
        claims.change("b", &cpu(450), &sender).unwrap();
        assert!(matches!(told.try_recv(), Ok(Message::Wake)));
        assert!(claims.change("a", &cpu(600), &sender).is_err());
        claims.leave("b");
        assert!(matches!(told.try_recv(), Ok(Message::Wake)));
        claims.change("a", &cpu(1000), &sender).unwrap();
        assert!(told.try_recv().is_err());
    }

    #[test]
    fn change_to_less_is_taken_on_a_node_that_is_too_full() {
        let claims = Claims::new((1000, 100));
        let (sender, _told) = mpsc::unbounded_channel();
        claims.enter(&wanting("a", 900));
        claims.enter(&wanting("b", 900));
        claims.change("a", &cpu(800), &sender).unwrap();
        assert!(claims.change("a", &cpu(850), &sender).is_err());
    }
}
