//! Recording what a service was given, before it is written; and giving back what it has no longer.

use std::net::IpAddr;

use futures::future::{BoxFuture, join_all};
use serde_json::{Value, json};
use skep_api::registry::{Resource, registry};
use skep_api::status::Status;
use skep_store::StoreError;

use super::book::Held;
use super::range::family;
use super::{Reservation, fields};
use crate::failure;
use crate::pki::MASTERS;
use crate::storage::{DeleteOptions, Ownership, Scope, Storage};
use crate::user::UserInfo;

/// So often numbers are chosen again when the record refuses them.
const ATTEMPTS: usize = 32;
/// Who manages the IPAddresses of services, as upstream calls it.
pub(super) const MANAGER: &str = "ipallocator.k8s.io";
pub(super) const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
pub(super) const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";

/// Who writes the objects that this server keeps itself.
pub(super) fn own_user() -> UserInfo {
    UserInfo::new("system:apiserver", &[MASTERS])
}

/// What such a write is about.
pub(super) fn own_scope<'a>(resource: &'a Resource, namespace: &'a str, user: &'a UserInfo) -> Scope<'a> {
    Scope {
        resource,
        kinds: registry(),
        namespace,
        subresource: "",
        user,
        asked: None,
        admitted: true,
        dry_run: false,
        ownership: Ownership::Changed("kube-apiserver"),
    }
}

/// The IPAddress that records the address of a service.
pub(super) fn record_of(address: IpAddr, namespace: &str, name: &str) -> Value {
    json!({
        "kind": "IPAddress",
        "apiVersion": "networking.k8s.io/v1",
        "metadata": {
            "name": address.to_string(),
            "labels": { FAMILY: family(address), MANAGED_BY: MANAGER },
        },
        "spec": { "parentRef": { "resource": "services", "namespace": namespace, "name": name } },
    })
}

impl Storage {
    /// Fills in the addresses and ports that a service is to have and records them. What is returned is to be kept until
    /// the service is written, then handed to [`Storage::settle`]. Of other kinds, does nothing.
    ///
    /// # Errors
    ///
    /// 422 when what the service asks for is not to be had, 500 when there is nothing left.
    pub(crate) async fn allocate(
        &self,
        scope: &Scope<'_>,
        service: &mut Value,
        old: Option<&Value>,
    ) -> Result<Reservation, Status> {
        if !self.services.concern(scope.resource) || !service["spec"].is_object() {
            return Ok(Reservation::default());
        }
        let mut refused = Held::default();
        for _ in 0..ATTEMPTS {
            let mut filled = service.clone();
            let reservation = self.services.reserve(scope, &mut filled, old, &refused)?;
            let name = filled["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            if !scope.dry_run && !self.claim(scope.namespace, &name, &reservation.held, &mut refused).await? {
                continue;
            }
            *service = filled;
            return Ok(reservation);
        }
        Err(Status::internal(
            "cannot find an address or port that no other server gives away at the same time",
        ))
    }

    /// Records all that is held, or nothing. What is refused is added to `refused`.
    async fn claim(
        &self,
        namespace: &str,
        name: &str,
        held: &Held,
        refused: &mut Held,
    ) -> Result<bool, Status> {
        let records = held.addresses.iter().map(|address| self.record(*address, namespace, name));
        let (records, ports) = tokio::join!(join_all(records), self.services.node_ports.take(&held.ports));
        let before = (refused.addresses.len(), refused.ports.len());
        let mut given = Held::default();
        let mut failed = None;
        for (address, outcome) in held.addresses.iter().zip(records) {
            match outcome {
                Ok(()) => given.addresses.push(*address),
                Err(status) if status.reason == "AlreadyExists" => refused.addresses.push(*address),
                Err(status) => failed = Some(status),
            }
        }
        match ports {
            Ok(None) => given.ports.clone_from(&held.ports),
            Ok(Some(port)) => refused.ports.push(port),
            Err(error) => failed = Some(failure::store(error)),
        }
        if failed.is_none() && before == (refused.addresses.len(), refused.ports.len()) {
            return Ok(true);
        }
        self.give_back(namespace, name, &given).await;
        failed.map_or(Ok(false), Err)
    }

    fn record<'a>(
        &'a self,
        address: IpAddr,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let user = own_user();
            let scope = own_scope(&self.services.kinds.addresses, "", &user);
            self.create(&scope, record_of(address, namespace, name)).await.map(drop)
        })
    }

    /// The end of a reservation: the service was written, or it was not. When that is not known, what was recorded stays,
    /// and is given back by the repair when no service turns up.
    pub(crate) async fn settle<T>(
        &self,
        scope: &Scope<'_>,
        name: &str,
        reservation: Reservation,
        written: &Result<Result<T, StoreError>, Status>,
    ) {
        if !scope.dry_run && matches!(written, Err(_) | Ok(Err(StoreError::Conflict { .. }))) {
            self.give_back(scope.namespace, name, &reservation.held).await;
        }
    }

    /// Gives back what a service had that its successor has not, or all of it when it is gone.
    pub(crate) async fn release(&self, resource: &Resource, old: &Value, new: Option<&Value>) {
        if !self.services.concern(resource) {
            return;
        }
        let (mut held, kept) = (fields::held(old), new.map(fields::held).unwrap_or_default());
        held.addresses.retain(|address| !kept.addresses.contains(address));
        held.ports.retain(|port| !kept.ports.contains(port));
        let text = |member: &str| old["metadata"][member].as_str().unwrap_or_default();
        self.give_back(text("namespace"), text("name"), &held).await;
    }

    /// Takes numbers of a service out of the records. What fails is left to the repair.
    async fn give_back(&self, namespace: &str, name: &str, held: &Held) {
        let addresses = held.addresses.iter().map(|address| self.forget(*address, namespace, name));
        let (_, ports) = tokio::join!(join_all(addresses), self.services.node_ports.give_back(&held.ports));
        if let Err(error) = ports {
            tracing::warn!(%error, namespace, name, "node ports are given back later");
        }
    }

    fn forget<'a>(&'a self, address: IpAddr, namespace: &'a str, name: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let user = own_user();
            let scope = own_scope(&self.services.kinds.addresses, "", &user);
            let address = address.to_string();
            let parent = match self.cached(&scope, &address) {
                Ok(found) => found.value()["spec"]["parentRef"].clone(),
                Err(_) => return,
            };
            // The record of somebody else is not ours to take away.
            if parent["resource"] != "services" || parent["namespace"] != namespace || parent["name"] != name
            {
                return;
            }
            match self.delete(&scope, &address, &DeleteOptions::default()).await {
                Err(status) if status.code != 404 => {
                    tracing::warn!(error = %status, address, "an address is given back later");
                }
                _ => {}
            }
        })
    }
}
