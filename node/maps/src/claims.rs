//! Who holds a frontend that several services ask for: two Services may name the same external address and port.
//!
//! The oldest service holds it (then the first by name), so that a newcomer cannot take traffic away, and the outcome
//! does not depend on the order of events or on a restart. Those that wait get it when the holder lets go.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use skep_abi::service::ServiceValue;

use crate::difference::Difference;
use crate::frontend::{Frontend, address_bit};
use crate::room::PerFamily;

/// A service port's standing in a conflict; the smaller one holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Creation of the service.
    pub created: i64,
    /// Its name.
    pub owner: Arc<str>,
    /// The port's name.
    pub port: Arc<str>,
}

/// The installed frontends and those that wait for one.
#[derive(Debug, Default)]
pub struct Claims {
    held: HashMap<Frontend, (Rank, ServiceValue)>,
    counts: PerFamily,
    // Only for frontends in conflict.
    waiting: HashMap<Frontend, BTreeMap<Rank, ServiceValue>>,
}

impl Claims {
    /// Takes note of an entry that is in the kernel already.
    pub fn adopt(&mut self, frontend: Frontend, rank: Rank, value: ServiceValue) {
        if self.held.insert(frontend, (rank, value)).is_none() {
            *self.counts.of(frontend.address.is_ipv4()) += 1;
        }
    }

    /// Asks for `frontend` with `value`, or changes the value asked for. False when another service holds it.
    pub fn set(
        &mut self,
        frontend: Frontend,
        rank: &Rank,
        value: ServiceValue,
        out: &mut Difference,
    ) -> bool {
        match self.held.get_mut(&frontend) {
            None => {
                self.held.insert(frontend, (rank.clone(), value));
                *self.counts.of(frontend.address.is_ipv4()) += 1;
                out.services.insert(frontend, Some(value));
                out.bits.extend(frontend.bit());
                out.bits.extend(address_bit(frontend.address, value.kind));
                true
            }
            Some((holder, held)) if *holder >= *rank => {
                let displaced = (holder != rank).then(|| (holder.clone(), *held));
                if *held != value {
                    out.services.insert(frontend, Some(value));
                }
                (*holder, *held) = (rank.clone(), value);
                if let Some((loser, value)) = displaced {
                    let queue = self.waiting.entry(frontend).or_default();
                    queue.remove(rank);
                    queue.insert(loser, value);
                }
                true
            }
            Some(_) => {
                self.waiting.entry(frontend).or_default().insert(rank.clone(), value);
                false
            }
        }
    }

    /// Lets go of `frontend`, or stops waiting for it.
    pub fn release(&mut self, frontend: Frontend, rank: &Rank, out: &mut Difference) {
        if self.held.get(&frontend).is_some_and(|(holder, _)| holder == rank) {
            self.held.remove(&frontend);
            match self.waiting.get_mut(&frontend).and_then(BTreeMap::pop_first) {
                Some((next, value)) => {
                    self.held.insert(frontend, (next, value));
                    out.services.insert(frontend, Some(value));
                }
                None => {
                    *self.counts.of(frontend.address.is_ipv4()) -= 1;
                    out.services.insert(frontend, None);
                }
            }
        } else if let Some(queue) = self.waiting.get_mut(&frontend) {
            queue.remove(rank);
        }
        if self.waiting.get(&frontend).is_some_and(BTreeMap::is_empty) {
            self.waiting.remove(&frontend);
        }
    }

    /// What is installed at `frontend`, and for whom.
    pub fn held(&self, frontend: &Frontend) -> Option<&(Rank, ServiceValue)> {
        self.held.get(frontend)
    }

    /// Whether `frontend` is installed and nobody waits for it.
    pub fn goes_with_its_holder(&self, frontend: &Frontend) -> bool {
        self.held.contains_key(frontend) && !self.waiting.contains_key(frontend)
    }

    /// How many frontends of each family are installed.
    pub fn counts(&self) -> PerFamily {
        self.counts
    }

    /// How many frontends are installed.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// True when none is.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The installed frontends.
    pub fn frontends(&self) -> impl Iterator<Item = &Frontend> {
        self.held.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(created: i64, owner: &str) -> Rank {
        Rank { created, owner: owner.into(), port: "p".into() }
    }

    fn value(id: u32) -> ServiceValue {
        ServiceValue { id, ..ServiceValue::default() }
    }

    #[test]
    fn claims_conflict_oldest_holds_and_next_inherits() {
        let frontend = Frontend {
            address: "192.0.2.1".parse().unwrap(),
            port: 80,
            protocol: 6,
            scope: crate::Scope::Internal,
        };
        let mut claims = Claims::default();
        let mut step = |act: &mut dyn FnMut(&mut Claims, &mut Difference)| {
            let mut out = Difference::default();
            act(&mut claims, &mut out);
            out.services.get(&frontend).copied()
        };
        assert_eq!(
            step(&mut |c, o| assert!(c.set(frontend, &rank(5, "b"), value(5), o))),
            Some(Some(value(5)))
        );
        assert_eq!(step(&mut |c, o| assert!(!c.set(frontend, &rank(9, "a"), value(9), o))), None);
        assert_eq!(
            step(&mut |c, o| assert!(c.set(frontend, &rank(1, "c"), value(1), o))),
            Some(Some(value(1)))
        );
        assert_eq!(step(&mut |c, o| c.release(frontend, &rank(9, "a"), o)), None);
        assert_eq!(step(&mut |c, o| c.release(frontend, &rank(1, "c"), o)), Some(Some(value(5))));
        assert_eq!(step(&mut |c, o| assert!(c.set(frontend, &rank(5, "b"), value(5), o))), None);
        assert_eq!(step(&mut |c, o| c.release(frontend, &rank(5, "b"), o)), Some(None));
        assert!(claims.is_empty() && claims.waiting.is_empty());
    }
}
