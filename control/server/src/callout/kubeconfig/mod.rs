//! Kubeconfig files: where a server is (`clusters`), and what it is shown (`users`).
//!
//! [`Reach`] is the server of a file's current context. [`Credentials`] are for servers that objects name: the users of a
//! file stand for hosts there.
//!
//! Reads only; files that it names are looked for beside it.

mod user;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use serde_json::Value;
use skep_api::decode::{self, Encoding};

use super::credential::Source;
use super::proxy::Proxy;
use super::target::{Place, Target, Trust};
use crate::error::Error;
use crate::pki::read_text;

use user::User;

/// What a file says of a cluster to programs alone stands under this name among its extensions.
const FOR_PROGRAMS: &str = "client.authentication.k8s.io/exec";

/// How a server is reached.
pub(super) struct Reach {
    /// `https` or `http`, with a host.
    pub(super) url: Uri,
    /// The same as it stands in the file.
    pub(super) server: String,
    /// The name in the server's certificate, if not that of the URL.
    pub(super) server_name: Option<String>,
    pub(super) trust: Trust,
    /// With its URL as it stands in the file.
    pub(super) proxy: Option<(String, Proxy)>,
    pub(super) source: Source,
}

impl Reach {
    /// What the file at `path` says.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or does not say what is needed.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let wrong = |why: &str| unusable(path, why);
        let file = parse(path)?;
        let current = text_of(&file, "current-context").ok_or_else(|| wrong("it has no current-context"))?;
        let context = named(&file, "contexts", "context", current)
            .ok_or_else(|| wrong("its current-context is not among its contexts"))?;
        let cluster = text_of(context, "cluster").and_then(|name| named(&file, "clusters", "cluster", name));
        let cluster = cluster.ok_or_else(|| wrong("the cluster of its context is not there"))?;
        let name = text_of(context, "user");
        let user = name.and_then(|name| Some((name, named(&file, "users", "user", name)?)));
        let files = Files::of(path);
        let url: Uri = text_of(cluster, "server")
            .and_then(|url| url.parse().ok())
            .filter(|url: &Uri| matches!(url.scheme_str(), Some("https" | "http")) && url.host().is_some())
            .ok_or_else(|| wrong("the server of its cluster is not an HTTP URL"))?;
        let trust = match (
            cluster["insecure-skip-tls-verify"] == true,
            files.text(cluster, "certificate-authority")?,
        ) {
            (true, Some(_)) => {
                return Err(wrong("a certificate-authority and insecure-skip-tls-verify exclude each other"));
            }
            (true, None) => Trust::Anyone,
            (false, None) => Trust::System,
            (false, Some(authority)) => Trust::Authority(authority),
        };
        let proxy = text_of(cluster, "proxy-url").map(|url| match Proxy::parse(url) {
            Ok(proxy) => Ok((url.to_owned(), proxy)),
            Err(why) => Err(wrong(&format!("invalid 'proxy-url' for cluster: {why}"))),
        });
        let proxy = proxy.transpose()?;
        let extra = cluster["extensions"].as_array().into_iter().flatten();
        let extra = extra
            .clone()
            .find(|one| one["name"] == FOR_PROGRAMS)
            .map_or(&Value::Null, |one| &one["extension"]);
        let source = match user {
            None => Source::default(),
            Some((name, user)) => User { files: &files, name, user }.source(extra)?,
        };
        let server_name = text_of(cluster, "tls-server-name").map(str::to_owned);
        let server = text_of(cluster, "server").unwrap_or_default().to_owned();
        Ok(Self { url, server, server_name, trust, proxy, source })
    }
}

/// What is shown to servers that objects name, by their hosts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Credentials {
    users: HashMap<String, Source>,
    /// The user of the current context.
    current: Option<String>,
}

impl Credentials {
    /// What the file at `path` says.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or is none.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let file = parse(path)?;
        let files = Files::of(path);
        let mut users = HashMap::new();
        for one in file["users"].as_array().into_iter().flatten() {
            let name = text_of(one, "name").ok_or_else(|| unusable(path, "one of its users has no name"))?;
            let user = User { files: &files, name, user: &one["user"] };
            users.insert(name.to_owned(), user.source(&Value::Null)?);
        }
        let context = text_of(&file, "current-context");
        let context = context.and_then(|name| named(&file, "contexts", "context", name));
        let current = context.and_then(|context| text_of(context, "user")).map(str::to_owned);
        Ok(Self { users, current })
    }

    /// What `target` is shown: what stands for its host and port, for its host's domains (`*.DOMAIN`), both without the
    /// port where that is 443, for all (`*`), or for the current context.
    pub(crate) fn of(&self, target: &Target) -> Option<&Source> {
        let (host, port) = match &target.place {
            Place::Host { host, port, .. } => (host.clone(), *port),
            Place::Service { namespace, name, port } => (format!("{name}.{namespace}.svc"), *port),
        };
        let exact = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let bare = (port == 443).then_some(host);
        let found = std::iter::once(exact).chain(bare).find_map(|name| self.by_name(&name));
        found.or_else(|| self.users.get("*")).or_else(|| self.users.get(self.current.as_ref()?))
    }

    fn by_name(&self, name: &str) -> Option<&Source> {
        let domains = name.match_indices('.').map(|(at, _)| format!("*{}", &name[at..]));
        self.users.get(name).or_else(|| domains.into_iter().find_map(|domain| self.users.get(&domain)))
    }
}

fn unusable(path: &Path, why: &str) -> Error {
    Error::Configuration { what: "kubeconfig", path: path.to_owned(), reason: why.to_owned() }
}

fn parse(path: &Path) -> Result<Value, Error> {
    let text = read_text(path)?;
    let parsed = decode::parse(text.as_bytes(), Encoding::Yaml);
    Ok(parsed.map_err(|status| unusable(path, &status.message))?.value)
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

impl<'a> Files<'a> {
    fn of(path: &'a Path) -> Self {
        Self { beside: path.parent().unwrap_or(Path::new("")), path }
    }

    fn wrong(&self, why: &str) -> Error {
        unusable(self.path, why)
    }

    /// Where what the file calls `name` lies.
    fn beside(&self, name: &str) -> PathBuf {
        self.beside.join(name)
    }

    /// A text that is in the file (`FIELD-data`) or beside it (`FIELD`).
    fn text(&self, of: &Value, field: &str) -> Result<Option<String>, Error> {
        match self.data(of, field)? {
            Some(text) => Ok(Some(text)),
            None => text_of(of, field).map(|name| read_text(&self.beside(name))).transpose(),
        }
    }

    /// A text that is in the file.
    fn data(&self, of: &Value, field: &str) -> Result<Option<String>, Error> {
        let Some(encoded) = text_of(of, &format!("{field}-data")) else { return Ok(None) };
        let decoded = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        decoded.map(Some).ok_or_else(|| self.wrong(&format!("{field}-data is not base64 of PEM")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a file with these users shows there.
    fn shown(users: &[&str], context: &str, url: &str) -> Option<String> {
        let users: Vec<String> =
            users.iter().map(|name| format!("{{name: '{name}', user: {{token: '{name}'}}}}")).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = format!(
            "users: [{}]\ncontexts: [{{name: x, context: {{user: a}}}}]\ncurrent-context: '{context}'\n",
            users.join(", ")
        );
        std::fs::write(file.path(), text).unwrap();
        let target = Target::of_url(&url.parse().unwrap(), Trust::System).unwrap();
        let credentials = Credentials::read(file.path()).unwrap();
        let Source::Fixed(shown) = credentials.of(&target)? else { panic!("it is no fixed one") };
        Some(shown.headers["authorization"].to_str().unwrap().trim_start_matches("Bearer ").to_owned())
    }

    #[test]
    fn users_stand_for_hosts_the_nearest_name_first() {
        let all = ["*", "*.svc", "*.n.svc", "s.n.svc", "s.n.svc:443", "*.n.svc:8443", "a"];
        for (from, url, expected) in [
            (0, "https://s.n.svc", Some("s.n.svc:443")),
            (0, "https://s.n.svc:8443", Some("*.n.svc:8443")),
            (0, "https://t.m.svc", Some("*.svc")),
            // Names without a port stand for port 443.
            (0, "https://t.m.svc:8443", Some("*")),
            (0, "https://other.example", Some("*")),
            (5, "https://other.example", Some("a")),
            (5, "https://s.n.svc", Some("a")),
        ] {
            assert_eq!(shown(&all[from..], "x", url).as_deref(), expected, "{url}");
        }
        assert_eq!(shown(&["a"], "", "https://other.example"), None);
        assert_eq!(shown(&["[::1]:8443"], "", "https://[::1]:8443").as_deref(), Some("[::1]:8443"));
    }
}
