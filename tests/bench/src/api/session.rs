//! Requests against the server: a namespace of the benchmark's own, and bodies read without being decoded.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::usage::Usage;

pub(super) const JSON: &str = "application/json";
const NAMESPACE: &str = "skep-bench";

/// A server that answers, and the namespace that the benchmark made there.
#[derive(Clone)]
pub(super) struct Session {
    client: Client,
    pub(super) usage: Usage,
}

/// What came back.
pub(super) struct Answer {
    /// Bytes of the body.
    pub(super) length: usize,
    /// From the request to the first byte of the body.
    pub(super) first_byte: Duration,
    /// From the request to the last byte.
    pub(super) took: Duration,
}

impl Session {
    /// Makes the namespace, and the service account that pods in it need where no controller makes one.
    pub(super) async fn open(client: Client, usage: Usage) -> anyhow::Result<Self> {
        let session = Self { client, usage };
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } });
        session.post("/api/v1/namespaces", &namespace).await.context("make the namespace")?;
        let path = session.core("serviceaccounts");
        let account =
            json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default" } });
        if let Err(error) = session.post(&path, &account).await
            && session.get(&format!("{path}/default")).await.is_err()
        {
            return Err(error.context("make the service account"));
        }
        Ok(session)
    }

    /// A session with a server that knows no objects.
    pub(super) fn unchecked(client: Client, usage: Usage) -> Self {
        Self { client, usage }
    }

    /// The path of a collection of the core group in the benchmark's namespace.
    pub(super) fn core(&self, resource: &str) -> String {
        format!("/api/v1/namespaces/{NAMESPACE}/{resource}")
    }

    /// The same, of `apps/v1`.
    pub(super) fn apps(&self, resource: &str) -> String {
        format!("/apis/apps/v1/namespaces/{NAMESPACE}/{resource}")
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(Method::POST, path, JSON, body.to_string().into()).await
    }

    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, path, JSON, Bytes::new()).await
    }

    /// Sends a request as another user; a body is a merge patch.
    ///
    /// # Errors
    /// As of [`Session::send`].
    pub(super) async fn send_as(
        &self,
        user: &str,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<Answer> {
        let begun = Instant::now();
        let request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header("accept", JSON)
            .header("content-type", "application/merge-patch+json")
            .header("impersonate-user", user)
            .body(Body::from(body.to_vec()))?;
        let response =
            self.client.send(request).await.with_context(|| format!("{method} {path} as {user}"))?;
        anyhow::ensure!(response.status().is_success(), "{method} {path} as {user}: {}", response.status());
        let length = response.into_body().collect().await?.to_bytes().len();
        let took = begun.elapsed();
        Ok(Answer { length, first_byte: took, took })
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// The connection fails, or the status is not of the 2xx.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Bytes,
    ) -> anyhow::Result<Answer> {
        let begun = Instant::now();
        let mut body = self.stream(method, path, kind, body).await?;
        let (mut length, mut first_byte) = (0, None);
        while let Some(frame) = body.frame().await {
            first_byte.get_or_insert_with(|| begun.elapsed());
            length += frame?.data_ref().map_or(0, Bytes::len);
        }
        let took = begun.elapsed();
        Ok(Answer { length, first_byte: first_byte.unwrap_or(took), took })
    }

    /// Sends a request and gives the body of the answer as it comes.
    pub(super) async fn stream(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Bytes,
    ) -> anyhow::Result<Body> {
        let request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header("accept", JSON)
            .header("content-type", kind)
            .body(Body::from(body.to_vec()))?;
        let response = self.client.send(request).await.with_context(|| format!("{method} {path}"))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response.into_body());
        }
        let said = response.into_body().collect().await?.to_bytes();
        anyhow::bail!("{method} {path}: {status}: {}", String::from_utf8_lossy(&said));
    }

    /// Removes what was made, as far as the API can.
    pub(super) async fn close(&self) -> anyhow::Result<()> {
        let delete = |path: String| async move { self.send(Method::DELETE, &path, JSON, Bytes::new()).await };
        for path in
            [self.core("pods?gracePeriodSeconds=0"), self.core("configmaps"), self.apps("deployments")]
        {
            delete(path).await?;
        }
        delete("/api/v1/nodes?labelSelector=bench%3Dtrue".into()).await?;
        delete(format!("/api/v1/namespaces/{NAMESPACE}")).await?;
        Ok(())
    }
}
