//! Single probes: a command, an HTTP request, a TCP connection, a gRPC health check.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use skep_runtime::Runtime;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::Target;

/// No more of an answer is read.
const BODY_MAX: usize = 10 << 10;

/// Probes once. The caller enforces the timeout, which commands must be told of too.
pub(super) async fn probe(runtime: &dyn Runtime, target: &Target, probe: &Probe) -> Result<(), String> {
    if let Some(exec) = &probe.exec {
        let seconds = probe.timeout_seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(1).max(1);
        let command = exec.command.clone().unwrap_or_default();
        let answer = runtime.exec_sync(&target.id, command, Duration::from_secs(seconds)).await;
        let answer = answer.map_err(|error| crate::describe(&error))?;
        if answer.exit_code == 0 {
            return Ok(());
        }
        let said = [answer.stdout, answer.stderr].concat();
        return Err(String::from_utf8_lossy(&said[..said.len().min(BODY_MAX)]).into_owned());
    }
    if let Some(request) = &probe.http_get {
        return match http(request, target).await? {
            200..=399 => Ok(()),
            code => Err(format!("HTTP probe failed with statuscode: {code}")),
        };
    }
    if let Some(socket) = &probe.tcp_socket {
        let port = port(&socket.port, &target.container)?;
        let host = socket.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(&target.ip);
        return connect(host, port).await.map(drop);
    }
    if let Some(action) = &probe.grpc {
        let port = u16::try_from(action.port).map_err(|_| format!("invalid port {}", action.port))?;
        return grpc(&target.ip, port, action.service.as_deref().unwrap_or_default()).await;
    }
    Err("the probe has no handler that is supported".into())
}

/// A port by number, or by the name that the container gives it.
fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name));
            named.map(|port| port.container_port).or_else(|| name.parse().ok())
        }
    };
    let number = number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0);
    number.ok_or_else(|| format!("couldn't find port: {port:?}"))
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    TcpStream::connect((bare, port)).await.map_err(|error| format!("dial tcp {host}:{port}: {error}"))
}

/// Sends a GET request and returns the status code. Redirects are answers like any other, as 3xx is a success.
pub(crate) async fn http(action: &HTTPGetAction, target: &Target) -> Result<u16, String> {
    let port = port(&action.port, &target.container)?;
    let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(&target.ip);
    let stream = connect(host, port).await?;
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let request = request(action, &authority)?;
    if action.scheme.as_deref() == Some("HTTPS") {
        let stream = tls(stream, host).await?;
        return send(stream, request).await;
    }
    send(stream, request).await
}

fn request(action: &HTTPGetAction, authority: &str) -> Result<Request<Empty<Bytes>>, String> {
    let path = action.path.as_deref().unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut request = Request::get(path).body(Empty::new()).map_err(|error| error.to_string())?;
    let headers = request.headers_mut();
    headers.insert(http::header::USER_AGENT, HeaderValue::from_static("kube-probe/1.36"));
    headers.insert(http::header::ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    let host = HeaderValue::from_str(authority).map_err(|error| error.to_string())?;
    headers.insert(http::header::HOST, host);
    for header in action.http_headers.iter().flatten() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|error| error.to_string())?;
        let value = HeaderValue::from_str(&header.value).map_err(|error| error.to_string())?;
        headers.insert(name, value);
    }
    Ok(request)
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<u16, String> {
    let io = TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(io).await.map_err(|error| crate::describe(&error))?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|error| crate::describe(&error))?;
        let code = answer.status().as_u16();
        // The server is let finish, so that it does not see a broken connection.
        let _ = Limited::new(answer.into_body(), BODY_MAX).collect().await;
        Ok(code)
    };
    let mut connection = std::pin::pin!(connection);
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        code = &mut exchange => code,
        _ = &mut connection => exchange.await,
    }
}

/// TLS without looking at the certificate: a probe asks whether the server works, not who it is.
async fn tls(
    stream: TcpStream,
    host: &str,
) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.map_err(|error| error.to_string())
}

#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &rustls::pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &rustls::pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`; status 1 is SERVING.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

async fn grpc(ip: &str, port: u16, service: &str) -> Result<(), String> {
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{host}:{port}"));
    let channel = endpoint.map_err(|error| crate::describe(&error))?.connect().await;
    let mut client = tonic::client::Grpc::new(channel.map_err(|error| crate::describe(&error))?);
    client.ready().await.map_err(|error| crate::describe(&error))?;
    let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let codec: tonic_prost::ProstCodec<HealthRequest, HealthResponse> = tonic_prost::ProstCodec::default();
    let request = tonic::Request::new(HealthRequest { service: service.to_owned() });
    let answer = client.unary(request, path, codec).await.map_err(|status| status.to_string())?;
    match answer.into_inner().status {
        1 => Ok(()),
        status => Err(format!("service unhealthy (responded with status {status})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A server that answers one request with `answer` and gives back what it was asked.
    async fn ask(action: Value, answer: &'static str) -> (Result<u16, String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let ports = json!({"name": "a", "ports": [{"name": "web", "containerPort": port}]});
        let container: Container = serde_json::from_value(ports).expect("a container");
        let target = Target { id: "c".into(), ip: "127.0.0.1".into(), container: Arc::new(container) };
        let action: HTTPGetAction = serde_json::from_value(action).expect("an action");
        let serve = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut bytes = vec![0; 4096];
            let length = stream.read(&mut bytes).await.expect("a request");
            stream.write_all(answer.as_bytes()).await.expect("an answer");
            String::from_utf8_lossy(&bytes[..length]).into_owned()
        };
        tokio::join!(http(&action, &target), serve)
    }

    #[tokio::test]
    async fn http_request_goes_to_the_named_port_with_its_headers() {
        let action = json!({"port": "web", "path": "/health?x=1",
            "httpHeaders": [{"name": "X-Own", "value": "yes"}, {"name": "Host", "value": "app"}]});
        let answer = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
        let (code, asked) = ask(action, answer).await;
        assert_eq!(code, Ok(503));
        assert!(asked.starts_with("GET /health?x=1 HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("x-own: yes\r\n") && asked.contains("host: app\r\n"), "{asked}");
    }

    #[tokio::test]
    async fn http_answer_that_is_none_is_an_error() {
        let (code, _) = ask(json!({"port": "web"}), "SSH-2.0-x\r\n").await;
        assert!(code.is_err());
    }

    #[test]
    fn port_is_found_by_number_and_name() {
        let container = json!({"name": "a", "ports": [{"name": "web", "containerPort": 80}]});
        let container: Container = serde_json::from_value(container).expect("a container");
        assert_eq!(port(&IntOrString::Int(8080), &container), Ok(8080));
        assert_eq!(port(&IntOrString::String("web".into()), &container), Ok(80));
        assert!(port(&IntOrString::String("none".into()), &container).is_err());
        assert!(port(&IntOrString::Int(0), &container).is_err());
    }
}
