//! The node's Lease: renewed every ten seconds, so that the control plane knows that the node lives.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use crate::worker::Context;
use crate::{Error, describe};

const NAMESPACE: &str = "kube-node-lease";
/// Seconds after which the node is taken for lost.
const DURATION: i32 = 40;
const RENEW: Duration = Duration::from_secs(10);

/// Renews the Lease for ever.
pub(super) async fn keep(client: Client, context: Arc<Context>) {
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let nodes: Api<Node> = Api::all(client);
    let mut ticks = tokio::time::interval(RENEW);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last: Option<Lease> = None;
    loop {
        ticks.tick().await;
        match renew(&leases, &nodes, &context, last.take()).await {
            Ok(lease) => last = Some(lease),
            Err(error) => {
                context.metrics.lease_errors.inc();
                tracing::warn!(error = describe(&error), "the node's lease could not be renewed");
            }
        }
    }
}

async fn renew(
    leases: &Api<Lease>,
    nodes: &Api<Node>,
    context: &Context,
    last: Option<Lease>,
) -> Result<Lease, Error> {
    let name = &context.config.node_name;
    let fail = |error| Error::api("renew lease", name, error);
    let now = MicroTime(context.clock.now());
    // What we wrote last usually still stands; otherwise its conflict is found out, and it is read anew.
    let found = match last {
        Some(lease) => Some(lease),
        None => leases.get_opt(name).await.map_err(fail)?,
    };
    let Some(mut lease) = found else {
        let owner = nodes.get(name).await.map_err(fail)?.metadata.uid.map(|uid| OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: name.clone(),
            uid,
            ..OwnerReference::default()
        });
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(NAMESPACE.into()),
                owner_references: owner.map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            spec: Some(spec(name, now)),
        };
        return leases.create(&PostParams::default(), &lease).await.map_err(fail);
    };
    lease.spec = Some(LeaseSpec { ..spec(name, now) });
    leases.replace(name, &PostParams::default(), &lease).await.map_err(fail)
}

fn spec(name: &str, now: MicroTime) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(name.to_owned()),
        lease_duration_seconds: Some(DURATION),
        renew_time: Some(now),
        ..LeaseSpec::default()
    }
}
