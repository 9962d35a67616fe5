//! Keeps the tables equal to what was observed: plans the services that changed, applies the difference.
//!
//! Owns the service table and the decision what to plan when. No clock, no tasks: [`crate::run`] drives it. States:
//!
//! | state | on | to |
//! |---|---|---|
//! | waiting | both kinds listed | adopting |
//! | adopting | tables read, every service planned, leftovers deleted | following |
//! | following | a service changed: it is planned | following |
//! | following | a difference could not be applied | adopting (what the kernel holds is unknown) |
//!
//! Before both kinds have been listed nothing is written: what an earlier agent left goes on working.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::Event;
use skep_abi::UDP;
use skep_maps::dataplane::adopt;
use skep_maps::table::{Fill, QUARANTINE};
use skep_maps::{Dataplane, DesiredPort, Frontend, MapsError, Owner, Table};

use crate::error::ServicesError;
use crate::host_ports::{HostPods, HostPorts, Wanted};
use crate::model::ServiceName;
use crate::plan::{NodeView, owner, plan};
use crate::state::Observed;

/// Services planned before what was planned is written: a start with a hundred thousand of them takes no more memory for
/// what is on its way than a small one.
const AT_ONCE: usize = 4096;

/// A service port in the table: its name within the service, and its id.
pub type PortId = (Arc<str>, u32);

/// What one [`Engine::sync`] did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Services that were planned, with the ports that they have now.
    pub planned: Vec<(ServiceName, Vec<PortId>)>,
    /// Entries written.
    pub written: usize,
    /// Connected UDP sockets may have to be moved: a service or host port of UDP was planned and something was written, or
    /// the tables were taken over.
    pub datagrams: bool,
    /// Services that did not fit; they are tried again.
    pub refused: usize,
    /// Frontends that one of those that were planned asks for and another holds, with the name of the one that asks.
    pub contested: Vec<(Arc<str>, Frontend)>,
    /// When to call again although nothing changes; any monotonic clock.
    pub again: Option<Duration>,
}

/// Everything between the watches and the dataplane.
pub struct Engine {
    dataplane: Arc<dyn Dataplane>,
    node: NodeView,
    observed: Observed,
    host_ports: HostPorts,
    table: Option<Table>,
    postponed: BTreeSet<ServiceName>,
}

impl Engine {
    /// An engine that has seen nothing yet.
    pub fn new(dataplane: Arc<dyn Dataplane>, node: NodeView) -> Self {
        Self {
            dataplane,
            node,
            observed: Observed::new(),
            host_ports: HostPorts::default(),
            table: None,
            postponed: BTreeSet::new(),
        }
    }

    /// Host ports are served too: nothing is written before [`Engine::set_host_pods`] says for which pods.
    pub fn await_host_pods(&mut self) {
        self.host_ports = HostPorts::awaited();
    }

    /// Takes in all pods of this node that have host ports.
    pub fn set_host_pods(&mut self, pods: HostPods) {
        self.host_ports.set_pods(pods);
    }

    /// Takes in the addresses at which host ports answer.
    pub fn set_host_addresses(&mut self, addresses: BTreeSet<IpAddr>) {
        self.host_ports.set_addresses(addresses);
    }

    /// Takes in an event of the Service watch.
    pub fn on_service(&mut self, event: Event<Service>) {
        self.observed.on_service(event);
    }

    /// Takes in an event of the EndpointSlice watch.
    pub fn on_slice(&mut self, event: Event<EndpointSlice>) {
        self.observed.on_slice(event);
    }

    /// Takes in what the plan needs to know about this node; when it differs, every service is planned again.
    pub fn set_node(&mut self, node: NodeView) {
        if self.node != node {
            tracing::info!(?node, "this node's place in the cluster");
            self.node = node;
            self.observed.touch_all();
        }
    }

    /// What was observed so far.
    pub fn observed(&self) -> &Observed {
        &self.observed
    }

    /// True once everything that the tables are made of is known.
    pub fn is_complete(&self) -> bool {
        self.observed.is_complete() && self.host_ports.is_complete()
    }

    /// Where the tables are.
    pub(crate) fn dataplane(&self) -> Arc<dyn Dataplane> {
        self.dataplane.clone()
    }

    /// How full the tables are; `None` before they are taken over.
    pub fn fill(&self) -> Option<Fill> {
        self.table.as_ref().map(Table::fill)
    }

    /// True when there is enough to write that a thread that may block should do it.
    pub fn is_bulky(&self) -> bool {
        self.table.is_none() || self.observed.dirty_count() > 64
    }

    /// Brings the tables to what was observed. `now` is any monotonic clock.
    ///
    /// # Errors
    /// [`ServicesError::Adopt`] and [`ServicesError::Apply`]; call again after a while.
    pub fn sync(&mut self, now: Duration) -> Result<Outcome, ServicesError> {
        if !self.is_complete() {
            return Ok(Outcome::default());
        }
        let adopting = self.table.is_none();
        let mut table = match self.table.take() {
            Some(table) => table,
            None => {
                self.observed.touch_all();
                self.host_ports.touch_all();
                adopt(&*self.dataplane).map_err(ServicesError::Adopt)?
            }
        };
        let quarantine = table.expire(now);
        let mut outcome = Outcome::default();
        let mut dirty = self.observed.take_dirty();
        dirty.append(&mut self.postponed);
        for (count, name) in dirty.into_iter().enumerate() {
            if count > 0 && count % AT_ONCE == 0 {
                self.write(&mut table, now, &mut outcome)?;
            }
            self.plan_one(&mut table, name, &mut outcome);
        }
        let postponed = self.plan_host_ports(&mut table, &mut outcome);
        if adopting {
            table.finish_adoption();
        }
        // Whoever held it may have been planned later, and have let go.
        outcome.contested.retain(|(owner, frontend)| table.waits_for(owner, frontend));
        for (owner, frontend) in &outcome.contested {
            tracing::warn!(%owner, %frontend, "another has this address and port");
        }
        self.write(&mut table, now, &mut outcome)?;
        // What an earlier agent wrote may not have been looked at.
        outcome.datagrams = adopting || (outcome.datagrams && outcome.written > 0);
        let retry = (!self.postponed.is_empty() || postponed).then_some(now + QUARANTINE);
        outcome.again = [quarantine, table.expire(now), retry].into_iter().flatten().min();
        self.table = Some(table);
        Ok(outcome)
    }

    /// Applies what was planned since the last time.
    fn write(&self, table: &mut Table, now: Duration, outcome: &mut Outcome) -> Result<(), ServicesError> {
        let difference = table.take_difference();
        outcome.written += difference.len();
        if !difference.is_empty() {
            self.dataplane.apply(&difference).map_err(|source| {
                // The caller drops the table: the next call adopts what the kernel holds.
                ServicesError::Apply { entries: difference.len(), source }
            })?;
        }
        table.applied(now);
        Ok(())
    }

    fn plan_one(&mut self, table: &mut Table, name: ServiceName, outcome: &mut Outcome) {
        let (owner, ports) = match self.observed.service(&name) {
            Some(service) => (owner(service), plan(service, self.observed.slices(&name), &self.node)),
            None => (Owner { name: name.to_string().into(), created: 0 }, Vec::new()),
        };
        // One that is deleted says no more what it had.
        outcome.datagrams |= if ports.is_empty() {
            table.has_frontend(&owner.name, |frontend| frontend.protocol == UDP)
        } else {
            ports.iter().any(of_udp)
        };
        match table.replace(&owner, &ports) {
            Ok(refused) => {
                outcome.contested.extend(refused.into_iter().map(|frontend| (owner.name.clone(), frontend)));
                let ports = table.ports_of(&owner.name);
                outcome.planned.push((name, ports));
            }
            Err(error) => {
                let reason: &MapsError = &error;
                tracing::error!(service = %name, error = %reason, "the service keeps its former backends");
                outcome.refused += 1;
                self.postponed.insert(name);
            }
        }
    }

    /// Plans the host ports of the pods that changed. True when some have to be tried again.
    fn plan_host_ports(&mut self, table: &mut Table, outcome: &mut Outcome) -> bool {
        let mut postponed = false;
        for (owner, wanted) in self.host_ports.take_plans() {
            let (Wanted::There(ports) | Wanted::Gone(ports)) = &wanted;
            outcome.datagrams |= ports.iter().any(of_udp);
            let result = match &wanted {
                Wanted::There(ports) => table.replace(&owner, ports),
                Wanted::Gone(before) => {
                    table.replace(&owner, before).and_then(|_| table.replace(&owner, &[]))
                }
            };
            match result {
                Ok(refused) => {
                    let refused = refused.into_iter().map(|frontend| (owner.name.clone(), frontend));
                    outcome.contested.extend(refused);
                }
                Err(error) => {
                    tracing::error!(owner = %owner.name, %error, "host ports do not fit");
                    outcome.refused += 1;
                    postponed = true;
                    self.host_ports.postpone(owner.name);
                }
            }
        }
        postponed
    }
}

fn of_udp(port: &DesiredPort) -> bool {
    port.frontends.iter().any(|frontend| frontend.frontend.protocol == UDP)
}
