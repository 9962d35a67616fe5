//! Kubeconfig files with everything inside: one cluster, one user, one context.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::leaf::Leaf;

/// Who a kubeconfig is for.
#[derive(Clone, Debug)]
pub struct Identity {
    name: String,
    certificate_pem: String,
    key_pem: String,
}

impl Identity {
    /// An identity proven by a client certificate.
    pub fn certificate(name: &str, leaf: &Leaf) -> Self {
        Self {
            name: name.to_owned(),
            certificate_pem: leaf.certificate_pem.clone(),
            key_pem: leaf.key_pem.clone(),
        }
    }
}

/// The text of a kubeconfig. Names go in as JSON strings, which YAML reads as they are.
pub fn render(cluster: &str, server: &str, ca_pem: &str, identity: &Identity) -> String {
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    let data = |pem: &str| STANDARD.encode(pem);
    let context = quote(&format!("{}@{cluster}", identity.name));
    let (cluster, server, user) = (quote(cluster), quote(server), quote(&identity.name));
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - name: {cluster}\n  cluster:\n    server: {server}\n    certificate-authority-data: {ca}\n\
         users:\n\
         - name: {user}\n  user:\n    client-certificate-data: {certificate}\n    client-key-data: {key}\n\
         contexts:\n\
         - name: {context}\n  context:\n    cluster: {cluster}\n    user: {user}\n\
         current-context: {context}\n",
        ca = data(ca_pem),
        certificate = data(&identity.certificate_pem),
        key = data(&identity.key_pem),
    )
}
