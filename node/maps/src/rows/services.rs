//! Services and backends as rows.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;
use skep_abi::backend::{BACKEND_LOCAL, Backend, BackendState, STATE_ACTIVE, STATE_DRAINING, STATE_GONE};
use skep_abi::service::{
    FLAG_AFFINITY, FLAG_ALWAYS_SNAT, FLAG_DIRECT, FLAG_DROP_WHEN_EMPTY, FLAG_HASHED, FLAG_SOURCE_RANGES,
    KIND_CLUSTER_IP, KIND_EXTERNAL_IP, KIND_HOST_PORT, KIND_LOAD_BALANCER, KIND_NODE_PORT, ServiceValue,
};

use super::{Row, endpoint};
use crate::extents::Extent;
use crate::frontend::{Frontend, from_shared, protocol_name};
use crate::prefix::Prefix;

/// One entry of the service table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceRow {
    /// Address and port that clients use.
    pub frontend: String,
    /// Protocol.
    pub protocol: String,
    /// Whose traffic it answers.
    pub scope: String,
    /// What kind of frontend.
    pub kind: &'static str,
    /// Number of the service port.
    pub id: u32,
    /// First slot of the slice.
    pub slice: u32,
    /// Slots in the slice.
    pub backends: u32,
    /// Names of the flags that are set.
    pub flags: Vec<&'static str>,
    /// Affinity time-out.
    pub affinity_seconds: u32,
    /// Clients that may open connections; empty where all may.
    pub source_ranges: Vec<String>,
}

impl Row for ServiceRow {
    const TITLES: &'static [&'static str] =
        &["FRONTEND", "PROTOCOL", "SCOPE", "KIND", "ID", "SLICE", "BACKENDS", "FLAGS", "SOURCES"];
    fn cells(&self) -> Vec<String> {
        let slice = if self.backends == 0 { "-".to_owned() } else { self.slice.to_string() };
        vec![
            self.frontend.clone(),
            self.protocol.clone(),
            self.scope.clone(),
            self.kind.to_owned(),
            self.id.to_string(),
            slice,
            self.backends.to_string(),
            if self.flags.is_empty() { "-".to_owned() } else { self.flags.join(",") },
            if self.source_ranges.is_empty() { "-".to_owned() } else { self.source_ranges.join(",") },
        ]
    }

    fn service(&self) -> Option<u32> {
        Some(self.id)
    }
}

fn kind_name(kind: u8) -> &'static str {
    match kind {
        KIND_CLUSTER_IP => "ClusterIP",
        KIND_NODE_PORT => "NodePort",
        KIND_EXTERNAL_IP => "ExternalIP",
        KIND_LOAD_BALANCER => "LoadBalancer",
        KIND_HOST_PORT => "HostPort",
        _ => "unknown",
    }
}

fn flag_names(flags: u16) -> Vec<&'static str> {
    let names = [
        (FLAG_AFFINITY, "affinity"),
        (FLAG_HASHED, "hashed"),
        (FLAG_DROP_WHEN_EMPTY, "drop-when-empty"),
        (FLAG_ALWAYS_SNAT, "always-snat"),
        (FLAG_SOURCE_RANGES, "source-ranges"),
        (FLAG_DIRECT, "direct"),
    ];
    names.into_iter().filter(|(flag, _)| flags & flag != 0).map(|(_, name)| name).collect()
}

/// The entries of the service table, sorted by frontend, with the clients that they are for.
pub fn services(entries: &[(Frontend, ServiceValue)], ranges: &[(u32, Prefix)]) -> Vec<ServiceRow> {
    let mut clients: BTreeMap<u32, BTreeSet<Prefix>> = BTreeMap::new();
    for (id, range) in ranges {
        clients.entry(*id).or_default().insert(*range);
    }
    let clients_of = |value: &ServiceValue| {
        let listed = clients.get(&value.id).filter(|_| value.flags & FLAG_SOURCE_RANGES != 0);
        listed.into_iter().flatten().map(Prefix::to_string).collect()
    };
    let sorted: BTreeMap<&Frontend, &ServiceValue> = entries.iter().map(|(f, value)| (f, value)).collect();
    let row = |(frontend, value): (&Frontend, &ServiceValue)| ServiceRow {
        frontend: endpoint(frontend.address, frontend.port),
        protocol: protocol_name(frontend.protocol),
        scope: frontend.scope.to_string(),
        kind: kind_name(value.kind),
        id: value.id,
        slice: value.slice,
        backends: value.count,
        flags: flag_names(value.flags),
        affinity_seconds: value.affinity_seconds,
        source_ranges: clients_of(value),
    };
    sorted.into_iter().map(row).collect()
}

/// One backend of a slice.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BackendRow {
    /// Number of the service port whose slice it is in.
    pub service: u32,
    /// First slot of the slice.
    pub slice: u32,
    /// Slots of the slice that are this backend's; in a Maglev table that is many.
    pub slots: usize,
    /// The backend's part of the slice, and so of new connections, from 0 to 1.
    pub share: f64,
    /// Address and port.
    pub backend: String,
    /// Protocol.
    pub protocol: String,
    /// Number of the backend.
    pub id: u32,
    /// Which life of that number.
    pub generation: u32,
    /// On this node.
    pub local: bool,
    /// Whether it may be used.
    pub state: &'static str,
}

impl Row for BackendRow {
    const TITLES: &'static [&'static str] =
        &["SERVICE", "SLICE", "SLOTS", "SHARE", "BACKEND", "PROTOCOL", "ID", "GENERATION", "LOCAL", "STATE"];
    fn cells(&self) -> Vec<String> {
        vec![
            self.service.to_string(),
            self.slice.to_string(),
            self.slots.to_string(),
            format!("{:.1}%", 100.0 * self.share),
            self.backend.clone(),
            self.protocol.clone(),
            self.id.to_string(),
            self.generation.to_string(),
            if self.local { "yes" } else { "no" }.to_owned(),
            self.state.to_owned(),
        ]
    }

    fn service(&self) -> Option<u32> {
        Some(self.service)
    }
}

/// Name of a backend's state.
pub(super) fn state_name(state: u32) -> &'static str {
    match state {
        STATE_GONE => "gone",
        STATE_ACTIVE => "active",
        STATE_DRAINING => "draining",
        _ => "unknown",
    }
}

/// The backends of every slice that an entry names, each once, in the order in which they first appear.
pub fn backends(
    entries: &[(Frontend, ServiceValue)],
    read: impl Fn(Extent) -> Vec<Backend>,
    states: &[BackendState],
) -> Vec<BackendRow> {
    let slices: BTreeMap<(u32, u32, u32), &Frontend> = entries
        .iter()
        .filter(|(_, value)| value.count > 0)
        .map(|(frontend, value)| ((value.id, value.slice, value.count), frontend))
        .collect();
    let mut rows = Vec::new();
    for ((service, start, length), frontend) in slices {
        let slots = read(Extent { start, length });
        let mut found: HashMap<Backend, (usize, usize)> = HashMap::new();
        for (at, backend) in slots.iter().enumerate() {
            found.entry(*backend).or_insert((at, 0)).1 += 1;
        }
        let mut found: Vec<_> = found.into_iter().collect();
        found.sort_by_key(|(_, (first, _))| *first);
        for (backend, (_, count)) in found {
            let state = states.get(backend.id as usize).copied().unwrap_or_default();
            let address = from_shared(backend.address, frontend.address.is_ipv4());
            rows.push(BackendRow {
                service,
                slice: start,
                slots: count,
                share: count as f64 / slots.len() as f64,
                backend: endpoint(address, backend.port.get()),
                protocol: protocol_name(frontend.protocol),
                id: backend.id,
                generation: state.generation,
                local: backend.flags & BACKEND_LOCAL != 0,
                state: state_name(state.state),
            });
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontend::{Scope, to_shared};
    use skep_abi::Be16;

    fn entry(scope: Scope) -> (Frontend, ServiceValue) {
        let frontend = Frontend { address: "172.30.0.11".parse().unwrap(), port: 30080, protocol: 6, scope };
        let value = ServiceValue {
            id: 3,
            slice: 7,
            count: 5,
            flags: FLAG_HASHED | FLAG_DROP_WHEN_EMPTY,
            kind: KIND_NODE_PORT,
            ..ServiceValue::default()
        };
        (frontend, value)
    }

    #[test]
    fn services_entry_shows_every_field() {
        let mut balancer = entry(Scope::External);
        balancer.0.address = "203.0.113.5".parse().unwrap();
        balancer.1.flags = FLAG_SOURCE_RANGES;
        let ranges = ["198.51.100.0/24", "10.0.0.0/8"].map(|text| (3, Prefix::parse(text).unwrap()));
        let mut rows = services(&[entry(Scope::Internal), entry(Scope::External), balancer], &ranges);
        assert_eq!(rows.pop().unwrap().cells()[7..], ["source-ranges", "10.0.0.0/8,198.51.100.0/24"]);
        assert_eq!(rows.iter().map(|row| row.scope.as_str()).collect::<Vec<_>>(), ["external", "internal"]);
        assert_eq!(
            rows[0].cells(),
            [
                "172.30.0.11:30080",
                "TCP",
                "external",
                "NodePort",
                "3",
                "7",
                "5",
                "hashed,drop-when-empty",
                "-"
            ]
        );
    }

    #[test]
    fn backends_shared_slice_shows_once_with_states() {
        let read = |extent: Extent| -> Vec<Backend> {
            // As in a Maglev table: one backend has more slots than the other.
            (0..extent.length)
                .map(|slot| slot % 2)
                .map(|at| Backend {
                    address: to_shared(format!("10.244.1.{}", at + 1).parse().unwrap()),
                    port: Be16::new(8080),
                    flags: if at == 0 { BACKEND_LOCAL } else { 0 },
                    id: at,
                })
                .collect()
        };
        let states = [BackendState { state: STATE_ACTIVE, generation: 4 }];
        let rows = backends(&[entry(Scope::Internal), entry(Scope::External)], read, &states);
        let cells: Vec<Vec<String>> = rows.iter().map(Row::cells).collect();
        assert_eq!(
            cells,
            [
                ["3", "7", "3", "60.0%", "10.244.1.1:8080", "TCP", "0", "4", "yes", "active"],
                ["3", "7", "2", "40.0%", "10.244.1.2:8080", "TCP", "1", "0", "no", "gone"]
            ]
        );
    }
}
