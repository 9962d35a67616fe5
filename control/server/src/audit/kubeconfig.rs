//! The part of a kubeconfig file that says how a webhook is reached: URL, authority, identity.
//!
//! Reads only; files that it names are looked for beside it.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use serde_json::Value;
use skep_api::decode::{self, Encoding};

use crate::error::Error;
use crate::pki::Leaf;

/// How a webhook is reached.
pub(super) struct Reach {
    pub(super) url: Uri,
    /// The name in the server's certificate, if not that of the URL.
    pub(super) server_name: Option<String>,
    /// The authority of that certificate, PEM.
    pub(super) authority: Option<String>,
    /// What this server shows of itself.
    pub(super) identity: Option<Leaf>,
    pub(super) token: Option<String>,
}

impl Reach {
    /// Reads the current context of a kubeconfig file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or does not say where to go.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let directory = path.parent().unwrap_or(Path::new("."));
        Self::parse(&text, directory).map_err(|reason| Error::Configuration {
            what: "audit webhook configuration",
            path: path.to_owned(),
            reason,
        })
    }

    fn parse(text: &[u8], directory: &Path) -> Result<Self, String> {
        let config = decode::parse(text, Encoding::Yaml).map_err(|status| status.message)?.value;
        let context = named(&config["contexts"], word(&config["current-context"]), "context")?;
        let cluster = named(&config["clusters"], word(&context["cluster"]), "cluster")?;
        let user = match word(&context["user"]) {
            "" => &Value::Null,
            name => named(&config["users"], name, "user")?,
        };
        if cluster["insecure-skip-tls-verify"] == true {
            return Err("insecure-skip-tls-verify is not taken: name the authority of the webhook".into());
        }
        let files = Files { directory };
        let url: Uri = word(&cluster["server"]).parse().map_err(|error| format!("server: {error}"))?;
        if !matches!(url.scheme_str(), Some("https" | "http")) || url.host().is_none() {
            return Err(format!("server: {url} is not an HTTP URL"));
        }
        let certificate = files.pem(user, "client-certificate")?;
        let key = files.pem(user, "client-key")?;
        let identity = match (certificate, key) {
            (Some(certificate_pem), Some(key_pem)) => Some(Leaf { certificate_pem, key_pem }),
            (None, None) => None,
            _ => return Err("a client certificate needs its key, and a key its certificate".into()),
        };
        let token = match (word(&user["token"]), word(&user["tokenFile"])) {
            ("", "") => None,
            ("", file) => Some(files.text(file)?.trim().to_owned()),
            (token, _) => Some(token.to_owned()),
        };
        let server_name = Some(word(&cluster["tls-server-name"]).to_owned()).filter(|name| !name.is_empty());
        Ok(Self {
            url,
            server_name,
            authority: files.pem(cluster, "certificate-authority")?,
            identity,
            token,
        })
    }
}

struct Files<'a> {
    directory: &'a Path,
}

impl Files<'_> {
    fn text(&self, file: &str) -> Result<String, String> {
        let path: PathBuf = self.directory.join(file);
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// What a member ending in `-data` holds, or the file that the one without names.
    fn pem(&self, object: &Value, member: &str) -> Result<Option<String>, String> {
        let (data, file) = (word(&object[format!("{member}-data")]), word(&object[member]));
        if data.is_empty() {
            return if file.is_empty() { Ok(None) } else { self.text(file).map(Some) };
        }
        let bytes = STANDARD.decode(data).map_err(|_| format!("{member}-data is not base64"))?;
        String::from_utf8(bytes).map(Some).map_err(|_| format!("{member}-data is not PEM"))
    }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn named<'a>(list: &'a Value, name: &str, what: &str) -> Result<&'a Value, String> {
    let found = list.as_array().into_iter().flatten().find(|one| one["name"] == name);
    found.map(|one| &one[what]).ok_or_else(|| format!("there is no {what} {name:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(cluster: &str, user: &str) -> Result<Reach, String> {
        let text = format!(
            "current-context: c\ncontexts: [{{name: c, context: {{cluster: s, user: u}}}}]\n\
             clusters: [{{name: s, cluster: {{{cluster}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n"
        );
        Reach::parse(text.as_bytes(), Path::new("/nowhere"))
    }

    #[test]
    fn current_context_says_where_and_as_whom() {
        let reach =
            parse("server: 'https://audit.example:8443/x?y=z', tls-server-name: other", "token: t").unwrap();
        assert_eq!(reach.url.path_and_query().unwrap(), "/x?y=z");
        assert_eq!((reach.server_name.as_deref(), reach.token.as_deref()), (Some("other"), Some("t")));
        assert!(reach.identity.is_none() && reach.authority.is_none());
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        for (cluster, user, why) in [
            ("server: 'ftp://x'", "", "is not an HTTP URL"),
            ("server: 'https://x', insecure-skip-tls-verify: true", "", "is not taken"),
            ("server: 'https://x', certificate-authority-data: '*'", "", "is not base64"),
            ("server: 'https://x', certificate-authority: none.crt", "", "/nowhere/none.crt"),
            ("server: 'https://x'", "client-key-data: ''", ""),
            ("server: 'https://x'", "client-key-data: QQ==", "needs its key"),
        ] {
            match parse(cluster, user) {
                Ok(_) => assert!(why.is_empty(), "{cluster} {user}"),
                Err(found) => assert!(!why.is_empty() && found.contains(why), "{cluster} {user}: {found}"),
            }
        }
        assert!(Reach::parse(b"current-context: none", Path::new("/")).is_err());
    }
}
