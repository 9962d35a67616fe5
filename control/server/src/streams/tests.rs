//! Streams against a node that is real on the wire: mutual TLS on loopback, an HTTP server, an upgrade.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use tower::service_fn;

use super::client::{Endpoint, Security};
use super::pods::{container, log_query, terminal_query};
use super::proxy::leads_out;
use super::{NodeClient, Streams};
use crate::authz::Authz;
use crate::body::{self, Body};
use crate::gate::Credentials;
use crate::pki::{Pki, ServingNames};
use crate::request::RequestInfo;
use crate::testing::Objects;
use crate::tls::{Limits, Listener, TlsKeys};
use crate::user::UserInfo;

struct Fixture {
    objects: Arc<Objects>,
    streams: Arc<Streams>,
    admin: UserInfo,
    /// Where the node listens.
    port: u16,
    _directory: tempfile::TempDir,
}

/// What the node does: echoes an upgraded connection in capitals, otherwise tells what it was asked.
async fn node(mut request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let identified = !request.extensions().get::<Credentials>().unwrap().certificates.is_empty();
    let path = request.uri().path_and_query().unwrap().to_string();
    if path.contains("/missing/") {
        let text = "container \"c\" in pod \"web\" is waiting to start: ContainerCreating\n";
        return Ok(Response::builder().status(400).body(body::full(text)).unwrap());
    }
    if path.starts_with("/page") {
        let page = Response::builder().header("content-type", "text/html; charset=utf-8");
        let page = page.header("access-control-allow-origin", "*").header("content-length", "25");
        return Ok(page.body(body::full("<a href='/next'>next</a>\n")).unwrap());
    }
    if path.starts_with("/moved") {
        let moved = Response::builder().status(302).header("location", "/page?x=1");
        return Ok(moved.body(body::empty()).unwrap());
    }
    if request.headers().contains_key("upgrade") {
        let protocol = request.headers().get("sec-websocket-protocol").cloned();
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut io = TokioIo::new(upgrade.await.unwrap());
            let mut buffer = [0; 64];
            loop {
                match io.read(&mut buffer).await {
                    Ok(n) if n > 0 => io.write_all(&buffer[..n].to_ascii_uppercase()).await.unwrap(),
                    _ => return,
                }
            }
        });
        let mut response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
        response =
            response.header("connection", "Upgrade").header("upgrade", "websocket").header("x-path", path);
        if let Some(protocol) = protocol {
            response = response.header("sec-websocket-protocol", protocol);
        }
        return Ok(response.body(body::empty()).unwrap());
    }
    let secret = request.headers().contains_key("authorization");
    let text = format!("{} {path} certificate={identified} secret={secret}", request.method());
    Ok(Response::new(body::full(text)))
}

async fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::open(directory.path(), ServingNames::default(), SystemTime::now()).unwrap();
    let ca = pki.ca_pem().unwrap();
    let keys = TlsKeys::new(&pki.serving().unwrap(), &ca).unwrap();
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), keys, Limits::default()).await.unwrap();
    let port = listener.address().unwrap().port();
    tokio::spawn(listener.serve(service_fn(node), CancellationToken::new()));
    let objects = Arc::new(Objects::default());
    objects.put("", "nodes", json!({"metadata": {"name": "n1"}, "status": {
        "addresses": [{"type": "Hostname", "address": "nowhere"}, {"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}}));
    objects.put(
        "",
        "nodes",
        json!({"metadata": {"name": "gone"}, "status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 1}}}}),
    );
    for (pod, node) in [("web", "n1"), ("lost", "gone"), ("new", ""), ("unknown", "n9")] {
        objects.put(
            "",
            "pods",
            json!({"metadata": {"name": pod, "namespace": "shop"},
            "spec": {"nodeName": node, "containers": [{"name": "c"}]}, "status": {"podIP": "127.0.0.1"}}),
        );
    }
    objects.put(
        "",
        "pods",
        json!({"metadata": {"name": "web", "namespace": "missing"},
        "spec": {"nodeName": "n1", "containers": [{"name": "c"}]}}),
    );
    let authz = Arc::new(Authz::new(Arc::clone(&objects) as _));
    let client = NodeClient::new(&ca, &pki.kubelet_client().unwrap()).unwrap();
    // The node is on loopback, where no node would be.
    let streams = Streams { leads_out: |_| true, ..Streams::new(client, Arc::clone(&objects) as _, authz) };
    let streams = Arc::new(streams);
    let admin = UserInfo::new("admin", &["system:masters"]);
    Fixture { objects, streams, admin, port, _directory: directory }
}

fn pod_info(namespace: &str, name: &str, subresource: &str) -> RequestInfo {
    RequestInfo {
        is_resource: true,
        verb: "get".into(),
        version: "v1".into(),
        namespace: namespace.into(),
        resource: "pods".into(),
        subresource: subresource.into(),
        name: name.into(),
        ..RequestInfo::default()
    }
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

impl Fixture {
    async fn get(&self, info: &RequestInfo, uri: &str) -> Result<Response<Body>, (u16, String)> {
        let request =
            Request::builder().uri(uri).header("authorization", "Bearer x").body(body::empty()).unwrap();
        self.streams.handle(&self.admin, info, request).await.map_err(|status| (status.code, status.message))
    }

    async fn log(&self, namespace: &str, pod: &str, query: &str) -> Result<String, (u16, String)> {
        let uri = format!("/api/v1/namespaces/{namespace}/pods/{pod}/log?{query}");
        Ok(text(self.get(&pod_info(namespace, pod, "log"), &uri).await?).await)
    }
}

#[tokio::test]
async fn log_reaches_the_node_with_certificate_and_without_the_users_token() {
    let fixture = fixture().await;
    let answer =
        fixture.log("shop", "web", "container=c&tailLines=5&follow=true&timestamps=false").await.unwrap();
    assert_eq!(answer, "GET /containerLogs/shop/web/c?follow=true&tailLines=5 certificate=true secret=false");
}

#[tokio::test]
async fn log_table_of_refusals() {
    let fixture = fixture().await;
    let table = [
        ("shop", "none", "", 404, "pods \"none\" not found"),
        ("shop", "web", "container=x", 400, "container x is not valid for pod web"),
        ("shop", "web", "tailLines=-1", 422, "must be greater than or equal to 0"),
        ("shop", "web", "tailLines=x", 400, "invalid syntax"),
        ("shop", "web", "sinceSeconds=0", 422, "must be greater than 0"),
        ("shop", "lost", "", 500, "error dialing backend: dial tcp 127.0.0.1:1"),
        ("shop", "unknown", "", 404, "nodes \"n9\" not found"),
        ("missing", "web", "", 400, "is waiting to start: ContainerCreating"),
    ];
    for (namespace, pod, query, code, message) in table {
        let (found, text) = fixture.log(namespace, pod, query).await.unwrap_err();
        assert_eq!(found, code, "{pod} {query}: {text}");
        assert!(text.contains(message), "{pod} {query}: {text}");
    }
    assert_eq!(fixture.log("shop", "new", "").await.unwrap(), "");
}

#[tokio::test]
async fn node_with_foreign_certificate_is_not_trusted() {
    let fixture = fixture().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Pki::open(elsewhere.path(), ServingNames::default(), SystemTime::now()).unwrap();
    fixture.streams.nodes.reload(&other.ca_pem().unwrap(), &other.kubelet_client().unwrap()).unwrap();
    let (code, message) = fixture.log("shop", "web", "").await.unwrap_err();
    assert_eq!(code, 500);
    assert!(message.contains("certificate"), "{message}");
}

/// The API server's side of an exec: a plain HTTP server in front of the streams, and a client that upgrades.
async fn front(fixture: &Fixture) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (streams, admin) = (Arc::clone(&fixture.streams), fixture.admin.clone());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (streams, admin) = (Arc::clone(&streams), admin.clone());
            let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                let (streams, admin) = (Arc::clone(&streams), admin.clone());
                let answer: BoxFuture<'static, Result<Response<Body>, Infallible>> = Box::pin(async move {
                    let info = pod_info("shop", "web", "exec");
                    let answer = streams.handle(&admin, &info, request.map(body::boxed)).await;
                    Ok(answer.unwrap_or_else(|status| {
                        Response::builder().status(status.code).body(body::full(status.message)).unwrap()
                    }))
                });
                answer
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades(),
            );
        }
    });
    address
}

#[tokio::test]
async fn exec_upgrade_becomes_a_tunnel_of_bytes() {
    let fixture = fixture().await;
    let address = front(&fixture).await;
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    let path = "/api/v1/namespaces/shop/pods/web/exec?command=sh&command=-c&container=c&stdin=true&stdout=true&stderr=true";
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.YWJj\r\n\r\n"
    );
    client.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(client.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap().to_lowercase();
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    assert!(
        answer.contains("x-path: /exec/shop/web/c?input=1&output=1&error=1&command=sh&command=-c\r\n"),
        "{answer}"
    );
    assert!(answer.contains("sec-websocket-protocol: v5.channel.k8s.io\r\n"), "{answer}");
    client.write_all(b"hello").await.unwrap();
    let mut echo = [0; 5];
    client.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"HELLO");
}

#[tokio::test]
async fn exec_without_upgrade_or_right_to_create_is_refused() {
    let fixture = fixture().await;
    let info = pod_info("shop", "web", "exec");
    let (code, message) = fixture.get(&info, "/api/v1/namespaces/shop/pods/web/exec").await.unwrap_err();
    assert_eq!((code, message.as_str()), (400, "Upgrade request required"));
    // Somebody who may get pods/exec but not create it.
    let rules = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods/exec"]}]);
    fixture.objects.put(
        "rbac.authorization.k8s.io",
        "clusterroles",
        json!({"metadata": {"name": "r"}, "rules": rules}),
    );
    fixture.objects.put(
        "rbac.authorization.k8s.io",
        "clusterrolebindings",
        json!({"metadata": {"name": "b"},
        "roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "User", "name": "jane"}]}),
    );
    let request = Request::builder().uri("/").body(body::empty()).unwrap();
    let status = fixture.streams.handle(&UserInfo::new("jane", &[]), &info, request).await.unwrap_err();
    assert_eq!(status.code, 403);
    assert!(status.message.contains("cannot create resource \"pods/exec\""), "{}", status.message);
}

#[tokio::test]
async fn node_proxy_passes_the_rest_of_the_path_as_it_was_sent() {
    let fixture = fixture().await;
    let info =
        RequestInfo { resource: "nodes".into(), namespace: String::new(), ..pod_info("", "n1", "proxy") };
    let answer = fixture.get(&info, "/api/v1/nodes/n1/proxy/stats/a%2Fb?x=1").await.unwrap();
    assert_eq!(text(answer).await, "GET /stats/a%2Fb?x=1 certificate=true secret=false");
    let answer = fixture.get(&info, "/api/v1/nodes/n1/proxy?x=1").await.unwrap();
    assert_eq!(answer.status(), 301);
    assert_eq!(answer.headers()["location"], "/api/v1/nodes/n1/proxy/?x=1");
}

#[tokio::test]
async fn proxied_page_and_redirect_lead_through_the_proxy() {
    let fixture = fixture().await;
    let info =
        RequestInfo { resource: "nodes".into(), namespace: String::new(), ..pod_info("", "n1", "proxy") };
    let answer = fixture.get(&info, "/api/v1/nodes/n1/proxy/page/").await.unwrap();
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
    assert!(!answer.headers().contains_key("content-length"));
    assert_eq!(text(answer).await, "<a href=\"/api/v1/nodes/n1/proxy/next\">next</a>\n");
    let answer = fixture.get(&info, "/api/v1/nodes/n1/proxy/moved").await.unwrap();
    assert_eq!(answer.headers()["location"], "/api/v1/nodes/n1/proxy/page?x=1");
}

#[tokio::test]
async fn proxy_to_nobody_is_unavailable() {
    let fixture = fixture().await;
    let info =
        RequestInfo { resource: "nodes".into(), namespace: String::new(), ..pod_info("", "gone", "proxy") };
    let (code, message) = fixture.get(&info, "/api/v1/nodes/gone/proxy/x").await.unwrap_err();
    assert_eq!(code, 503);
    assert!(message.starts_with("error trying to reach service: dial tcp 127.0.0.1:1: "), "{message}");
}

/// Another port of a node is not the node agent: TLS to it proves nothing, and shows nothing of the server.
#[tokio::test]
async fn https_target_is_reached_without_the_servers_certificate() {
    let fixture = fixture().await;
    let name = format!("https:gone:{}", fixture.port);
    let info =
        RequestInfo { resource: "nodes".into(), namespace: String::new(), ..pod_info("", &name, "proxy") };
    let answer = fixture.get(&info, &format!("/api/v1/nodes/{name}/proxy/x")).await.unwrap();
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(text, "GET /x certificate=false secret=false");
    let info = RequestInfo { name: format!("ftp:gone:{}", fixture.port), ..info };
    assert_eq!(fixture.get(&info, "/api/v1/nodes/ftp:gone:1/proxy/x").await.unwrap_err().0, 400);
}

#[tokio::test]
async fn pod_proxy_never_reaches_the_servers_own_machine() {
    let fixture = fixture().await;
    let info = pod_info("shop", "web:8080", "proxy");
    let (code, message) =
        fixture.get(&info, "/api/v1/namespaces/shop/pods/web:8080/proxy/").await.unwrap_err();
    assert_eq!((code, message.as_str()), (400, "address not allowed"));
}

#[tokio::test]
async fn node_proxy_never_reaches_the_servers_own_machine() {
    let mut fixture = fixture().await;
    Arc::get_mut(&mut fixture.streams).unwrap().leads_out = leads_out;
    let table = [
        ("InternalIP", "127.0.0.1", "address not allowed"),
        ("InternalIP", "169.254.169.254", "address not allowed"),
        ("ExternalIP", "::ffff:127.0.0.1", "address not allowed"),
        ("InternalIP", "fe80::1", "address not allowed"),
        ("InternalIP", "0.0.0.0", "address not allowed"),
        // A name is as good as what it leads to.
        ("Hostname", "localhost", "address not allowed"),
    ];
    for (kind, address, why) in table {
        let status = json!({"addresses": [{"type": kind, "address": address}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": fixture.port}}});
        fixture.objects.put("", "nodes", json!({"metadata": {"name": "liar"}, "status": status}));
        for name in ["liar".to_owned(), format!("http:liar:{}", fixture.port)] {
            let info = RequestInfo {
                resource: "nodes".into(),
                namespace: String::new(),
                ..pod_info("", &name, "proxy")
            };
            let uri = format!("/api/v1/nodes/{name}/proxy/x");
            let (code, message) = fixture.get(&info, &uri).await.unwrap_err();
            assert!(code == 400 && message.starts_with(why), "{address}: {code} {message}");
        }
    }
    for private in ["10.0.0.1", "172.30.0.11", "192.168.1.2", "203.0.113.1", "fd00::1", "2001:db8::1"] {
        assert!(leads_out(private.parse().unwrap()), "{private}");
    }
}

/// Between the check and the connection nobody can put another address in the name's place.
#[tokio::test]
async fn connection_goes_to_the_addresses_that_were_looked_up() {
    let fixture = fixture().await;
    let endpoint = Endpoint {
        host: "nowhere.invalid".into(),
        addresses: vec!["127.0.0.1".parse().unwrap()],
        port: fixture.port,
        security: Security::Unverified,
    };
    fixture.streams.nodes.connect(&endpoint).await.unwrap();
}

#[test]
fn container_choice_table() {
    let pod = |names: &[&str], init: &[&str]| -> Value {
        let list = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
        json!({"metadata": {"name": "p"}, "spec": {"containers": list(names), "initContainers": list(init)}})
    };
    let pick = |pod: Value, asked| container(&pod, asked).map_err(|status| status.message);
    assert_eq!(pick(pod(&["a"], &["i"]), None), Ok("a".into()));
    assert_eq!(pick(pod(&["a", "b"], &["i"]), Some("i")), Ok("i".into()));
    let several = "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]";
    assert_eq!(pick(pod(&["a", "b"], &["i"]), None), Err(several.into()));
    assert_eq!(pick(pod(&["a"], &[]), Some("../x")), Err("container ../x is not valid for pod p".into()));
}

#[test]
fn options_become_the_nodes_names() {
    let options = |query: &str| form_urlencoded::parse(query.as_bytes()).into_owned().collect::<Vec<_>>();
    let terminal = |query| terminal_query(&options(query), true);
    assert_eq!(
        terminal("stdin=true&stdout=1&stderr=&tty=false&command=a+b"),
        "input=1&output=1&error=1&command=a+b"
    );
    assert_eq!(terminal("stdout=true&stderr=true&tty=true&command=sh"), "output=1&tty=1&command=sh");
    assert_eq!(terminal_query(&options("stdin=true&command=x"), false), "input=1");
    let logs = |query| log_query("p", &options(query)).map_err(|status| status.code);
    let why = log_query("p", &options("tailLines=-1&stream=Stdout")).unwrap_err().message;
    let (lines, both) = (
        "tailLines: Invalid value: -1: must be greater than or equal to 0",
        "[]: Forbidden: `tailLines` and specific `stream` are mutually exclusive for now",
    );
    assert_eq!(why, format!("PodLogOptions \"p\" is invalid: [{lines}, {both}]"));
    assert_eq!(
        logs("follow&limitBytes=10&sinceTime=2026-01-01T00:00:00Z").as_deref(),
        Ok("follow=true&limitBytes=10&sinceTime=2026-01-01T00%3A00%3A00Z")
    );
    assert_eq!(logs("sinceTime=2026-01-01T00:00:00Z&sinceSeconds=1"), Err(422));
    assert_eq!(logs("sinceTime=yesterday"), Err(400));
    assert_eq!(logs("stream=Stdin"), Err(422));
}
