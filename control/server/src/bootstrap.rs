//! The objects that every cluster has, made when a server starts and they are not there: namespaces, roles, priority
//! classes, and the services of the API and of DNS. What somebody changed stays as it is, but for the endpoints of the
//! API itself, which are [`crate::endpoint`]'s; roles and bindings get what they lack.

use std::net::IpAddr;

use serde_json::{Value, json};
use skep_api::registry::registry;
use skep_api::status::Status;

use crate::aggregation::FrontProxy;
use crate::allocation::Cidr;
use crate::authz::bootstrap::bootstrap_objects;
use crate::authz::reconcile::{self, Step};
use crate::endpoint;
use crate::pki::MASTERS;
use crate::server::{StartError, dns_address};
use crate::storage::{DeleteOptions, Ownership, Part, Scope, Storage};
use crate::user::UserInfo;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

const RBAC: &str = "rbac.authorization.k8s.io";

/// Who owns what this server makes itself.
const OWNER: Ownership<'_> = Ownership::Changed("kube-apiserver");

/// Where this server is, and the network whose first address is its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own {
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) network: Cidr,
    /// Whether other servers use the same store.
    pub(crate) shared: bool,
    /// Whether there is a service for the DNS that nodes have.
    pub(crate) cluster_dns: bool,
}

struct Bootstrap<'a> {
    storage: &'a Storage,
    user: UserInfo,
}

pub(crate) async fn run(
    storage: &Storage,
    own: &Own,
    front_proxy: Option<&FrontProxy>,
) -> Result<(), StartError> {
    let one = Bootstrap { storage, user: UserInfo::new("system:apiserver", &[MASTERS]) };
    for name in NAMESPACES {
        one.ensure("", "v1", "namespaces", json!({ "metadata": { "name": name } })).await?;
    }
    for object in bootstrap_objects() {
        if object.group == RBAC {
            one.reconcile(object.resource, &object.object).await?;
        } else {
            one.ensure(object.group, object.version, object.resource, object.object).await?;
        }
    }
    if let Some(front_proxy) = front_proxy {
        tell_extensions(storage, front_proxy).await?;
    }
    one.ensure("", "v1", "services", api_service(own)).await?;
    if own.cluster_dns {
        one.ensure("", "v1", "services", dns_service(own)).await?;
    }
    if own.shared {
        // Others may be there: whoever announces itself looks.
        return Ok(());
    }
    publish(storage, &[own.address], own.port).await
}

/// Says at which addresses the API is served.
pub(crate) async fn publish(storage: &Storage, addresses: &[IpAddr], port: u16) -> Result<(), StartError> {
    let one = Bootstrap { storage, user: UserInfo::new("system:apiserver", &[MASTERS]) };
    one.replace("", "endpoints", "subsets", endpoint::endpoints(addresses, port)).await?;
    one.replace("discovery.k8s.io", "endpointslices", "endpoints", endpoint::slice(addresses, port)).await
}

/// Says whom aggregated servers may believe.
pub(crate) async fn tell_extensions(storage: &Storage, front_proxy: &FrontProxy) -> Result<(), StartError> {
    let one = Bootstrap { storage, user: UserInfo::new("system:apiserver", &[MASTERS]) };
    one.replace("", "configmaps", "data", front_proxy.authentication_config()).await
}

impl Bootstrap<'_> {
    fn scope<'a>(&'a self, group: &str, version: &str, plural: &str, object: &'a Value) -> Option<Scope<'a>> {
        let resource = registry().find(group, version, plural)?;
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        Some(Scope {
            resource,
            kinds: registry(),
            namespace,
            subresource: "",
            user: &self.user,
            dry_run: false,
            ownership: OWNER,
            asked: None,
            admitted: true,
        })
    }

    /// Creates an object unless one of its name is there.
    async fn ensure(
        &self,
        group: &str,
        version: &str,
        plural: &str,
        object: Value,
    ) -> Result<(), StartError> {
        let named = object.clone();
        let Some(scope) = self.scope(group, version, plural, &named) else { return Ok(()) };
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        if self.storage.cached(&scope, name).is_ok() {
            return Ok(());
        }
        match self.storage.create(&scope, typed(&scope, object.clone())).await {
            Err(status) if status.reason != "AlreadyExists" => Err(failed(&scope, name, status)),
            _ => Ok(()),
        }
    }

    /// Creates a role or binding, or adds what it lacks.
    async fn reconcile(&self, plural: &str, expected: &Value) -> Result<(), StartError> {
        self.ensure(RBAC, "v1", plural, expected.clone()).await?;
        let Some(scope) = self.scope(RBAC, "v1", plural, expected) else { return Ok(()) };
        let name = expected["metadata"]["name"].as_str().unwrap_or_default();
        let Ok(there) = self.storage.cached(&scope, name) else { return Ok(()) };
        match reconcile::step(&there.value(), expected) {
            Step::Leave => return Ok(()),
            Step::Update(_) => {
                let propose = |current: &Value| match reconcile::step(current, expected) {
                    Step::Update(new) => Ok(new),
                    _ => Ok(current.clone()),
                };
                let updated = self.storage.update(&scope, name, Part::Whole, &propose).await;
                updated.map_err(|status| failed(&scope, name, status))?;
            }
            Step::Recreate => {
                let deleted = self.storage.delete(&scope, name, &DeleteOptions::default()).await;
                deleted.map_err(|status| failed(&scope, name, status))?;
                self.ensure(RBAC, "v1", plural, expected.clone()).await?;
            }
        }
        tracing::info!(resource = plural, name, "brought up to date");
        Ok(())
    }

    /// Creates an object, or puts right what it says about this server.
    async fn replace(
        &self,
        group: &str,
        plural: &str,
        member: &str,
        object: Value,
    ) -> Result<(), StartError> {
        self.ensure(group, "v1", plural, object.clone()).await?;
        let named = object.clone();
        let Some(scope) = self.scope(group, "v1", plural, &named) else { return Ok(()) };
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let propose = |current: &Value| {
            let mut new = current.clone();
            for member in [member, "ports"] {
                if let Some(value) = object.get(member) {
                    new[member] = value.clone();
                }
            }
            Ok(new)
        };
        let updated = self.storage.update(&scope, name, Part::Whole, &propose).await;
        updated.map(drop).map_err(|status| failed(&scope, name, status))
    }
}

fn typed(scope: &Scope<'_>, mut object: Value) -> Value {
    object["kind"] = json!(scope.resource.kind);
    object["apiVersion"] = json!(scope.resource.group_version());
    object
}

fn failed(scope: &Scope<'_>, name: &str, source: Status) -> StartError {
    StartError::Bootstrap { object: format!("{} {name}", scope.resource.kind), source }
}

fn api_service(own: &Own) -> Value {
    json!({
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": { "component": "apiserver", "provider": "kubernetes" },
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": own.network.nth(1),
            "ipFamilies": [own.network.family()],
            "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": own.port }],
        },
    })
}

/// Every node answers for this service itself, which is why no proxy takes care of it.
fn dns_service(own: &Own) -> Value {
    json!({
        "metadata": {
            "name": "kube-dns",
            "namespace": "kube-system",
            "labels": {
                "k8s-app": "kube-dns",
                "kubernetes.io/cluster-service": "true",
                "kubernetes.io/name": "CoreDNS",
                "service.kubernetes.io/service-proxy-name": "skep-dns",
            },
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": dns_address(&own.network),
            "ipFamilies": [own.network.family()],
            "ports": [
                { "name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53 },
                { "name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53 },
            ],
        },
    })
}
