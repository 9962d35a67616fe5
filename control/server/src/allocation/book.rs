//! Who has which address and port, as the watch cache shows it, and what was chosen and is not written yet.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::ports::NodePorts;
use super::range::{self, Cidr};
use super::{Ranges, networks};
use crate::cache::{Cache, Collection, EventType, Object};
use crate::ids::Ids;

/// So many changes are read at once.
const BATCH: usize = 1024;

/// Addresses and ports of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ports: Vec<u16>,
}

/// What is in use.
#[derive(Default)]
pub(super) struct State {
    /// The cache was read up to here; nothing was read yet when there is no place.
    services: Option<u64>,
    records: Option<u64>,
    networks_at: Option<u64>,
    by_service: HashMap<Arc<str>, Held>,
    addresses: HashMap<IpAddr, Arc<str>>,
    ports: HashMap<u16, Arc<str>>,
    /// The names of IPAddresses.
    recorded: HashSet<IpAddr>,
    networks: Vec<Cidr>,
    pub(super) pending_addresses: HashSet<IpAddr>,
    pub(super) pending_ports: HashSet<u16>,
}

/// Where the book is read from.
pub(super) struct Sources {
    pub(super) cache: Arc<Cache>,
    pub(super) services: Arc<Collection>,
    pub(super) addresses: Arc<Collection>,
    pub(super) cidrs: Arc<Collection>,
}

/// Reads what changed in a collection since the last time, or all of it anew.
fn follow(
    cache: &Cache,
    collection: &Collection,
    position: &mut Option<u64>,
    mut note: impl FnMut(Option<(&Arc<str>, Option<&Object>)>),
) {
    while let Some(at) = *position {
        match collection.changes_after(at, BATCH) {
            Ok(changes) => {
                let Some(last) = changes.last() else { return };
                *position = Some(last.revision);
                for change in &changes {
                    let object = (change.kind != EventType::Deleted).then_some(&*change.object);
                    note(Some((change.object.key(), object)));
                }
            }
            Err(_) => *position = None,
        }
    }
    note(None);
    let snapshot = cache.snapshot(collection);
    for (key, object) in &snapshot.objects {
        note(Some((key, Some(object))));
    }
    *position = Some(snapshot.revision);
}

impl State {
    /// Reads what changed since the last time.
    pub(super) fn sync(&mut self, from: &Sources) {
        let mut position = self.services;
        follow(&from.cache, &from.services, &mut position, |change| match change {
            None => (self.by_service, self.addresses, self.ports) = Default::default(),
            Some((key, object)) => self.note(key, object.map(|object| super::fields::held(&object.value()))),
        });
        self.services = position;
        let mut position = self.records;
        let prefix = from.addresses.prefix().len();
        follow(&from.cache, &from.addresses, &mut position, |change| match change {
            None => self.recorded.clear(),
            Some((key, object)) => {
                let Ok(address) = key[prefix..].parse() else { return };
                match object {
                    Some(_) => self.recorded.insert(address),
                    None => self.recorded.remove(&address),
                };
            }
        });
        self.records = position;
        let generation = Some(from.cidrs.generation());
        if self.networks_at != generation {
            let snapshot = from.cache.snapshot(&from.cidrs);
            self.networks =
                snapshot.objects.values().flat_map(|object| networks::of(&object.value())).collect();
            self.networks_at = generation;
        }
    }

    fn note(&mut self, key: &Arc<str>, held: Option<Held>) {
        if let Some(before) = self.by_service.remove(key) {
            for address in before.addresses {
                if self.addresses.get(&address) == Some(key) {
                    self.addresses.remove(&address);
                }
            }
            for port in before.ports {
                if self.ports.get(&port) == Some(key) {
                    self.ports.remove(&port);
                }
            }
        }
        if let Some(held) = held {
            self.addresses.extend(held.addresses.iter().map(|address| (*address, key.clone())));
            self.ports.extend(held.ports.iter().map(|port| (*port, key.clone())));
            self.by_service.insert(key.clone(), held);
        }
    }
}

/// Why an address cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoAddress {
    /// It lies in no network of the cluster.
    Elsewhere,
    /// It is one of the addresses of a network that are not given out.
    OutOfRange(Cidr),
    /// Somebody has it.
    Taken,
}

/// The book, open at one service.
pub(super) struct Book<'a> {
    pub(super) ranges: &'a Ranges,
    pub(super) ids: &'a Ids,
    pub(super) state: &'a mut State,
    pub(super) node_ports: &'a NodePorts,
    pub(super) dry_run: bool,
    pub(super) key: &'a str,
    pub(super) owner: &'a str,
    /// What the records refused although nothing here speaks against it.
    pub(super) refused: &'a Held,
    /// What is taken for the service and not in the cache as its own.
    pub(super) new: Held,
}

impl Book<'_> {
    /// Whether the service can have this address.
    fn address_is_free(&self, address: IpAddr) -> bool {
        self.ranges.owned.get(&address).is_none_or(|owner| owner == self.owner)
            && !self.state.addresses.contains_key(&address)
            && !self.state.recorded.contains(&address)
            && !self.state.pending_addresses.contains(&address)
            && !self.refused.addresses.contains(&address)
            && !self.new.addresses.contains(&address)
    }

    pub(super) fn take_address(&mut self, address: IpAddr) -> Result<(), NoAddress> {
        if self.state.addresses.get(&address).is_some_and(|holder| **holder == *self.key) {
            return Ok(());
        }
        let around: Vec<&Cidr> = self.state.networks.iter().filter(|one| one.contains(address)).collect();
        match around.first() {
            None => return Err(NoAddress::Elsewhere),
            Some(first) if !around.iter().any(|one| one.holds(address)) => {
                return Err(NoAddress::OutOfRange(**first));
            }
            Some(_) => {}
        }
        if !self.address_is_free(address) {
            return Err(NoAddress::Taken);
        }
        self.new.addresses.push(address);
        Ok(())
    }

    /// A free address of the family, from any of the networks.
    pub(super) fn any_address(&mut self, family: &str) -> Option<IpAddr> {
        let fixed = &self.ranges.owned;
        let networks = self.state.networks.iter().filter(|network| network.family() == family);
        let found = networks.clone().find_map(|network| {
            network.pick((self.ids.random)(), |address| {
                !fixed.contains_key(&address) && self.address_is_free(address)
            })
        })?;
        self.new.addresses.push(found);
        Some(found)
    }

    /// Takes a node port for the service. One that it had is its own; of what is new, it may use a port for several
    /// protocols unless it is to be taken `once`. Nobody minds the range of what is not written.
    ///
    /// # Errors
    ///
    /// Upstream's words for why it cannot be had.
    pub(super) fn take_any_port(&mut self, number: i64, once: bool) -> Result<(), String> {
        const TAKEN: &str = "provided port is already allocated";
        let (first, last) = self.ranges.ports;
        let Some(port) = u16::try_from(number).ok().filter(|port| (first..=last).contains(port)) else {
            let why = format!(
                "provided port is not in the valid range. The range of valid ports is {first}-{last}"
            );
            return if self.dry_run { Ok(()) } else { Err(why) };
        };
        if self.state.ports.get(&port).is_some_and(|holder| **holder == *self.key) {
            return Ok(());
        }
        let free = !self.state.ports.contains_key(&port)
            && !self.state.pending_ports.contains(&port)
            && !self.refused.ports.contains(&port);
        let again = self.new.ports.contains(&port);
        if !free || again && once {
            return Err(TAKEN.to_owned());
        }
        if !again {
            self.new.ports.push(port);
        }
        Ok(())
    }

    pub(super) fn any_port(&mut self) -> Option<u16> {
        let (first, last) = self.ranges.ports;
        let found = range::pick_port(first, last, (self.ids.random)(), |port| {
            !self.state.ports.contains_key(&port)
                && !self.state.pending_ports.contains(&port)
                && !self.node_ports.has(port)
                && !self.refused.ports.contains(&port)
                && !self.new.ports.contains(&port)
        })?;
        self.new.ports.push(found);
        Some(found)
    }
}
