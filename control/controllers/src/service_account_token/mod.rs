//! Token controller: a Secret of the type `kubernetes.io/service-account-token` holds a token of its account that does not
//! expire, the cluster's authority and its namespace. It goes with its account.
//!
//! Watches those Secrets and service accounts, writes and deletes the Secrets. Accounts do not get such Secrets by
//! themselves any more; somebody makes one who needs it. Acts as the controller manager itself, as upstream's does. What
//! signs the tokens is given to it; without that it is not started.

mod plan;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};

use crate::error::{During, Result};
use crate::informers::Informers;
use crate::runtime::key::ObjectKey;
use crate::runtime::queue::Queue;
use crate::runtime::worker::{Reconcile, Requeue};
use crate::{Context, SHARED_IDENTITY};

/// Signs the token in a Secret of an account.
pub type TokenSigner = Arc<dyn Fn(&TokenOf<'_>) -> std::result::Result<String, String> + Send + Sync>;

/// What a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenOf<'a> {
    /// The namespace of both.
    pub namespace: &'a str,
    /// The account.
    pub account: &'a str,
    /// Its uid.
    pub uid: &'a str,
    /// The Secret.
    pub secret: &'a str,
}

/// The controller.
pub struct AccountTokens {
    queue: Queue<ObjectKey>,
    informers: Informers,
    client: Client,
    certificate: String,
    sign: TokenSigner,
}

impl AccountTokens {
    /// Registers with the watches. `certificate` is the CA in PEM.
    pub fn new(context: &mut Context<'_>, certificate: String, sign: TokenSigner) -> Self {
        let (client, _) = context.identity(SHARED_IDENTITY);
        let queue: Queue<ObjectKey> = Queue::default();
        let informers = context.informers.clone();
        let to = queue.clone();
        informers.account_tokens.on_change(move |change| to.add(ObjectKey::of(&change.object().metadata)));
        let (to, tokens) = (queue.clone(), informers.account_tokens.clone());
        informers.service_accounts.on_change(move |change| {
            let account = &change.object().metadata;
            let secrets = tokens.namespace(account.namespace.as_deref().unwrap_or_default());
            let own = secrets.iter().filter(|secret| plan::account_of(secret) == account.name.as_deref());
            own.for_each(|secret| to.add(ObjectKey::of(&secret.metadata)));
        });
        Self { queue, informers, client, certificate, sign }
    }
}

impl Reconcile for AccountTokens {
    const NAME: &'static str = "serviceaccount-token-controller";
    const WORKERS: usize = 2;

    fn queue(&self) -> &Queue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue> {
        let Some(secret) = self.informers.account_tokens.get(&key) else { return Ok(Requeue::Done) };
        let Some(account) = plan::account_of(&secret) else { return Ok(Requeue::Done) };
        let account = self.informers.service_accounts.get(&ObjectKey::new(&key.namespace, account));
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &key.namespace);
        let written = match plan::step(&secret, account.as_deref(), &self.certificate, &self.sign) {
            Ok(plan::Step::Leave) => return Ok(Requeue::Done),
            Ok(plan::Step::Delete) => {
                let preconditions =
                    Some(Preconditions { uid: secret.metadata.uid.clone(), resource_version: None });
                let how = DeleteParams { preconditions, ..DeleteParams::default() };
                api.delete(&key.name, &how).await.map(drop).during("delete secret", &key)
            }
            Ok(plan::Step::Write(secret)) => {
                let how = PostParams::default();
                api.replace(&key.name, &how, &secret).await.map(drop).during("update secret", &key)
            }
            Err(why) => {
                tracing::error!(secret = %key, why, "cannot sign a token");
                return Ok(Requeue::Done);
            }
        };
        match written {
            // The watch tells of whoever was faster.
            Err(error) if !error.is_conflict() && !error.is_not_found() => Err(error),
            _ => Ok(Requeue::Done),
        }
    }
}
