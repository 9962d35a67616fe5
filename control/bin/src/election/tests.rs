//! Candidates over an API server in this process, on a store in memory and in paused time.

use std::sync::Arc;
use std::time::SystemTime;

use skep_server::gate::GateConfig;
use skep_server::pki::{Pki, ServingNames};
use skep_server::streams::NodeClient;
use skep_server::tokens::Keys;
use skep_server::user::UserInfo;
use skep_server::{ApiServer, ServerConfig, in_process};
use skep_store::memory::MemoryStore;
use tokio::sync::mpsc;

use super::*;

/// A client that may do what upstream's roles give the scheduler.
async fn client(folder: &tempfile::TempDir) -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let pki = Pki::open(folder.path(), ServingNames::default(), SystemTime::now()).unwrap();
    let keys = Keys::from_pem(&pki.token_key_pem().unwrap(), "").unwrap();
    let nodes = NodeClient::new(&pki.ca_pem().unwrap(), &pki.kubelet_client().unwrap()).unwrap();
    let networks = vec!["10.96.0.0/24".parse().unwrap()];
    let config = ServerConfig::new(GateConfig::new(keys, nodes), "172.30.0.1".parse().unwrap(), networks);
    let server = ApiServer::new(Arc::new(MemoryStore::new()), config).await.unwrap();
    Client::new(in_process::service(&server, UserInfo::new("system:kube-scheduler", &[])), "default")
}

type Outcome = tokio::task::JoinHandle<anyhow::Result<()>>;

/// A candidate at work: says when it leads, leads until stopped.
fn start(
    client: &Client,
    identity: &'static str,
    told: &mpsc::UnboundedSender<&'static str>,
) -> (Outcome, CancellationToken) {
    let (stop, told) = (CancellationToken::new(), told.clone());
    let candidate = Candidate::named(client.clone(), SCHEDULER, identity.to_owned());
    let work = move |stop: CancellationToken| async move {
        told.send(identity).unwrap();
        stop.cancelled().await;
        Ok(())
    };
    (tokio::spawn(candidate.lead(stop.clone(), work)), stop)
}

#[tokio::test(start_paused = true)]
async fn second_candidate_leads_once_the_first_gives_the_lease_back() {
    let folder = tempfile::tempdir().unwrap();
    let client = client(&folder).await;
    let (told, mut leaders) = mpsc::unbounded_channel();
    let (first, stop_first) = start(&client, "first", &told);
    assert_eq!(leaders.recv().await, Some("first"));
    let (second, stop_second) = start(&client, "second", &told);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(leaders.try_recv().is_err(), "the first one renews, the second waits");
    stop_first.cancel();
    first.await.unwrap().unwrap();
    let begun = Instant::now();
    assert_eq!(leaders.recv().await, Some("second"));
    assert!(begun.elapsed() <= plan::RETRY * 2, "a released lease is not waited for: {:?}", begun.elapsed());
    stop_second.cancel();
    second.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn leader_whose_lease_was_taken_ends_with_an_error_and_leaves_it() {
    let folder = tempfile::tempdir().unwrap();
    let client = client(&folder).await;
    let (told, mut leaders) = mpsc::unbounded_channel();
    let (first, _stop) = start(&client, "first", &told);
    assert_eq!(leaders.recv().await, Some("first"));
    let api: Api<Lease> = Api::namespaced(client, "kube-system");
    let mut lease = api.get(SCHEDULER).await.unwrap();
    lease.spec.as_mut().unwrap().holder_identity = Some("thief".to_owned());
    api.replace(SCHEDULER, &PostParams::default(), &lease).await.unwrap();
    let error = first.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("lost the lease kube-scheduler"), "{error}");
    let holder = api.get(SCHEDULER).await.unwrap().spec.unwrap().holder_identity;
    assert_eq!(holder.as_deref(), Some("thief"));
}

#[tokio::test(start_paused = true)]
async fn lease_of_a_leader_that_vanished_is_taken_after_its_duration() {
    let folder = tempfile::tempdir().unwrap();
    let client = client(&folder).await;
    let (told, mut leaders) = mpsc::unbounded_channel();
    let (first, _stop) = start(&client, "first", &told);
    assert_eq!(leaders.recv().await, Some("first"));
    first.abort();
    let begun = Instant::now();
    let (_second, _stop) = start(&client, "second", &told);
    assert_eq!(leaders.recv().await, Some("second"));
    let waited = begun.elapsed();
    assert!(waited >= plan::DURATION && waited < plan::DURATION + plan::RETRY * 2, "{waited:?}");
}
