//! The watches that the controllers share: one per kind, however many controllers look at it.
//!
//! They run under the identity `system:kube-controller-manager`, which may list and watch every kind; each
//! controller writes under its own.

use std::fmt::Debug;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, ReplicationController,
    ResourceQuota, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use kube::runtime::watcher::Config;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bootstrap_tokens::CLUSTER_INFO;
use crate::pod::Pod;
use crate::root_ca::CONFIG_MAP;
use crate::runtime::informer::Informer;

/// The namespace that holds the nodes' heartbeats.
pub const NODE_LEASES: &str = "kube-node-lease";

/// The namespace that holds the tokens of nodes that join.
pub const TOKENS: &str = "kube-system";

/// A handle to every shared watch.
#[derive(Clone, Default)]
pub struct Informers {
    /// core/v1 Pod
    pub pods: Informer<Pod>,
    /// core/v1 Node
    pub nodes: Informer<Node>,
    /// coordination.k8s.io/v1 Lease, only those of nodes
    pub leases: Informer<Lease>,
    /// core/v1 Service
    pub services: Informer<Service>,
    /// core/v1 Endpoints
    pub endpoints: Informer<Endpoints>,
    /// discovery.k8s.io/v1 EndpointSlice
    pub endpoint_slices: Informer<EndpointSlice>,
    /// apps/v1 Deployment
    pub deployments: Informer<Deployment>,
    /// apps/v1 ReplicaSet
    pub replica_sets: Informer<ReplicaSet>,
    /// core/v1 ReplicationController
    pub replication_controllers: Informer<ReplicationController>,
    /// core/v1 Namespace
    pub namespaces: Informer<Namespace>,
    /// core/v1 ServiceAccount
    pub service_accounts: Informer<ServiceAccount>,
    /// core/v1 PersistentVolumeClaim
    pub claims: Informer<PersistentVolumeClaim>,
    /// core/v1 PersistentVolume
    pub volumes: Informer<PersistentVolume>,
    /// storage.k8s.io/v1 VolumeAttributesClass
    pub attribute_classes: Informer<VolumeAttributesClass>,
    /// core/v1 ResourceQuota
    pub resource_quotas: Informer<ResourceQuota>,
    /// networking.k8s.io/v1 ServiceCIDR
    pub service_cidrs: Informer<ServiceCIDR>,
    /// networking.k8s.io/v1 IPAddress
    pub ip_addresses: Informer<IPAddress>,
    /// core/v1 ConfigMap, only those named `kube-root-ca.crt`
    pub root_cas: Informer<ConfigMap>,
    /// rbac.authorization.k8s.io/v1 ClusterRole
    pub cluster_roles: Informer<ClusterRole>,
    /// core/v1 Secret, only tokens of service accounts
    pub account_tokens: Informer<Secret>,
    /// core/v1 Secret, only bootstrap tokens
    pub bootstrap_tokens: Informer<Secret>,
    /// certificates.k8s.io/v1 CertificateSigningRequest
    pub certificate_requests: Informer<CertificateSigningRequest>,
    /// core/v1 ConfigMap, only `kube-public/cluster-info`
    pub cluster_info: Informer<ConfigMap>,
}

impl Informers {
    /// Starts every watch. Register handlers before.
    pub fn start(&self, client: &Client, tasks: &mut JoinSet<()>, shutdown: &CancellationToken) {
        let any = Config::default;
        start(&self.pods, Api::all(client.clone()), any(), tasks, shutdown);
        start(&self.nodes, Api::all(client.clone()), any(), tasks, shutdown);
        start(&self.leases, Api::namespaced(client.clone(), NODE_LEASES), any(), tasks, shutdown);
        start(&self.services, Api::all(client.clone()), any(), tasks, shutdown);
        start(&self.endpoints, Api::all(client.clone()), any(), tasks, shutdown);
        start(&self.endpoint_slices, Api::all(client.clone()), any(), tasks, shutdown);
        start(&self.deployments, Api::all(client.clone()), any(), tasks, shutdown);
        start(&self.replica_sets, Api::all(client.clone()), any(), tasks, shutdown);
        start(&self.replication_controllers, Api::all(client.clone()), any(), tasks, shutdown);
        start(&self.namespaces, Api::all(client.clone()), any(), tasks, shutdown);
        start(&self.service_accounts, Api::all(client.clone()), any(), tasks, shutdown);
        start(&self.claims, Api::all(client.clone()), any(), tasks, shutdown);
        start(&self.volumes, Api::all(client.clone()), any(), tasks, shutdown);
        start(&self.attribute_classes, Api::all(client.clone()), any(), tasks, shutdown);
        start(&self.resource_quotas, Api::all(client.clone()), any(), tasks, shutdown);
        start(&self.service_cidrs, Api::all(client.clone()), any(), tasks, shutdown);
        start(&self.ip_addresses, Api::all(client.clone()), any(), tasks, shutdown);
        let roots = any().fields(&format!("metadata.name={CONFIG_MAP}"));
        start(&self.root_cas, Api::all(client.clone()), roots, tasks, shutdown);
        start(&self.cluster_roles, Api::all(client.clone()), any(), tasks, shutdown);
        let tokens = any().fields("type=bootstrap.kubernetes.io/token");
        start(&self.bootstrap_tokens, Api::namespaced(client.clone(), TOKENS), tokens, tasks, shutdown);
        let tokens = any().fields("type=kubernetes.io/service-account-token");
        start(&self.account_tokens, Api::all(client.clone()), tokens, tasks, shutdown);
        start(&self.certificate_requests, Api::all(client.clone()), any(), tasks, shutdown);
        let info = any().fields(&format!("metadata.name={CLUSTER_INFO}"));
        start(&self.cluster_info, Api::namespaced(client.clone(), "kube-public"), info, tasks, shutdown);
    }

    /// Waits until every cache holds a complete first list.
    pub async fn synced(&self) {
        tokio::join!(
            self.pods.synced(),
            self.nodes.synced(),
            self.leases.synced(),
            self.services.synced(),
            self.endpoints.synced(),
            self.endpoint_slices.synced(),
            self.deployments.synced(),
            self.replica_sets.synced(),
            self.replication_controllers.synced(),
            self.namespaces.synced(),
            self.service_accounts.synced(),
            self.claims.synced(),
            self.volumes.synced(),
            self.attribute_classes.synced(),
            self.resource_quotas.synced(),
            self.service_cidrs.synced(),
            self.ip_addresses.synced(),
            self.root_cas.synced(),
            self.cluster_roles.synced(),
            self.account_tokens.synced(),
            self.bootstrap_tokens.synced(),
            self.certificate_requests.synced(),
            self.cluster_info.synced(),
        );
    }
}

fn start<K>(
    informer: &Informer<K>,
    api: Api<K>,
    config: Config,
    tasks: &mut JoinSet<()>,
    shutdown: &CancellationToken,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    tasks.spawn(informer.clone().run(api, config, shutdown.clone()));
}
