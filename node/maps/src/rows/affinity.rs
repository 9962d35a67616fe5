//! Session affinity and map fill as rows.

use std::collections::BTreeMap;

use serde::Serialize;
use skep_abi::affinity::{Affinity, AffinityKey, CLIENT_ADDRESS};
use skep_abi::backend::BackendState;
use skep_abi::flow::TICK_SHIFT;
use skep_abi::service::ServiceValue;

use super::services::state_name;
use super::{Row, endpoint};
use crate::frontend::{Frontend, from_shared};

/// The backend that a client keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AffinityRow {
    /// Number of the service port.
    pub service: u32,
    /// The client's address, or the cookie of its network namespace.
    pub client: String,
    /// The backend.
    pub backend: String,
    /// Number of the backend.
    pub id: u32,
    /// Whether the backend may be used; `another` when its number has passed to another one.
    pub state: &'static str,
    /// Milliseconds since the client's last new connection.
    pub idle_millis: u64,
    /// The service's time-out; 0 when the service is gone or has no affinity any more.
    pub affinity_seconds: u32,
}

impl Row for AffinityRow {
    const TITLES: &'static [&'static str] =
        &["SERVICE", "CLIENT", "BACKEND", "ID", "STATE", "IDLE", "TIMEOUT"];
    fn cells(&self) -> Vec<String> {
        vec![
            self.service.to_string(),
            self.client.clone(),
            self.backend.clone(),
            self.id.to_string(),
            self.state.to_owned(),
            format!("{}s", self.idle_millis / 1000),
            format!("{}s", self.affinity_seconds),
        ]
    }
    fn service(&self) -> Option<u32> {
        Some(self.service)
    }
}

/// The affinity table; `now` is `CLOCK_MONOTONIC` in nanoseconds. Entries of services that are gone are shown as IPv6,
/// since nothing says what family they were.
pub fn affinity(
    entries: &[(AffinityKey, Affinity)],
    services: &[(Frontend, ServiceValue)],
    states: &[BackendState],
    now: u64,
) -> Vec<AffinityRow> {
    let known: BTreeMap<u32, (bool, u32)> = services
        .iter()
        .map(|(frontend, value)| (value.id, (frontend.address.is_ipv4(), value.affinity_seconds)))
        .collect();
    // Ticks wrap round: the difference of two does not.
    let tick = u32::try_from((now >> TICK_SHIFT) & u64::from(u32::MAX)).expect("masked to 32 bits");
    let mut rows: Vec<AffinityRow> = entries
        .iter()
        .map(|(key, value)| {
            let (v4, affinity_seconds) = known.get(&key.service).copied().unwrap_or_default();
            let backend = &value.backend;
            let state = states.get(backend.id as usize).copied().unwrap_or_default();
            let [low, high, ..] = key.client.0;
            AffinityRow {
                service: key.service,
                client: if key.kind == CLIENT_ADDRESS {
                    from_shared(key.client, v4).to_string()
                } else {
                    format!("namespace {}", u64::from(low) | u64::from(high) << 32)
                },
                backend: endpoint(from_shared(backend.address, v4), backend.port.get()),
                id: backend.id,
                state: if state.generation == value.generation { state_name(state.state) } else { "another" },
                idle_millis: (u64::from(tick.wrapping_sub(value.last_used)) << TICK_SHIFT) / 1_000_000,
                affinity_seconds,
            }
        })
        .collect();
    rows.sort_by(|a, b| (a.service, &a.client).cmp(&(b.service, &b.client)));
    rows
}

/// How full a map is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MapRow {
    /// Its name.
    pub map: &'static str,
    /// Entries in use.
    pub entries: usize,
    /// Entries that there is room for.
    pub capacity: usize,
    /// What happens when it is full: `evicts` the least recently used, or `refuses` what is new.
    pub when_full: &'static str,
}

impl Row for MapRow {
    const TITLES: &'static [&'static str] = &["MAP", "ENTRIES", "CAPACITY", "FILL", "WHEN FULL"];
    fn cells(&self) -> Vec<String> {
        vec![
            self.map.to_owned(),
            self.entries.to_string(),
            self.capacity.to_string(),
            format!("{:.1}%", 100.0 * self.entries as f64 / self.capacity.max(1) as f64),
            self.when_full.to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontend::{Scope, to_shared};
    use skep_abi::affinity::CLIENT_NAMESPACE;
    use skep_abi::backend::{Backend, STATE_ACTIVE};
    use skep_abi::{Be16, V6};

    #[test]
    fn affinity_shows_clients_of_both_kinds_and_backends_that_are_another_now() {
        let frontend =
            Frontend { address: "10.96.0.7".parse().unwrap(), port: 80, protocol: 6, scope: Scope::Internal };
        let service = ServiceValue { id: 3, affinity_seconds: 60, ..ServiceValue::default() };
        let backend = Backend {
            address: to_shared("10.244.1.2".parse().unwrap()),
            port: Be16::new(8080),
            id: 1,
            ..Backend::default()
        };
        let entry = |client: V6, kind: u32, generation: u32| {
            let value = Affinity { backend, generation, last_used: u32::MAX };
            (AffinityKey { client, service: 3, kind }, value)
        };
        let states = [BackendState::default(), BackendState { state: STATE_ACTIVE, generation: 5 }];
        let entries = [
            entry(V6([7, 1, 0, 0]), CLIENT_NAMESPACE, 4),
            entry(to_shared("192.0.2.9".parse().unwrap()), CLIENT_ADDRESS, 5),
        ];
        let now = ((u64::from(u32::MAX) + 1) + 29) << TICK_SHIFT;
        let rows = affinity(&entries, &[(frontend, service)], &states, now);
        let cells: Vec<Vec<String>> = rows.iter().map(Row::cells).collect();
        assert_eq!(
            cells,
            [
                ["3", "192.0.2.9", "10.244.1.2:8080", "1", "active", "2s", "60s"],
                ["3", "namespace 4294967303", "10.244.1.2:8080", "1", "another", "2s", "60s"]
            ]
        );
    }
}
