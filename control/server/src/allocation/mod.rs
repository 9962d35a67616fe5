//! Service addresses and node ports: who has which, and free ones for those who have none.
//!
//! - The record of addresses is the IPAddress objects, that of node ports the `RangeAllocation` in [`ports`]: as upstream
//!   has it, so that several servers on one store, upstream's among them, give nothing twice.
//! - A number is chosen by the [`book`], which reads the watch cache and costs no request, then recorded ([`claim`]), then
//!   the service is written. Whom the record refuses chooses again.
//! - What the record has and no service, or the other way round, is put right by [`repair`].
//! - Addresses come from the ServiceCIDRs that are ready; the one of the configuration is kept by [`own_cidr`].

mod book;
mod claim;
mod fields;
mod mend;
mod networks;
mod own_cidr;
mod ports;
mod range;
mod repair;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use skep_api::registry::{Resource, registry};
use skep_api::status::Status;
use skep_store::Store;

use crate::cache::Cache;
use crate::ids::Ids;
use crate::storage::Scope;
use book::{Book, Held, Sources, State};
use fields::Refusal;

pub(crate) use ports::NodePorts;
pub use range::{Cidr, NotACidr};

const NETWORKING: &str = "networking.k8s.io";

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

/// The kinds that this is about.
struct Kinds {
    services: Arc<Resource>,
    addresses: Arc<Resource>,
    cidrs: Arc<Resource>,
    events: Arc<Resource>,
}

/// The book of service addresses and node ports.
pub(crate) struct Services {
    sources: Sources,
    kinds: Kinds,
    ranges: Ranges,
    node_ports: NodePorts,
    ids: Ids,
    state: Arc<Mutex<State>>,
}

/// Numbers that were chosen for a service that is being written. Kept until the cache shows the write, or until it is
/// clear that there will be none; dropped, they are free for the book again unless the cache has them in use.
#[derive(Default)]
pub(crate) struct Reservation {
    state: Option<Arc<Mutex<State>>>,
    held: Held,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let Some(state) = &self.state else { return };
        let mut state = state.lock();
        for address in &self.held.addresses {
            state.pending_addresses.remove(address);
        }
        for port in &self.held.ports {
            state.pending_ports.remove(port);
        }
    }
}

impl Services {
    pub(crate) fn new(store: Arc<dyn Store>, cache: Arc<Cache>, ranges: Ranges, ids: Ids) -> Option<Self> {
        let find = |group, plural| registry().find(group, "v1", plural).cloned();
        let kinds = Kinds {
            services: find("", "services")?,
            addresses: find(NETWORKING, "ipaddresses")?,
            cidrs: find(NETWORKING, "servicecidrs")?,
            events: find("events.k8s.io", "events")?,
        };
        let sources = Sources {
            services: cache.collection(&kinds.services)?,
            addresses: cache.collection(&kinds.addresses)?,
            cidrs: cache.collection(&kinds.cidrs)?,
            cache,
        };
        let node_ports = NodePorts::new(store, ranges.ports);
        Some(Self { sources, kinds, ranges, node_ports, ids, state: Arc::default() })
    }

    /// Whether objects of this kind have addresses to allocate.
    pub(crate) fn concern(&self, resource: &Resource) -> bool {
        std::ptr::eq(resource, &*self.kinds.services)
    }

    /// Fills in the addresses and ports of a service, and holds them until it is written. `refused` are those that a
    /// record did not give.
    ///
    /// # Errors
    ///
    /// 422 when what the service asks for is not to be had, 500 when there is nothing left.
    fn reserve(
        &self,
        scope: &Scope<'_>,
        service: &mut Value,
        old: Option<&Value>,
        refused: &Held,
    ) -> Result<Reservation, Status> {
        let name = service["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let owner = format!("{}/{name}", scope.namespace);
        let key = self.kinds.services.store_key(Some(scope.namespace), &name);
        let mut state = self.state.lock();
        state.sync(&self.sources);
        let mut book = Book {
            ranges: &self.ranges,
            ids: &self.ids,
            state: &mut state,
            node_ports: &self.node_ports,
            dry_run: scope.dry_run,
            key: &key,
            owner: &owner,
            refused,
            new: Held::default(),
        };
        let filled = fields::fill(&mut book, service, old);
        let held = book.new;
        filled.map_err(|refusal| match refusal {
            Refusal::Asked(errors) => Status::invalid(&self.kinds.services, &name, errors),
            Refusal::Unnamed(why) => Status::internal(why),
            Refusal::Full(what) if what.ends_with("serviceIP") => {
                Status::internal(format!("{what} for Service {name:?}: range is full"))
            }
            Refusal::Full(what) => Status::internal(format!("{what}: range is full")),
        })?;
        state.pending_addresses.extend(&held.addresses);
        state.pending_ports.extend(&held.ports);
        Ok(Reservation { state: Some(self.state.clone()), held })
    }
}
