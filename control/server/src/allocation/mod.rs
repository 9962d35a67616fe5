//! Service addresses and node ports: who has which, and free ones for those who have none.
//!
//! What is in use is read from the watch cache, so that it is right after a start and whoever wrote the services. What
//! has been chosen and is not written yet is held by a [`Reservation`], all under one lock, so that nothing is given
//! twice. An address returns when its service is gone from the cache.

mod fields;
mod range;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use skep_api::registry::Resource;
use skep_api::status::Status;

use crate::cache::{Cache, Collection, EventType};
use crate::ids::Ids;
use crate::storage::Scope;

pub use range::{Cidr, NotACidr};

/// So many changes are read at once.
const BATCH: usize = 1024;

/// The ranges and the addresses with a fixed owner.
#[derive(Clone, Debug)]
pub struct Ranges {
    /// Networks of service addresses, the first one for services that do not say which; at most one of each family.
    pub networks: Vec<Cidr>,
    /// First and last node port.
    pub ports: (u16, u16),
    /// Addresses that only one service (`namespace/name`) can have.
    pub owned: HashMap<IpAddr, String>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Held {
    addresses: Vec<IpAddr>,
    ports: Vec<u16>,
}

#[derive(Default)]
struct State {
    /// The cache was read up to here; nothing was read yet when there is no place.
    position: Option<u64>,
    by_service: HashMap<Arc<str>, Held>,
    addresses: HashMap<IpAddr, Arc<str>>,
    ports: HashMap<u16, Arc<str>>,
    pending_addresses: HashSet<IpAddr>,
    pending_ports: HashSet<u16>,
}

/// The book of service addresses and node ports.
pub(crate) struct Services {
    cache: Arc<Cache>,
    collection: Arc<Collection>,
    resource: Arc<Resource>,
    ranges: Ranges,
    ids: Ids,
    state: Arc<Mutex<State>>,
}

/// Numbers that were chosen for a service that is being written. Kept until the cache shows the write, or until it is
/// clear that there will be none; dropped, they are free again unless the cache has them in use.
#[derive(Default)]
pub(crate) struct Reservation {
    state: Option<Arc<Mutex<State>>>,
    addresses: Vec<IpAddr>,
    ports: Vec<u16>,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let Some(state) = &self.state else { return };
        let mut state = state.lock();
        for address in &self.addresses {
            state.pending_addresses.remove(address);
        }
        for port in &self.ports {
            state.pending_ports.remove(port);
        }
    }
}

impl Services {
    pub(crate) fn new(cache: Arc<Cache>, resource: Arc<Resource>, ranges: Ranges, ids: Ids) -> Option<Self> {
        let collection = cache.collection(&resource)?;
        Some(Self { cache, collection, resource, ranges, ids, state: Arc::default() })
    }

    /// Whether objects of this kind have addresses to allocate.
    pub(crate) fn concern(&self, resource: &Resource) -> bool {
        std::ptr::eq(resource, &*self.resource)
    }

    /// Fills in the addresses and ports of a service, and holds them until it is written. Of other kinds, does nothing.
    ///
    /// # Errors
    ///
    /// 422 when what the service asks for is not to be had.
    pub(crate) fn reserve(
        &self,
        scope: &Scope<'_>,
        service: &mut Value,
        old: Option<&Value>,
    ) -> Result<Reservation, Status> {
        if !self.concern(scope.resource) || !service["spec"].is_object() {
            return Ok(Reservation::default());
        }
        let name = service["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let owner = format!("{}/{name}", scope.namespace);
        let key = self.resource.store_key(Some(scope.namespace), &name);
        let mut state = self.state.lock();
        self.sync(&mut state);
        let mut book = Book {
            ranges: &self.ranges,
            ids: &self.ids,
            state: &mut state,
            key: &key,
            owner: &owner,
            new: Held::default(),
        };
        let filled = fields::fill(&mut book, service, old);
        let new = book.new;
        if let Err(errors) = filled {
            return Err(Status::invalid(&self.resource, &name, errors));
        }
        state.pending_addresses.extend(&new.addresses);
        state.pending_ports.extend(&new.ports);
        Ok(Reservation { state: Some(self.state.clone()), addresses: new.addresses, ports: new.ports })
    }

    /// Reads what changed since the last time.
    fn sync(&self, state: &mut State) {
        while let Some(position) = state.position {
            match self.collection.changes_after(position, BATCH) {
                Ok(changes) => {
                    let Some(last) = changes.last() else { return };
                    state.position = Some(last.revision);
                    for change in &changes {
                        let held =
                            (change.kind != EventType::Deleted).then(|| fields::held(change.object.value()));
                        state.note(change.object.key(), held);
                    }
                }
                Err(_) => state.position = None,
            }
        }
        let snapshot = self.cache.snapshot(&self.collection);
        (state.by_service, state.addresses, state.ports) = Default::default();
        for (key, object) in &snapshot.objects {
            state.note(key, Some(fields::held(object.value())));
        }
        state.position = Some(snapshot.revision);
    }
}

impl State {
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

/// The book, open at one service.
struct Book<'a> {
    ranges: &'a Ranges,
    ids: &'a Ids,
    state: &'a mut State,
    key: &'a str,
    owner: &'a str,
    /// What is taken for the service and not in the cache as its own.
    new: Held,
}

impl Book<'_> {
    /// Whether the service can have this address.
    fn address_is_free(&self, address: IpAddr) -> bool {
        self.ranges.owned.get(&address).is_none_or(|owner| owner == self.owner)
            && self.state.addresses.get(&address).is_none_or(|holder| **holder == *self.key)
            && !self.state.pending_addresses.contains(&address)
            && !self.new.addresses.contains(&address)
    }

    fn take_address(&mut self, address: IpAddr) -> bool {
        if self.state.addresses.get(&address).is_some_and(|holder| **holder == *self.key) {
            return true;
        }
        let free = self.address_is_free(address);
        if free {
            self.new.addresses.push(address);
        }
        free
    }

    fn any_address(&mut self, network: &Cidr) -> Option<IpAddr> {
        let fixed = &self.ranges.owned;
        let found = network.pick((self.ids.random)(), |address| {
            !fixed.contains_key(&address)
                && !self.state.addresses.contains_key(&address)
                && self.address_is_free(address)
        })?;
        self.new.addresses.push(found);
        Some(found)
    }

    fn take_port(&mut self, port: u16) -> bool {
        if self.state.ports.get(&port).is_some_and(|holder| **holder == *self.key) {
            return true;
        }
        let free = !self.state.ports.contains_key(&port) && !self.state.pending_ports.contains(&port);
        // One service may use a port for several protocols.
        if free && !self.new.ports.contains(&port) {
            self.new.ports.push(port);
        }
        free
    }

    fn any_port(&mut self) -> Option<u16> {
        let (first, last) = self.ranges.ports;
        let found = range::pick_port(first, last, (self.ids.random)(), |port| {
            !self.state.ports.contains_key(&port)
                && !self.state.pending_ports.contains(&port)
                && !self.new.ports.contains(&port)
        })?;
        self.new.ports.push(found);
        Some(found)
    }
}
