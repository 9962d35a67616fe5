//! Whether the pinned maps, the object and this agent agree about every map.
//!
//! Owns the list of maps that are pinned and what makes a map what it is: type, key, value and flags. A different capacity
//! alone is kept as it is, since the programs ask the kernel for bounds. What may be taken over is [`crate::migrate`]'s.

use std::collections::BTreeMap;
use std::fmt;

use aya::maps::MapInfo;
use skep_abi::affinity::{AFFINITY, Affinity, AffinityKey};
use skep_abi::backend::{BACKEND_STATES, BACKENDS, Backend, BackendState};
use skep_abi::config::{CONFIG, Config};
use skep_abi::counters::{COUNTERS, Counter, PROGRAM_STATS, SERVICE_COUNTS, ServiceStats};
use skep_abi::earlier::SERVICE_STATS;
use skep_abi::flow::{FLOW_ENTRIES_V4, FLOW_ENTRIES_V6, Flow};
use skep_abi::fragment::{FRAGMENTS_V4, FRAGMENTS_V6, FragmentKey, FragmentPorts};
use skep_abi::fronts::FRONTS;
use skep_abi::local::{LOCAL_V4, LOCAL_V6, LocalEndpoint};
use skep_abi::ranges::{RangeKey, SOURCE_RANGES_V4, SOURCE_RANGES_V6};
use skep_abi::service::{SERVICES_V4, SERVICES_V6, ServiceKey, ServiceValue};
use skep_abi::sets::{FLOW_SETS_V4, FLOW_SETS_V6, FlowSet};
use skep_abi::socket::{
    CONNECTED_V4, CONNECTED_V6, Connected, PEERS_V4, PEERS_V6, PICKS_V4, PICKS_V6, Peer, Pick, SocketKey,
};
use skep_abi::{V4, V6};

use crate::Error;
use crate::pins::Pins;

/// Every map that is pinned: its name, and the sizes of key and value in the ABI that this agent was built with.
pub(crate) const MAPS: &[(&str, usize, usize)] = &[
    (CONFIG, 4, size_of::<Config>()),
    (SERVICES_V4, size_of::<ServiceKey<V4>>(), size_of::<ServiceValue>()),
    (SERVICES_V6, size_of::<ServiceKey<V6>>(), size_of::<ServiceValue>()),
    (SOURCE_RANGES_V4, size_of::<RangeKey<V4>>(), 4),
    (SOURCE_RANGES_V6, size_of::<RangeKey<V6>>(), 4),
    (BACKENDS, 4, size_of::<Backend>()),
    (BACKEND_STATES, 4, size_of::<BackendState>()),
    (FRONTS, 4, 8),
    (LOCAL_V4, size_of::<V4>(), size_of::<LocalEndpoint>()),
    (LOCAL_V6, size_of::<V6>(), size_of::<LocalEndpoint>()),
    (FLOW_SETS_V4, 4, size_of::<FlowSet>()),
    (FLOW_SETS_V6, 4, size_of::<FlowSet>()),
    (FLOW_ENTRIES_V4, 4, size_of::<Flow<V4>>()),
    (FLOW_ENTRIES_V6, 4, size_of::<Flow<V6>>()),
    (FRAGMENTS_V4, size_of::<FragmentKey<V4>>(), size_of::<FragmentPorts>()),
    (FRAGMENTS_V6, size_of::<FragmentKey<V6>>(), size_of::<FragmentPorts>()),
    (CONNECTED_V4, 4, size_of::<Connected<V4>>()),
    (CONNECTED_V6, 4, size_of::<Connected<V6>>()),
    (PEERS_V4, size_of::<SocketKey<V4>>(), size_of::<Peer<V4>>()),
    (PEERS_V6, size_of::<SocketKey<V6>>(), size_of::<Peer<V6>>()),
    (PICKS_V4, size_of::<SocketKey<V4>>(), size_of::<Pick<V4>>()),
    (PICKS_V6, size_of::<SocketKey<V6>>(), size_of::<Pick<V6>>()),
    (AFFINITY, size_of::<AffinityKey>(), size_of::<Affinity>()),
    (COUNTERS, 4, size_of::<Counter>()),
    (PROGRAM_STATS, 4, 8),
    (SERVICE_COUNTS, 4, size_of::<ServiceStats>()),
];

/// Maps of an earlier version that are still read where they are pinned.
pub(crate) const EARLIER: &[(&str, usize, usize)] = &[(SERVICE_STATS, 4, size_of::<ServiceStats>())];

/// What makes a map what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) kind: u32,
    pub(crate) key: u32,
    pub(crate) value: u32,
    pub(crate) flags: u32,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, key, value, flags } = self;
        write!(f, "type {kind}, {key}-byte keys, {value}-byte values and flags {flags:#x}")
    }
}

/// Every map's layout in the object, checked against the ABI.
pub(crate) fn of_object(object: &[u8]) -> Result<BTreeMap<String, Layout>, Error> {
    let parsed = aya_obj::Object::parse(object).map_err(|error| Error::Object(error.into()))?;
    let layouts: BTreeMap<String, Layout> = parsed
        .maps
        .iter()
        .map(|(name, map)| {
            let layout = Layout {
                kind: map.map_type(),
                key: map.key_size(),
                value: map.value_size(),
                flags: map.map_flags(),
            };
            (name.clone(), layout)
        })
        .collect();
    for (name, key, value) in MAPS {
        let Some(layout) = layouts.get(*name) else {
            return Err(Error::ObjectMismatch(format!("it has no map {name}")));
        };
        if (layout.key as usize, layout.value as usize) != (*key, *value) {
            let problem = format!("map {name} has {layout}, not {key}-byte keys and {value}-byte values");
            return Err(Error::ObjectMismatch(problem));
        }
    }
    Ok(layouts)
}

/// The layouts of the maps that are pinned.
pub(crate) fn pinned(pins: &Pins) -> Result<BTreeMap<&'static str, Layout>, Error> {
    let mut found = BTreeMap::new();
    for (name, _, _) in MAPS {
        let path = pins.map(name);
        if !path.exists() {
            continue;
        }
        let info = MapInfo::from_pin(&path).map_err(|error| Error::Map { map: name, source: io(error) })?;
        let layout = Layout {
            kind: info.map_type().map_or(0, |kind| kind as u32),
            key: info.key_size(),
            value: info.value_size(),
            flags: info.map_flags(),
        };
        found.insert(*name, layout);
    }
    Ok(found)
}

/// aya's map errors as I/O errors, which most of them are.
pub(crate) fn io(error: aya::maps::MapError) -> std::io::Error {
    match error {
        aya::maps::MapError::SyscallError(error) => error.io_error,
        aya::maps::MapError::IoError(error) => error,
        other => std::io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_object_of_something_else_is_refused() {
        assert!(matches!(of_object(b"#!/bin/sh"), Err(Error::Object(_))));
    }
}
