//! The webhook backend: events in lists, posted to the server that a kubeconfig file names.
//!
//! Whatever goes wrong is tried again, with longer and longer pauses; what five tries do not bring there is lost and
//! counted. A batch has a connection of its own: there are a few per second at most.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::{Request, Uri};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::event::Event;
use super::kubeconfig::Reach;
use super::metrics::AuditMetrics;
use super::output::Backend;
use crate::error::Error;
use crate::tls::{certificates, private_key, roots};

const TRIES: u32 = 5;
const LONGER: f64 = 1.5;
/// One try takes at most so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// The backend.
pub(crate) struct Webhook {
    url: Uri,
    secure: Option<(TlsConnector, ServerName<'static>)>,
    authorization: Option<HeaderValue>,
    /// The first pause.
    pause: Duration,
}

impl Webhook {
    /// The webhook of a kubeconfig file.
    ///
    /// # Errors
    ///
    /// When the file or what it names cannot be used.
    pub(crate) fn open(kubeconfig: &Path, pause: Duration) -> Result<Self, Error> {
        let reach = Reach::read(kubeconfig)?;
        let invalid = |reason: &str| Error::Configuration {
            what: "audit webhook configuration",
            path: kubeconfig.to_owned(),
            reason: reason.to_owned(),
        };
        let authorization = match &reach.token {
            None => None,
            Some(token) => {
                let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                    .map_err(|_| invalid("the token cannot be sent"))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let secure = match reach.url.scheme_str() {
            Some("https") => {
                let host = reach.url.host().unwrap_or_default();
                let name = reach.server_name.as_deref().unwrap_or(host.trim_matches(['[', ']']));
                let name = ServerName::try_from(name.to_owned()).map_err(|_| invalid("not a server name"))?;
                Some((TlsConnector::from(Arc::new(client(&reach)?)), name))
            }
            _ => None,
        };
        Ok(Self { url: reach.url, secure, authorization, pause })
    }

    async fn once(&self, body: Bytes) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let host = self.url.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = self.url.port_u16().unwrap_or(if self.secure.is_some() { 443 } else { 80 });
        let stream = TcpStream::connect((host, port)).await.map_err(|error| text(&error))?;
        match &self.secure {
            None => self.post(stream, body).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await.map_err(|error| text(&error))?;
                self.post(stream, body).await
            }
        }
    }

    async fn post<S>(&self, stream: S, body: Bytes) -> Result<(), String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        let target = self.url.path_and_query().map_or("/", |target| target.as_str());
        let authority = self.url.authority().map_or("", |authority| authority.as_str());
        let mut request = Request::post(target)
            .header(HOST, authority)
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, "skep-control");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        // The connection ends with the sender.
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(|error| error.to_string());
        drop(sender);
        connection.abort();
        match answer?.status() {
            code if code.is_success() => Ok(()),
            code => Err(format!("the webhook answered {code}")),
        }
    }
}

fn client(reach: &Reach) -> Result<ClientConfig, Error> {
    let failed =
        |source: rustls::Error| Error::Tls { operation: "reach the audit webhook", source: Box::new(source) };
    let authorities = match &reach.authority {
        Some(pem) => roots(pem)?,
        None => RootCertStore::empty(),
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(authorities);
    match &reach.identity {
        None => Ok(builder.with_no_client_auth()),
        Some(leaf) => builder
            .with_client_auth_cert(certificates(&leaf.certificate_pem)?, private_key(&leaf.key_pem)?)
            .map_err(failed),
    }
}

/// The list that a batch is.
fn list(events: &[Arc<Event>]) -> Bytes {
    let mut list = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#.to_vec();
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            list.push(b',');
        }
        list.extend_from_slice(event.json_line().trim_ascii_end());
    }
    list.extend_from_slice(b"]}");
    list.into()
}

#[async_trait]
impl Backend for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    async fn write(&self, events: &[Arc<Event>], metrics: &AuditMetrics) -> bool {
        let (body, mut pause) = (list(events), self.pause);
        for attempt in 1..=TRIES {
            let tried = tokio::time::timeout(PATIENCE, self.once(body.clone())).await;
            let why = match tried {
                Ok(Ok(())) => return true,
                Ok(Err(why)) => why,
                Err(_) => "the webhook did not answer in time".to_owned(),
            };
            if attempt == TRIES {
                metrics.lost(self.name(), &why, events);
                return false;
            }
            tracing::debug!(why, attempt, "audit events did not reach the webhook, trying again");
            tokio::time::sleep(pause).await;
            pause = pause.mul_f64(LONGER);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{Response, StatusCode};
    use http_body_util::BodyExt;
    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use jiff::Timestamp;
    use parking_lot::Mutex;
    use prometheus::Registry;
    use serde_json::Value;
    use tokio::net::TcpListener;

    use super::super::policy::Level;
    use super::*;

    struct Test {
        webhook: Webhook,
        /// Bodies with the `Authorization` that they came with.
        got: Arc<Mutex<Vec<(Value, String)>>>,
        _directory: tempfile::TempDir,
    }

    /// A webhook that fails so often, and then takes what comes.
    async fn test(failures: usize) -> Test {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let got: Arc<Mutex<Vec<(Value, String)>>> = Arc::default();
        let (kept, count) = (got.clone(), Arc::new(AtomicUsize::new(0)));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (kept, count) = (kept.clone(), count.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (kept, count) = (kept.clone(), count.clone());
                    async move {
                        let token = request.headers().get(AUTHORIZATION);
                        let token = token.map_or("", |token| token.to_str().unwrap()).to_owned();
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        let mut response = Response::new(Full::new(Bytes::new()));
                        if count.fetch_add(1, Ordering::SeqCst) < failures {
                            *response.status_mut() = StatusCode::BAD_REQUEST;
                        } else {
                            kept.lock().push((serde_json::from_slice(&body).unwrap(), token));
                        }
                        Ok::<_, Infallible>(response)
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("webhook.yaml");
        let text = format!(
            "current-context: c\ncontexts: [{{name: c, context: {{cluster: s, user: u}}}}]\n\
             clusters: [{{name: s, cluster: {{server: 'http://{address}/audit'}}}}]\n\
             users: [{{name: u, user: {{token: secret}}}}]\n"
        );
        std::fs::write(&path, text).unwrap();
        Test { webhook: Webhook::open(&path, Duration::from_millis(1)).unwrap(), got, _directory: directory }
    }

    fn events() -> Vec<Arc<Event>> {
        let event = |id: &str| Arc::new(Event::new(Level::Metadata, id.into(), Timestamp::UNIX_EPOCH));
        vec![event("a"), event("b")]
    }

    #[tokio::test]
    async fn batch_arrives_as_a_list_with_the_token() {
        let test = test(0).await;
        assert!(test.webhook.write(&events(), &AuditMetrics::new(&Registry::new())).await);
        let got = test.got.lock();
        let (list, token) = &got[0];
        assert_eq!((&list["kind"], token.as_str()), (&Value::from("EventList"), "Bearer secret"));
        assert_eq!(list["items"][1]["auditID"], "b");
    }

    #[tokio::test]
    async fn any_failure_is_tried_again_and_five_of_them_lose_the_events() {
        for (failures, arrives) in [(4, true), (5, false)] {
            let test = test(failures).await;
            let registry = Registry::new();
            assert_eq!(test.webhook.write(&events(), &AuditMetrics::new(&registry)).await, arrives);
            assert_eq!(test.got.lock().len(), usize::from(arrives));
            let lost = registry.gather().iter().any(|one| one.name() == "apiserver_audit_error_total");
            assert_eq!(lost, !arrives);
        }
    }
}
