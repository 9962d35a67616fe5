//! Which store, and how it is reached.

use std::sync::Arc;

use anyhow::Context;
use skep_server::pki::read_text;
use skep_store::Store;
use skep_store::etcd::{Certificate, ConnectOptions, EtcdStore, Identity, TlsOptions};
use skep_store::sqlite::{SqliteOptions, SqliteStore};

use crate::flags::ServerArguments;

/// Opens the embedded store, or connects to etcd where endpoints are given.
pub(crate) async fn open(
    arguments: &ServerArguments,
    metrics: &prometheus::Registry,
) -> anyhow::Result<Arc<dyn Store>> {
    if arguments.etcd_endpoints.is_empty() {
        let options = SqliteOptions { metrics: Some(metrics.clone()), ..SqliteOptions::default() };
        let path = arguments.data_dir.join("state.db");
        // Opening checks the file, which waits for the disk.
        let store = tokio::task::spawn_blocking(move || SqliteStore::open(path, options)).await?;
        return Ok(Arc::new(store.context("cannot open the embedded store")?));
    }
    let store = EtcdStore::connect(&arguments.etcd_endpoints, etcd_options(arguments)?).await;
    Ok(Arc::new(
        store.with_context(|| format!("cannot reach etcd at {}", arguments.etcd_endpoints.join(", ")))?,
    ))
}

fn etcd_options(arguments: &ServerArguments) -> anyhow::Result<Option<ConnectOptions>> {
    let Some(authority) = &arguments.etcd_ca else { return Ok(None) };
    let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(read_text(authority)?));
    if let (Some(certificate), Some(key)) = (&arguments.etcd_certificate, &arguments.etcd_key) {
        tls = tls.identity(Identity::from_pem(read_text(certificate)?, read_text(key)?));
    }
    Ok(Some(ConnectOptions::new().with_tls(tls)))
}
