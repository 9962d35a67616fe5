//! Keys and certificates of this control plane: opened at start, renewed while it runs.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use skep_server::ApiServer;
use skep_server::aggregation::FrontProxy;
use skep_server::authn::Verifier;
use skep_server::gate::GateConfig;
use skep_server::pki::{Pki, ServingNames, create_private_dir, read_text};
use skep_server::streams::NodeClient;
use skep_server::tls::TlsKeys;
use skep_server::tokens::Keys;
use tokio_util::sync::CancellationToken;

use crate::auth::{AccountArguments, ClientAuthority};
use crate::flags::{ServerArguments, TlsArguments};
use crate::shutdown;

/// How often the certificates that somebody else renews are looked at.
const LOOK: Duration = Duration::from_secs(60);
/// How often certificates are looked at.
const CHECK: Duration = Duration::from_secs(12 * 3600);

/// What was made of the files, and what follows them when they change.
pub(crate) struct OpenKeys {
    pki: Pki,
    pub(crate) listener: TlsKeys,
    nodes: NodeClient,
    pub(crate) front_proxy: FrontProxy,
    kubeconfig: PathBuf,
    url: String,
    tls: TlsArguments,
    /// Further authorities of clients.
    client_authorities: Option<PathBuf>,
    /// The authority of front proxies, whose certificates the listener accepts besides those of clients, and what tells
    /// them from others.
    proxies: Option<(PathBuf, Arc<Verifier>)>,
    /// Tells clients from front proxies.
    clients: Arc<Verifier>,
}

impl OpenKeys {
    /// Opens the keys below the data directory, making whatever is missing.
    pub(crate) fn open(arguments: &ServerArguments) -> anyhow::Result<Self> {
        create_private_dir(&arguments.data_dir).context("the data directory is not usable")?;
        let advertised = arguments.advertised()?;
        let mut names = ServingNames { addresses: vec![advertised], ..ServingNames::default() };
        names.addresses.extend(arguments.service_cidr.iter().map(|network| network.nth(1)));
        if !arguments.listen.ip().is_unspecified() {
            names.addresses.push(arguments.listen.ip());
        }
        for name in &arguments.tls_san {
            match name.parse() {
                Ok(address) => names.addresses.push(address),
                Err(_) => names.dns.push(name.clone()),
            }
        }
        let pki = Pki::open(&arguments.data_dir.join("pki"), names, SystemTime::now())?;
        let authority = pki.ca_pem()?;
        let proxies = arguments.authentication.proxy.requestheader_client_ca_file.clone();
        let proxies = proxies.map(|path| {
            let verifier = Verifier::new(&read_text(&path)?);
            let verifier = verifier.context("cannot use the authority of front proxies")?;
            anyhow::Ok((path, Arc::new(verifier)))
        });
        let proxies = proxies.transpose()?;
        let client_authorities = arguments.authentication.client_ca_file.clone();
        let clients = with_file(&authority, client_authorities.as_deref())?;
        let port = arguments.listen.port();
        let tls = arguments.serving.tls.clone();
        let keys = Self {
            listener: TlsKeys::with(
                &tls.serving(pki.serving()?)?,
                &with_file(&clients, proxies.as_ref().map(|(path, _)| path.as_path()))?,
                tls.options(),
            )?,
            nodes: NodeClient::new(&authority, &pki.kubelet_client()?)?,
            front_proxy: FrontProxy::new(
                pki.front_proxy_ca_pem()?,
                pki.front_proxy_client()?,
                clients.clone(),
            ),
            kubeconfig: arguments.data_dir.join("admin.kubeconfig"),
            url: format!("https://{}", std::net::SocketAddr::new(advertised, port)),
            pki,
            tls,
            client_authorities,
            proxies,
            clients: Arc::new(Verifier::new(&clients)?),
        };
        keys.tls.name(&keys.listener)?;
        Ok(keys)
    }

    /// The gate that these keys make.
    pub(crate) fn gate(&self, accounts: &AccountArguments) -> anyhow::Result<GateConfig> {
        let own = self.pki.token_key_pem()?;
        let mut further = self.pki.further_token_keys_pem()?;
        let signing = match &accounts.service_account_signing_key_file {
            None => own,
            Some(path) => {
                // What the key of the data directory signed before is still good.
                further = format!("{further}\n{own}");
                read_text(path)?
            }
        };
        for path in &accounts.service_account_key_file {
            further = format!("{further}\n{}", read_text(path)?);
        }
        Ok(GateConfig::new(Keys::from_pem(&signing, &further)?, self.nodes.clone()))
    }

    /// The certificate of the cluster's authority.
    pub(crate) fn authority(&self) -> anyhow::Result<String> {
        Ok(self.pki.ca_pem()?)
    }

    /// The authorities that sign the certificates of clients.
    pub(crate) fn client_authority(&self) -> anyhow::Result<ClientAuthority> {
        let pem = with_file(&self.pki.ca_pem()?, self.client_authorities.as_deref())?;
        let proxies = self.proxies.as_ref().map(|(_, verifier)| Arc::clone(verifier));
        Ok(ClientAuthority { pem, verifier: Arc::clone(&self.clients), proxies })
    }

    /// Writes the administrator's kubeconfig.
    pub(crate) fn write_kubeconfig(&self) -> anyhow::Result<&Path> {
        self.pki.write_admin_kubeconfig(&self.kubeconfig, &self.url)?;
        Ok(&self.kubeconfig)
    }

    /// Renews what is about to expire, and reads all keys again on SIGHUP, until shutdown. Other servers learn from `server`
    /// whom to believe.
    pub(crate) async fn keep_fresh(
        self,
        server: ApiServer,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut hang_ups = shutdown::hang_ups()?;
        let mut checks = tokio::time::interval(CHECK);
        checks.tick().await;
        let (mut looks, mut contents) = (tokio::time::interval(LOOK), self.contents());
        loop {
            let asked = tokio::select! {
                _ = checks.tick() => false,
                _ = hang_ups.recv() => true,
                _ = looks.tick() => {
                    let found = self.contents();
                    if found == contents {
                        continue;
                    }
                    contents = found;
                    true
                }
                () = shutdown.cancelled() => return Ok(()),
            };
            // The former keys work on, so that there is time to find out.
            match self.refresh(asked) {
                Ok(true) => {
                    tracing::info!("using renewed keys");
                    if let Err(error) = server.tell_extensions(&self.front_proxy).await {
                        let error = anyhow::Error::from(error);
                        tracing::error!(
                            error = format!("{error:#}"),
                            "cannot say whom other servers may believe"
                        );
                    }
                }
                Ok(false) => {}
                Err(error) => tracing::error!(error = format!("{error:#}"), "cannot renew keys"),
            }
        }
    }

    /// All that is in the files of others, to find out whether it changed.
    fn contents(&self) -> Vec<Option<Vec<u8>>> {
        let proxies = self.proxies.iter().map(|(path, _)| path);
        let authorities = self.client_authorities.iter().chain(proxies);
        let authorities = authorities.map(|path| std::fs::read(path).ok());
        self.tls.contents().into_iter().chain(authorities).collect()
    }

    fn refresh(&self, asked: bool) -> anyhow::Result<bool> {
        let changed = self.pki.refresh(SystemTime::now())?;
        if !changed && !asked {
            return Ok(false);
        }
        let authority = self.pki.ca_pem()?;
        let clients = with_file(&authority, self.client_authorities.as_deref())?;
        let proxies = self.proxies.as_ref().map(|(path, verifier)| anyhow::Ok((read_text(path)?, verifier)));
        let proxies = proxies.transpose()?;
        let accepted = match &proxies {
            Some((proxies, _)) => format!("{clients}\n{proxies}"),
            None => clients.clone(),
        };
        self.listener.reload(&self.tls.serving(self.pki.serving()?)?, &accepted)?;
        self.clients.reload(&clients)?;
        if let Some((proxies, verifier)) = proxies {
            verifier.reload(&proxies)?;
        }
        self.tls.name(&self.listener)?;
        self.nodes.reload(&authority, &self.pki.kubelet_client()?)?;
        self.front_proxy.reload(self.pki.front_proxy_client()?, &clients);
        self.write_kubeconfig()?;
        Ok(true)
    }
}

/// Authorities, and those in a file.
fn with_file(authorities: &str, file: Option<&Path>) -> anyhow::Result<String> {
    Ok(match file {
        None => authorities.to_owned(),
        Some(path) => format!("{authorities}\n{}", read_text(path)?),
    })
}
