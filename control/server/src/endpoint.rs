//! Where the API is served: the endpoints of the service `default/kubernetes`, which clients in the cluster use.
//!
//! A server that has its store for itself says so once, when it starts. Servers that share a store each keep a key there
//! that expires unless it is written again, under upstream's names (`/registry/masterleases/ADDRESS`), so that ours and
//! upstream's find each other; each of them then puts the endpoints right. A server that stops takes its key away; one
//! that dies is left out a little later.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};
use skep_store::{Expected, KeyValue, ListRequest, StoreError};
use tokio_util::sync::CancellationToken;

use crate::bootstrap::{self, Own};
use crate::server::StartError;
use crate::storage::Storage;

/// Where the keys of the servers lie.
const LEASES: &str = "/registry/masterleases/";
/// How often a server writes its key, and how long the key lives: upstream's figures.
const EVERY: Duration = Duration::from_secs(10);
const LIFE: Duration = Duration::from_secs(15);
/// Longest time that a server which stops spends on saying so.
const FAREWELL: Duration = Duration::from_secs(2);

/// Keeps this server among the endpoints until `stop`; then takes it away.
pub(crate) async fn announce(storage: &Storage, own: &Own, stop: &CancellationToken) {
    loop {
        if let Err(error) = renew(storage, own).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot say where the API is served");
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
    match tokio::time::timeout(FAREWELL, withdraw(storage, own)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot say that the API is no longer served here"
            );
        }
        Err(_) => tracing::warn!("saying that the API is no longer served here takes too long"),
    }
}

/// Writes this server's key, and puts the endpoints right.
async fn renew(storage: &Storage, own: &Own) -> Result<(), StartError> {
    let key = key(own.address);
    let found = storage.store.get(&key).await?.0;
    let expected = found.as_ref().map_or(Expected::Absent, |kv| Expected::Revision(kv.mod_revision));
    let value = lease(own.address, found.as_ref());
    match storage.store.put(&key, value.into(), expected, Some(LIFE)).await {
        // It has expired, or another one says the same: the next time is soon.
        Ok(_) | Err(StoreError::Conflict { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    publish(storage, own).await
}

/// Takes this server's key away, and puts the endpoints right.
async fn withdraw(storage: &Storage, own: &Own) -> Result<(), StartError> {
    let key = key(own.address);
    if let Some(found) = storage.store.get(&key).await?.0 {
        match storage.store.delete(&key, found.mod_revision).await {
            Ok(_) | Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    publish(storage, own).await
}

async fn publish(storage: &Storage, own: &Own) -> Result<(), StartError> {
    let request = ListRequest { prefix: LEASES.into(), ..ListRequest::default() };
    let servers = addresses(&storage.store.list(request).await?.items, own.address);
    // With nobody left, the last one's endpoint stays: an empty list would say no more than that.
    if servers.is_empty() { Ok(()) } else { bootstrap::publish(storage, &servers, own.port).await }
}

fn key(address: IpAddr) -> String {
    format!("{LEASES}{address}")
}

/// What a key says, as upstream writes it; something in it changes every time.
fn lease(address: IpAddr, old: Option<&KeyValue>) -> String {
    let old: Value = old.and_then(|kv| serde_json::from_slice(&kv.value).ok()).unwrap_or_default();
    let generation = old["metadata"]["generation"].as_i64().unwrap_or_default().saturating_add(1);
    json!({
        "kind": "Endpoints",
        "apiVersion": "v1",
        "metadata": { "generation": generation },
        "subsets": [{ "addresses": [{ "ip": address }] }],
    })
    .to_string()
}

/// The addresses that keys name, in order; those of `own`'s family.
fn addresses(leases: &[KeyValue], own: IpAddr) -> Vec<IpAddr> {
    let address = |kv: &KeyValue| -> Option<IpAddr> {
        let lease: Value = serde_json::from_slice(&kv.value).ok()?;
        lease["subsets"][0]["addresses"][0]["ip"].as_str()?.parse().ok()
    };
    let mut all: Vec<IpAddr> =
        leases.iter().filter_map(address).filter(|one| one.is_ipv4() == own.is_ipv4()).collect();
    all.sort();
    all.dedup();
    all
}

/// The object `default/kubernetes` that says so in the old form,
pub(crate) fn endpoints(addresses: &[IpAddr], port: u16) -> Value {
    let addresses: Vec<Value> = addresses.iter().map(|address| json!({ "ip": address })).collect();
    json!({
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" },
        },
        "subsets": [{
            "addresses": addresses,
            "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
        }],
    })
}

/// and the one that says so in the new form.
pub(crate) fn slice(addresses: &[IpAddr], port: u16) -> Value {
    let family = if addresses.iter().all(IpAddr::is_ipv4) { "IPv4" } else { "IPv6" };
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|address| json!({ "addresses": [address], "conditions": { "ready": true } }))
        .collect();
    json!({
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": { "kubernetes.io/service-name": "kubernetes" },
        },
        "addressType": family,
        "endpoints": endpoints,
        "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
    })
}

#[cfg(test)]
mod tests {
    use skep_store::Revision;

    use super::*;

    fn kept(address: &str, value: String) -> KeyValue {
        let key = key(address.parse().unwrap());
        let value = value.into();
        KeyValue { key, value, create_revision: Revision(1), mod_revision: Revision(1) }
    }

    #[test]
    fn lease_changes_each_time_and_names_its_server() {
        let own = "192.0.2.7".parse().unwrap();
        let first = kept("192.0.2.7", lease(own, None));
        let upstream = r#"{"apiVersion":"v1","kind":"Endpoints","metadata":{"generation":1},"subsets":[{"addresses":[{"ip":"192.0.2.7"}]}]}"#;
        let parse = |text: &[u8]| serde_json::from_slice::<Value>(text).unwrap();
        assert_eq!(parse(&first.value), parse(upstream.as_bytes()));
        let second = kept("192.0.2.7", lease(own, Some(&first)));
        assert_ne!(first.value, second.value);
        assert_eq!(addresses(&[second], own), [own]);
    }

    #[test]
    fn addresses_are_in_order_of_one_family_and_nothing_else() {
        let [a, b, c] = ["192.0.2.10", "192.0.2.9", "2001:db8::1"];
        let lease_of = |address: &str| kept(address, lease(address.parse().unwrap(), None));
        let leases = [lease_of(a), lease_of(b), lease_of(c), kept(a, "{}".into()), kept(a, "rubbish".into())];
        let found = |own: &str| addresses(&leases, own.parse().unwrap());
        assert_eq!(found("192.0.2.1"), [b, a].map(|one| one.parse::<IpAddr>().unwrap()));
        assert_eq!(found("::1"), [c].map(|one| one.parse::<IpAddr>().unwrap()));
    }
}
