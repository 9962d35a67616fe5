//! What a pod's worker asks of the API: a small trait, and its implementation on a kube client.
//!
//! Owns the calls and what their errors mean. Owns no retries.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, Service, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::reflector::Store;
use kube::{Api, Client};
use serde_json::Value;

use crate::Error;
use crate::references::References;
use crate::spec::env::Reference;
use crate::spec::{name, namespace, uid};

/// Contents of a ConfigMap or Secret.
pub type Data = BTreeMap<String, Vec<u8>>;

/// A token for a pod's service account.
#[derive(Clone, Debug)]
pub struct Token {
    /// The token.
    pub text: String,
    /// When it ceases to be valid.
    pub expires: Timestamp,
}

/// The part of the API that a pod's worker uses.
#[async_trait]
pub trait Cluster: Send + Sync + 'static {
    /// Writes the pod's status and returns the pod's new revision. `None` if the pod is gone.
    async fn patch_status(&self, pod: &Pod, patch: &Value) -> Result<Option<u64>, Error>;
    /// Ends the pod's deletion. Succeeds if it is gone.
    async fn delete_pod(&self, pod: &Pod) -> Result<(), Error>;
    /// Contents of an object in the pod's namespace, `None` if there is none. Its later changes wake the pod.
    async fn contents(&self, pod: &Pod, reference: &Reference) -> Result<Option<Arc<Data>>, Error>;
    /// A token bound to the pod.
    async fn token(&self, pod: &Pod, audience: Option<&str>, seconds: Option<i64>) -> Result<Token, Error>;
    /// All services. Waits until they have been listed once.
    async fn services(&self) -> Result<Vec<Arc<Service>>, Error>;
    /// The pod is gone: its objects need not be watched for it.
    fn forget(&self, pod: &Pod);
}

/// The API behind a kube client.
pub struct KubeCluster {
    client: Client,
    references: References,
    services: Store<Service>,
}

impl KubeCluster {
    /// Puts together what the agent made.
    pub(crate) fn new(client: Client, references: References, services: Store<Service>) -> Self {
        Self { client, references, services }
    }

    fn pods(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace(pod))
    }
}

/// The pod's revision; revisions grow with every change.
pub(crate) fn revision(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Whether the API says that the object does not exist.
pub(crate) fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

#[async_trait]
impl Cluster for KubeCluster {
    async fn patch_status(&self, pod: &Pod, patch: &Value) -> Result<Option<u64>, Error> {
        let parameters = PatchParams::default();
        match self.pods(pod).patch_status(name(pod), &parameters, &Patch::Strategic(patch)).await {
            Ok(pod) => Ok(Some(revision(&pod))),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(Error::api("patch status of pod", name(pod), error)),
        }
    }

    async fn delete_pod(&self, pod: &Pod) -> Result<(), Error> {
        let preconditions = Preconditions { uid: Some(uid(pod).to_owned()), resource_version: None };
        let parameters = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        let fail = |error| Error::api("delete pod", name(pod), error);
        match self.pods(pod).delete(name(pod), &parameters).await {
            Ok(_) => Ok(()),
            Err(error) if is_gone(&error) => Ok(()),
            // Perhaps another pod has the name by now; if it is still ours, this is tried again.
            Err(error) => match self.pods(pod).get_opt(name(pod)).await.map_err(fail)? {
                Some(found) if uid(&found) == uid(pod) => Err(fail(error)),
                _ => Ok(()),
            },
        }
    }

    async fn contents(&self, pod: &Pod, reference: &Reference) -> Result<Option<Arc<Data>>, Error> {
        self.references.get(uid(pod), namespace(pod), reference).await
    }

    async fn token(&self, pod: &Pod, audience: Option<&str>, seconds: Option<i64>) -> Result<Token, Error> {
        let spec = pod.spec.as_ref();
        let account = spec.and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(audience.map(str::to_owned).into_iter().collect()),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: Some(name(pod).to_owned()),
                    uid: Some(uid(pod).to_owned()),
                }),
                expiration_seconds: seconds,
            }),
            ..TokenRequest::default()
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace(pod));
        let answer = accounts.create_token_request(account, &PostParams::default(), &request).await;
        let answer =
            answer.map_err(|error| Error::api("request token of service account", account, error))?;
        let status = answer.status.unwrap_or_default();
        let (Some(text), Some(expires)) = (status.token, status.expiration_timestamp) else {
            return Err(Error::Incomplete { what: "token", name: account.to_owned() });
        };
        Ok(Token { text, expires: expires.0 })
    }

    async fn services(&self) -> Result<Vec<Arc<Service>>, Error> {
        let ready =
            tokio::time::timeout(std::time::Duration::from_secs(30), self.services.wait_until_ready());
        match ready.await {
            Ok(Ok(())) => Ok(self.services.state()),
            _ => Err(Error::Incomplete { what: "list of services", name: "all".into() }),
        }
    }

    fn forget(&self, pod: &Pod) {
        self.references.release(uid(pod));
    }
}
