//! Which store, and how it is reached.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use skep_server::pki::read_text;
use skep_store::Store;
use skep_store::etcd::{Certificate, ConnectOptions, EtcdStore, Identity, TlsOptions};
use skep_store::sqlite::{SqliteOptions, SqliteStore};

use crate::flags::{EtcdArguments, ServerArguments};

/// The file of the embedded store.
pub(crate) fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("state.db")
}

/// Opens the embedded store, or connects to etcd where endpoints are given.
pub(crate) async fn open(
    arguments: &ServerArguments,
    metrics: &prometheus::Registry,
) -> anyhow::Result<Arc<dyn Store>> {
    if arguments.etcd.etcd_endpoints.is_empty() {
        return Ok(Arc::new(embedded(&arguments.data_dir, Some(metrics.clone())).await?));
    }
    Ok(Arc::new(etcd(&arguments.etcd).await?))
}

/// Opens the embedded store; makes it if it is not there.
pub(crate) async fn embedded(
    data_dir: &Path,
    metrics: Option<prometheus::Registry>,
) -> anyhow::Result<SqliteStore> {
    let options = SqliteOptions { metrics, ..SqliteOptions::default() };
    let path = file(data_dir);
    // Opening checks the file, which waits for the disk.
    let store = tokio::task::spawn_blocking(move || SqliteStore::open(path, options)).await?;
    store.context("cannot open the embedded store")
}

/// Connects to etcd.
pub(crate) async fn etcd(arguments: &EtcdArguments) -> anyhow::Result<EtcdStore> {
    let endpoints = &arguments.etcd_endpoints;
    let store = EtcdStore::connect(endpoints, Some(etcd_options(arguments)?)).await;
    store.with_context(|| format!("cannot reach etcd at {}", endpoints.join(", ")))
}

fn etcd_options(arguments: &EtcdArguments) -> anyhow::Result<ConnectOptions> {
    let mut options = ConnectOptions::new();
    if let (Some(user), Some(file)) = (&arguments.etcd_user, &arguments.etcd_password_file) {
        let password = read_text(file)?;
        // The token that the password is exchanged for expires.
        options =
            options.with_user(user, password.trim_end_matches(['\r', '\n'])).with_auto_token_refresh(true);
    }
    if let Some(authority) = &arguments.etcd_ca {
        let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(read_text(authority)?));
        if let (Some(certificate), Some(key)) = (&arguments.etcd_certificate, &arguments.etcd_key) {
            tls = tls.identity(Identity::from_pem(read_text(certificate)?, read_text(key)?));
        }
        options = options.with_tls(tls);
    }
    Ok(options)
}
