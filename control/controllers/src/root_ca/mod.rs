//! Root CA publisher: every namespace has the ConfigMap `kube-root-ca.crt`, from which pods learn to trust
//! the API server.
//!
//! Watches namespaces and those ConfigMaps. Creates them, and puts them right when changed. A namespace that
//! is going away gets none.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Client};

use crate::Context;
use crate::error::{During, Result};
use crate::informers::Informers;
use crate::runtime::key::ObjectKey;
use crate::runtime::queue::Queue;
use crate::runtime::worker::{Reconcile, Requeue};

/// The controller's name, and its service account in kube-system.
pub const NAME: &str = "root-ca-cert-publisher";
/// The ConfigMap in every namespace.
pub const CONFIG_MAP: &str = "kube-root-ca.crt";
const FILE: &str = "ca.crt";
const DESCRIPTION: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as \
     the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of \
     Kubernetes clusters.",
);

/// The publisher.
pub struct RootCas {
    queue: Queue<ObjectKey>,
    informers: Informers,
    client: Client,
    certificate: String,
}

impl RootCas {
    /// Registers with the watches. `certificate` is the CA in PEM.
    pub fn new(context: &mut Context<'_>, certificate: String) -> Self {
        let (client, _) = context.identity(NAME);
        let queue: Queue<ObjectKey> = Queue::default();
        let informers = context.informers.clone();
        let to = queue.clone();
        informers.namespaces.on_change(move |change| to.add(ObjectKey::of(&change.object().metadata)));
        let to = queue.clone();
        informers.root_cas.on_change(move |change| {
            to.add(ObjectKey::cluster(change.object().metadata.namespace.clone().unwrap_or_default()));
        });
        Self { queue, informers, client, certificate }
    }
}

/// Whether objects may be created in the namespace.
pub(crate) fn is_active(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    namespace.metadata.deletion_timestamp.is_none() && phase != Some("Terminating")
}

/// The ConfigMap to write: `None` when the one that is there is right.
fn plan(namespace: &str, there: Option<&ConfigMap>, certificate: &str) -> Option<ConfigMap> {
    let data = BTreeMap::from([(FILE.to_owned(), certificate.to_owned())]);
    let described = |map: &ConfigMap| {
        map.metadata
            .annotations
            .as_ref()
            .is_some_and(|all| all.get(DESCRIPTION.0).is_some_and(|t| t == DESCRIPTION.1))
    };
    if there.is_some_and(|map| map.data.as_ref() == Some(&data) && described(map)) {
        return None;
    }
    let mut map = there.cloned().unwrap_or_else(|| ConfigMap {
        metadata: ObjectMeta {
            name: Some(CONFIG_MAP.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    });
    map.metadata
        .annotations
        .get_or_insert_default()
        .insert(DESCRIPTION.0.to_owned(), DESCRIPTION.1.to_owned());
    map.data = Some(data);
    Some(map)
}

impl Reconcile for RootCas {
    const NAME: &'static str = NAME;
    const WORKERS: usize = 1;

    fn queue(&self) -> &Queue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue> {
        if !self.informers.namespaces.get(&key).is_some_and(|namespace| is_active(&namespace)) {
            return Ok(Requeue::Done);
        }
        let of = ObjectKey::new(&key.name, CONFIG_MAP);
        let there = self.informers.root_cas.get(&of);
        let Some(map) = plan(&key.name, there.as_deref(), &self.certificate) else {
            return Ok(Requeue::Done);
        };
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &key.name);
        let written = match there {
            None => api.create(&PostParams::default(), &map).await.during("create configmap", &of),
            Some(_) => {
                api.replace(CONFIG_MAP, &PostParams::default(), &map).await.during("update configmap", &of)
            }
        };
        match written {
            Ok(_) => Ok(Requeue::Done),
            // The watch tells of whoever was faster.
            Err(error)
                if error.is_already_exists() || error.is_namespace_terminating() || error.is_not_found() =>
            {
                Ok(Requeue::Done)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_configmap_with_the_certificate_is_left_alone() {
        let map = plan("default", None, "PEM").unwrap();
        assert_eq!(map.data.as_ref().unwrap()[FILE], "PEM");
        assert_eq!(plan("default", Some(&map), "PEM"), None);
    }

    #[test]
    fn plan_configmap_that_was_changed_is_put_right_and_keeps_its_version() {
        let mut map = plan("default", None, "PEM").unwrap();
        map.metadata.resource_version = Some("7".into());
        map.data = None;
        let fixed = plan("default", Some(&map), "PEM").unwrap();
        assert_eq!(fixed.metadata.resource_version.as_deref(), Some("7"));
        assert_eq!(fixed.data.unwrap()[FILE], "PEM");
    }
}
