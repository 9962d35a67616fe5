//! The webhook backend: events in lists, posted to the server that a kubeconfig file names.
//!
//! Whatever goes wrong is tried again, with longer and longer pauses; what five tries do not bring there is lost and
//! counted.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::event::Event;
use super::metrics::AuditMetrics;
use super::output::Backend;
use crate::callout::Fixed;
use crate::error::Error;

const TRIES: u32 = 5;
const LONGER: f64 = 1.5;
/// One try takes at most so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// The backend.
pub(crate) struct Webhook {
    server: Fixed,
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
        Ok(Self { server: Fixed::from_kubeconfig_or_plain(kubeconfig)?, pause })
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
            let why = match self.server.post(body.clone(), PATIENCE).await {
                Ok(_) => return true,
                Err(failed) => failed.to_string(),
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

    use http::header::AUTHORIZATION;
    use http::{Request, Response, StatusCode};
    use http_body_util::{BodyExt, Full};
    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
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
