//! What the node has promised to its pods, so that it promises no more than it has.
//!
//! Owns the sums and the order in which pods that wait for room are told that some came free.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::spec::resources::Needs;
use crate::worker::Message;

/// Thousandths of a processor and bytes of memory.
type Amounts = (i64, i64);

/// The promises of one node.
#[derive(Debug)]
pub struct Claims {
    capacity: Amounts,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    promised: HashMap<String, Amounts>,
    waiting: HashMap<String, mpsc::UnboundedSender<Message>>,
}

impl Claims {
    /// Of a node with that much for pods.
    pub fn new(capacity: Amounts) -> Self {
        Self { capacity, state: Mutex::default() }
    }

    /// Takes note of a pod that was bound to the node: whether there was room for it was the scheduler's question.
    pub fn enter(&self, uid: &str, needs: &Needs) {
        self.state.lock().promised.insert(uid.to_owned(), amounts(needs));
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
        let others = state.promised.iter().filter(|(other, _)| *other != uid);
        let used = others
            .fold((0_i64, 0_i64), |sum, (_, one)| (sum.0.saturating_add(one.0), sum.1.saturating_add(one.1)));
        let wanted = amounts(needs);
        let before = state.promised.get(uid).copied().unwrap_or_default();
        for (resource, wanted, before, used, capacity) in [
            ("cpu", wanted.0, before.0, used.0, self.capacity.0),
            ("memory", wanted.1, before.1, used.1, self.capacity.1),
        ] {
            // Less than before fits always.
            if wanted > before && used.saturating_add(wanted) > capacity {
                state.waiting.insert(uid.to_owned(), sender.clone());
                return Err(format!(
                    "Node didn't have enough resource: {resource}, requested: {wanted}, used: {used}, \
                     capacity: {capacity}"
                ));
            }
        }
        let freed = wanted.0 < before.0 || wanted.1 < before.1;
        state.promised.insert(uid.to_owned(), wanted);
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

impl State {
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

    fn cpu(milli: i64) -> Needs {
        Needs { cpu_request: Some(milli), ..Needs::default() }
    }

    #[test]
    fn change_that_does_not_fit_is_refused_and_told_when_another_pod_leaves_or_shrinks() {
        let claims = Claims::new((1000, 100));
        let (sender, mut told) = mpsc::unbounded_channel();
        claims.enter("a", &cpu(400));
        claims.enter("b", &cpu(500));
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
        claims.enter("a", &cpu(900));
        claims.enter("b", &cpu(900));
        claims.change("a", &cpu(800), &sender).unwrap();
        assert!(claims.change("a", &cpu(850), &sender).is_err());
    }
}
