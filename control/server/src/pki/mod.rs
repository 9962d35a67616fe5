//! The cluster's keys and certificates, kept as files in one directory.
//!
//! Owns their creation on first start, their renewal before they expire and the credentials of nodes. Every file is
//! written whole or not at all, private keys with mode 0600. A key whose certificate is missing, about to expire, for
//! other names or not signed by the present authority gets a new certificate; the authority itself is never replaced.
//! File names are those that kubeadm uses, so that the directory of an existing cluster can be taken over.
//! Does not own listening (`tls`) or the checking of what peers present (`authn`).

mod authority;
mod files;
mod kubeconfig;
mod leaf;
mod signing;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub use authority::{Authority, Role};
pub use files::{create_private_dir, read_text, write_private, write_public};
pub use kubeconfig::{Identity, render as render_kubeconfig};
pub use leaf::{Leaf, Purpose, Subject};

use crate::error::Error;

/// Common name of the certificate that the server shows to nodes.
pub const KUBELET_CLIENT: &str = "system:kube-apiserver-kubelet-client";
/// Common name of the certificate that the server shows to aggregated API servers, in the name of its users.
pub const FRONT_PROXY_CLIENT: &str = "front-proxy-client";
/// The group that passes every authorization check.
pub const MASTERS: &str = "system:masters";
/// The group of all nodes.
pub const NODES: &str = "system:nodes";

/// How long issued certificates are valid.
const LEAF_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// With less than this left, a certificate is issued anew.
const RENEW_BEFORE: Duration = Duration::from_secs(60 * 24 * 3600);

/// What the API server is called, for its serving certificate.
#[derive(Clone, Debug, Default)]
pub struct ServingNames {
    /// Further DNS names (`--tls-san`), besides those of the `kubernetes` Service and `localhost`.
    pub dns: Vec<String>,
    /// Addresses: the advertised one, the first of the service range, and any listed by the operator.
    pub addresses: Vec<IpAddr>,
}

impl ServingNames {
    fn all(&self) -> Vec<String> {
        let fixed = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
            "127.0.0.1",
            "::1",
        ];
        let mut names: Vec<String> = fixed.into_iter().map(str::to_owned).collect();
        names.extend(self.dns.iter().cloned());
        names.extend(self.addresses.iter().map(IpAddr::to_string));
        names.sort();
        names.dedup();
        names
    }
}

/// The directory of keys and certificates, opened or created.
#[derive(Clone, Debug)]
pub struct Pki {
    directory: PathBuf,
    names: ServingNames,
}

impl Pki {
    /// Opens `directory`, creating whatever is missing or stale as of `now`.
    ///
    /// # Errors
    ///
    /// When files cannot be read or written, or when a key does not belong to its certificate authority.
    pub fn open(directory: &Path, names: ServingNames, now: SystemTime) -> Result<Self, Error> {
        create_private_dir(directory)?;
        let pki = Self { directory: directory.to_owned(), names };
        pki.refresh(now)?;
        pki.ensure_token_key()?;
        Ok(pki)
    }

    /// Issues anew what is about to expire; returns whether anything changed. To be called at start and daily.
    ///
    /// # Errors
    ///
    /// As [`Pki::open`].
    pub fn refresh(&self, now: SystemTime) -> Result<bool, Error> {
        let authority = Authority::open_or_create(&self.directory, Role::Cluster, now)?;
        let mut changed = false;
        for (name, subject) in self.leaves() {
            changed |= Leaf::ensure(&self.directory, name, &subject, &authority, now)?;
        }
        let front_proxy = Authority::open_or_create(&self.directory, Role::FrontProxy, now)?;
        let subject = Subject::client(FRONT_PROXY_CLIENT, None);
        changed |= Leaf::ensure(&self.directory, FRONT_PROXY_CLIENT, &subject, &front_proxy, now)?;
        Ok(changed)
    }

    fn leaves(&self) -> [(&'static str, Subject); 3] {
        [
            ("apiserver", Subject::server("kube-apiserver", None, self.names.all())),
            ("apiserver-kubelet-client", Subject::client(KUBELET_CLIENT, Some(MASTERS))),
            ("admin", Subject::client("kubernetes-admin", Some(MASTERS))),
        ]
    }

    /// The certificate of the authority, PEM.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn ca_pem(&self) -> Result<String, Error> {
        read_text(&self.directory.join("ca.crt"))
    }

    /// Certificate and key of the API server's listener.
    ///
    /// # Errors
    ///
    /// When the files cannot be read.
    pub fn serving(&self) -> Result<Leaf, Error> {
        Leaf::read(&self.directory, "apiserver")
    }

    /// Certificate and key that the server shows to nodes.
    ///
    /// # Errors
    ///
    /// When the files cannot be read.
    pub fn kubelet_client(&self) -> Result<Leaf, Error> {
        Leaf::read(&self.directory, "apiserver-kubelet-client")
    }

    /// The certificate of the authority that the front proxy's certificate is from, PEM.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn front_proxy_ca_pem(&self) -> Result<String, Error> {
        read_text(&self.directory.join("front-proxy-ca.crt"))
    }

    /// Certificate and key that the server shows to aggregated API servers.
    ///
    /// # Errors
    ///
    /// When the files cannot be read.
    pub fn front_proxy_client(&self) -> Result<Leaf, Error> {
        Leaf::read(&self.directory, FRONT_PROXY_CLIENT)
    }

    /// The private key that signs service-account tokens (`sa.key`), PEM.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn token_key_pem(&self) -> Result<String, Error> {
        read_text(&self.directory.join("sa.key"))
    }

    /// Public keys of which tokens are accepted too (`sa.pub`), PEM; empty without that file.
    ///
    /// # Errors
    ///
    /// When the file is there but cannot be read.
    pub fn further_token_keys_pem(&self) -> Result<String, Error> {
        let path = self.directory.join("sa.pub");
        if path.exists() { read_text(&path) } else { Ok(String::new()) }
    }

    fn ensure_token_key(&self) -> Result<(), Error> {
        let path = self.directory.join("sa.key");
        if path.exists() {
            return Ok(());
        }
        let key = rcgen::KeyPair::generate()
            .map_err(|source| Error::Certificate { operation: "generate the token key", source })?;
        write_private(&path, &key.serialize_pem())
    }

    /// Writes a kubeconfig with the administrator's identity for `server` (a URL), unless it is already there.
    ///
    /// # Errors
    ///
    /// When files cannot be read or written.
    pub fn write_admin_kubeconfig(&self, path: &Path, server: &str) -> Result<(), Error> {
        let admin = Leaf::read(&self.directory, "admin")?;
        let text =
            render_kubeconfig("skep", server, &self.ca_pem()?, &Identity::certificate("admin", &admin));
        if read_text(path).is_ok_and(|present| present == text) {
            return Ok(());
        }
        write_private(path, &text)
    }
}

/// Issues the credentials of one node into `out`: `kubeconfig`, `serving.crt`, `serving.key`, `ca.crt`.
///
/// The API server's own certificates in `pki_directory` stay as they are.
///
/// # Errors
///
/// When the name is not one that a node can have, when `pki_directory` holds no authority, or a file cannot be written.
pub fn issue_node_credentials(
    pki_directory: &Path,
    node: &str,
    addresses: &[IpAddr],
    server: &str,
    out: &Path,
    now: SystemTime,
) -> Result<(), Error> {
    if !is_node_name(node) {
        return Err(Error::NodeName { name: node.to_owned() });
    }
    let authority = Authority::open(pki_directory, Role::Cluster)?;
    let user = format!("system:node:{node}");
    let client = authority.issue(&Subject::client(&user, Some(NODES)), now)?;
    let names = std::iter::once(node.to_owned()).chain(addresses.iter().map(IpAddr::to_string)).collect();
    let serving = authority.issue(&Subject::server(&user, Some(NODES), names), now)?;
    create_private_dir(out)?;
    write_public(&out.join("ca.crt"), authority.certificate_pem())?;
    write_private(&out.join("serving.key"), &serving.key_pem)?;
    write_public(&out.join("serving.crt"), &serving.certificate_pem)?;
    let identity = Identity::certificate(&user, &client);
    let kubeconfig = render_kubeconfig("skep", server, authority.certificate_pem(), &identity);
    write_private(&out.join("kubeconfig"), &kubeconfig)
}

/// Whether `name` is a DNS-1123 subdomain, as node names are.
fn is_node_name(name: &str) -> bool {
    let label = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}
