//! The file that says where a webhook is (`clusters`) and what it is shown (`users`): the entries of its current context.
//!
//! Reads only; files that it names are looked for beside it.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use serde_json::Value;
use skep_api::decode::{self, Encoding};

use crate::error::Error;
use crate::pki::{Leaf, read_text};

/// How a server is reached.
pub(super) struct Reach {
    /// `https` or `http`, with a host.
    pub(super) url: Uri,
    /// The name in the server's certificate, if not that of the URL.
    pub(super) server_name: Option<String>,
    /// The authority of that certificate, PEM.
    pub(super) authority: Option<String>,
    /// What this server shows of itself.
    pub(super) identity: Option<Leaf>,
    pub(super) authorization: Option<HeaderValue>,
}

impl Reach {
    /// What the file at `path` says.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or does not say what is needed.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let wrong = |why: &str| Error::Configuration {
            what: "kubeconfig",
            path: path.to_owned(),
            reason: why.to_owned(),
        };
        let text = read_text(path)?;
        let file =
            decode::parse(text.as_bytes(), Encoding::Yaml).map_err(|status| wrong(&status.message))?.value;
        let current = text_of(&file, "current-context").ok_or_else(|| wrong("it has no current-context"))?;
        let context = named(&file, "contexts", "context", current)
            .ok_or_else(|| wrong("its current-context is not among its contexts"))?;
        let cluster = text_of(context, "cluster").and_then(|name| named(&file, "clusters", "cluster", name));
        let cluster = cluster.ok_or_else(|| wrong("the cluster of its context is not there"))?;
        let user = text_of(context, "user").and_then(|name| named(&file, "users", "user", name));
        let files = Files { beside: path.parent().unwrap_or(Path::new("")), path };
        let url: Uri = text_of(cluster, "server")
            .and_then(|url| url.parse().ok())
            .filter(|url: &Uri| matches!(url.scheme_str(), Some("https" | "http")) && url.host().is_some())
            .ok_or_else(|| wrong("the server of its cluster is not an HTTP URL"))?;
        if cluster["insecure-skip-tls-verify"] == true {
            return Err(wrong("a server whose certificate is not verified cannot decide for this one"));
        }
        let authority = files.text(cluster, "certificate-authority")?;
        let empty = Value::Null;
        let user = user.unwrap_or(&empty);
        if user["exec"].is_object() || user["auth-provider"].is_object() {
            return Err(wrong("credentials from another program are not supported"));
        }
        let identity = match (files.text(user, "client-certificate")?, files.text(user, "client-key")?) {
            (Some(certificate_pem), Some(key_pem)) => Some(Leaf { certificate_pem, key_pem }),
            (None, None) => None,
            _ => return Err(wrong("a client-certificate needs its client-key")),
        };
        let authorization = match files.authorization(user)? {
            None => None,
            Some(authorization) => {
                let mut value =
                    HeaderValue::try_from(authorization).map_err(|_| wrong("its token is not text"))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let server_name = text_of(cluster, "tls-server-name").map(str::to_owned);
        Ok(Self { url, server_name, authority, identity, authorization })
    }
}

fn text_of<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value[field].as_str().filter(|text| !text.is_empty())
}

/// The entry of that name in a list of the file.
fn named<'a>(file: &'a Value, list: &str, entry: &str, name: &str) -> Option<&'a Value> {
    file[list].as_array()?.iter().find(|one| one["name"] == name).map(|one| &one[entry])
}

struct Files<'a> {
    /// Where relative paths begin.
    beside: &'a Path,
    path: &'a Path,
}

impl Files<'_> {
    /// A text that is in the file (`FIELD-data`) or beside it (`FIELD`).
    fn text(&self, of: &Value, field: &str) -> Result<Option<String>, Error> {
        if let Some(encoded) = text_of(of, &format!("{field}-data")) {
            let decoded = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let reason = format!("{field}-data is not base64 of PEM");
            return decoded.map(Some).ok_or(Error::Configuration {
                what: "kubeconfig",
                path: self.path.to_owned(),
                reason,
            });
        }
        self.file(of, field)
    }

    fn file(&self, of: &Value, field: &str) -> Result<Option<String>, Error> {
        let path = text_of(of, field).map(|name| self.beside.join(PathBuf::from(name)));
        path.map(|path| read_text(&path)).transpose()
    }

    fn authorization(&self, user: &Value) -> Result<Option<String>, Error> {
        let token = match text_of(user, "token") {
            Some(token) => Some(token.to_owned()),
            None => self.file(user, "tokenFile")?,
        };
        if let Some(token) = token {
            return Ok(Some(format!("Bearer {}", token.trim())));
        }
        let name = text_of(user, "username");
        let password = user["password"].as_str().unwrap_or_default();
        Ok(name.map(|name| format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))))
    }
}
