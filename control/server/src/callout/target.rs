//! Where a call goes, as the configuration of webhooks and `APIService` objects says it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use serde_json::Value;
use skep_api::object::{at, number, text};

use super::credential::Called;
use super::proxy::Proxy;

/// The port of services and URLs that name none.
const HTTPS: u16 = 443;
const HTTP: u16 = 80;

/// Which server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// A name or address, wherever it is.
    Host {
        /// Without brackets.
        host: String,
        /// From 1.
        port: u16,
        /// As it was written, for messages and the `Host` header.
        authority: String,
    },
    /// One of the endpoints of a Service.
    Service {
        namespace: String,
        name: String,
        /// A port of the Service, not of its endpoints.
        port: u16,
    },
}

/// Whom the server's certificate must be from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Trust {
    /// An authority that this machine trusts.
    System,
    /// One of these, PEM.
    Authority(String),
    /// Anybody.
    Anyone,
}

/// Where a call goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub(crate) place: Place,
    /// Empty, or with a slash at its beginning.
    pub(crate) path: String,
    pub(crate) trust: Trust,
    /// The name that the server's certificate must be for, if not that of the place.
    pub(crate) server_name: Option<String>,
    /// Whether it is called without TLS.
    pub(crate) plain: bool,
    /// What the way there leads through.
    pub(crate) proxy: Option<Proxy>,
}

impl Target {
    /// Reads a `WebhookClientConfig` (admission and conversion webhooks have the same).
    ///
    /// # Errors
    ///
    /// Why nothing can be called there.
    pub(crate) fn of_webhook(config: &Value) -> Result<Self, String> {
        let trust = trust(text(config, &["caBundle"]))?;
        if let Some(service) = at(config, &["service"]) {
            return Self::of_service(service, trust);
        }
        let url = text(config, &["url"]);
        if url.is_empty() {
            return Err("webhook configuration must have either service or URL".to_owned());
        }
        let unreadable = || format!("Unparsable URL: {url:?}");
        let uri: Uri = url.parse().map_err(|_| unreadable())?;
        if uri.scheme_str() != Some("https") {
            return Err("'https' is the only allowed URL scheme".to_owned());
        }
        let target = Self::of_url(&uri, trust).map_err(|_| unreadable())?;
        let path = if uri.path() == "/" && !url.ends_with('/') { "" } else { uri.path() };
        Ok(Self { path: path.to_owned(), ..target })
    }

    /// Where a URL leads.
    ///
    /// # Errors
    ///
    /// When that is nowhere.
    pub(crate) fn of_url(uri: &Uri, trust: Trust) -> Result<Self, String> {
        let authority = uri.authority().ok_or_else(|| format!("Unparsable URL: {uri:?}"))?;
        let plain = uri.scheme_str() == Some("http");
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if plain { HTTP } else { HTTPS });
        let place = Place::Host { host, port, authority: authority.as_str().to_owned() };
        Ok(Self { place, path: uri.path().to_owned(), trust, server_name: None, plain, proxy: None })
    }

    /// Reads a `ServiceReference`, with or without a path.
    ///
    /// # Errors
    ///
    /// When the port is none.
    pub(crate) fn of_service(service: &Value, trust: Trust) -> Result<Self, String> {
        let port = match number(service, &["port"]) {
            None | Some(0) => HTTPS,
            Some(port) => u16::try_from(port).map_err(|_| format!("port {port} is not valid"))?,
        };
        let (namespace, name) =
            (text(service, &["namespace"]).to_owned(), text(service, &["name"]).to_owned());
        let path = match text(service, &["path"]) {
            "" => String::new(),
            path if path.starts_with('/') => path.to_owned(),
            path => format!("/{path}"),
        };
        let place = Place::Service { namespace, name, port };
        Ok(Self { place, path, trust, server_name: None, plain: false, proxy: None })
    }

    /// The name that the server's certificate must be for.
    pub(super) fn server_name(&self) -> String {
        match (&self.server_name, &self.place) {
            (Some(name), _) => name.clone(),
            (None, Place::Host { host, .. }) => host.clone(),
            (None, Place::Service { namespace, name, .. }) => format!("{name}.{namespace}.svc"),
        }
    }

    /// `host:port` as it stands in URLs and in the `Host` header.
    pub(crate) fn authority(&self) -> String {
        match &self.place {
            Place::Host { authority, .. } => authority.clone(),
            Place::Service { namespace, name, port } => format!("{name}.{namespace}.svc:{port}"),
        }
    }

    /// How a program sees it that is asked for credentials.
    pub(super) fn called(&self) -> Called {
        let server_name = match &self.place {
            Place::Host { .. } => self.server_name.clone(),
            Place::Service { .. } => Some(self.server_name()),
        };
        Called {
            server: format!("https://{}", self.authority()),
            server_name,
            trust: self.trust.clone(),
            proxy: None,
        }
    }

    /// The URL that is called, with a query or none.
    pub(crate) fn url(&self, query: &str) -> String {
        let mark = if query.is_empty() { "" } else { "?" };
        let path = if self.path.is_empty() { "/" } else { &self.path };
        format!("https://{}{path}{mark}{query}", self.authority())
    }
}

/// What a `caBundle` says: base64 of PEM, or nothing.
///
/// # Errors
///
/// When it is not that.
pub(crate) fn trust(bundle: &str) -> Result<Trust, String> {
    let bytes = STANDARD.decode(bundle).map_err(|_| "caBundle is not base64".to_owned())?;
    let pem = String::from_utf8(bytes).map_err(|_| "caBundle is not PEM".to_owned())?;
    Ok(if pem.trim().is_empty() { Trust::System } else { Trust::Authority(pem) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(config: Value, expected: Result<(&str, &str), &str>) {
        let found = Target::of_webhook(&config);
        let found = found.as_ref().map(|one| (one.url(""), one.server_name()));
        let found = found.as_ref().map(|(url, name)| (url.as_str(), name.as_str()));
        assert_eq!(found.map_err(|why| why.as_str()), expected, "{config}");
    }

    #[test]
    fn configuration_names_a_server() {
        check(json!({ "url": "https://a.example/b" }), Ok(("https://a.example/b", "a.example")));
        check(json!({ "url": "https://[::1]:8443" }), Ok(("https://[::1]:8443/", "::1")));
        check(
            json!({ "service": { "namespace": "n", "name": "s", "path": "/p" } }),
            Ok(("https://s.n.svc:443/p", "s.n.svc")),
        );
        check(
            json!({ "service": { "namespace": "n", "name": "s", "port": 8443 } }),
            Ok(("https://s.n.svc:8443/", "s.n.svc")),
        );
        check(json!({}), Err("webhook configuration must have either service or URL"));
        check(json!({ "url": "http://a" }), Err("'https' is the only allowed URL scheme"));
        check(json!({ "url": "https://a", "caBundle": "!" }), Err("caBundle is not base64"));
    }

    #[test]
    fn empty_bundle_means_what_the_machine_trusts() {
        assert_eq!(trust(""), Ok(Trust::System));
        assert_eq!(trust("IAo="), Ok(Trust::System));
        assert_eq!(trust("eA=="), Ok(Trust::Authority("x".into())));
    }
}
