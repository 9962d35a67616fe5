//! A server whose machine is cut off, in network namespaces; needs root and the tier `kernel`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use kube::client::Body;
use kube::{Client, Config};

use super::{ClientError, Patience, from_config, from_kubeconfig};

/// What this process is: `client` in the namespace of the test, `server` in the one that is cut off.
const ROLE: &str = "SKEP_CLIENT_TEST_ROLE";

const PATIENCE: Patience = Patience {
    asks_after: Duration::from_secs(1),
    unacknowledged: Duration::from_secs(3),
    connect: Duration::from_secs(2),
    says_nothing: Duration::from_secs(600),
};
/// When a cut must have been noticed: what is given up after 3 s, and the last question before that.
const NOTICED: Duration = Duration::from_secs(6);

fn sh(script: &str) {
    let status = Command::new("sh").args(["-ec", script]).status().unwrap();
    assert!(status.success(), "{script}: {status}");
}

/// This test in another role, with `before` in front of its command.
fn role(before: &mut Command, test: &str, role: &str) -> Child {
    before
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("tests::{test}"), "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The machine of the server, whose cable can be pulled.
struct Machine(Child);

impl Machine {
    /// In a namespace of its own, and the server of `test` in it.
    fn start(test: &str) -> Self {
        let mut server = role(Command::new("unshare").arg("--net"), test, "server");
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        assert!(lines.by_ref().any(|line| line.unwrap().ends_with("made")), "the namespace is there");
        let pid = server.id();
        sh(&format!(
            "ip link add cable type veth peer name eth0 netns {pid}
            ip addr add 10.0.0.1/24 dev cable; ip link set cable up; ip link set lo up
            nsenter -t {pid} -n sh -ec 'ip addr add 10.0.0.2/24 dev eth0; ip link set eth0 up'"
        ));
        std::thread::spawn(move || lines.for_each(drop));
        Self(server)
    }

    /// Pulls the cable: what is sent gets lost, and nobody is told.
    fn cut(&self) {
        sh(&format!("nsenter -t {} -n ip link set eth0 down", self.0.id()));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Answers `/healthz`, and for everything else begins an answer that does not end.
fn serve() -> ! {
    println!("made");
    let listener = loop {
        match TcpListener::bind("10.0.0.2:8080") {
            Ok(listener) => break listener,
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        std::thread::spawn(move || {
            let mut request = [0; 4096];
            while let Ok(1..) = stream.read(&mut request) {
                let whole = request.starts_with(b"GET /healthz");
                let answer: &[u8] = if whole {
                    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
                } else {
                    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n"
                };
                stream.write_all(answer).unwrap();
            }
        });
    }
}

/// Whether this process is the client in its namespace; otherwise does what it is for.
fn is_client(test: &str) -> bool {
    match std::env::var(ROLE).as_deref() {
        Ok("server") => serve(),
        Ok(_) => return true,
        Err(_) => {}
    }
    let tiers = std::env::var("SKEP_TEST_TIERS").unwrap_or_default();
    if !tiers.split([',', ' ']).any(|tier| tier == "kernel") {
        println!("skipped: needs tier kernel");
        return false;
    }
    let output = role(Command::new("unshare").arg("--net"), test, "client").wait_with_output().unwrap();
    print!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{test} inside the namespace: {}", output.status);
    false
}

async fn connected() -> Client {
    let client = from_config(Config::new("http://10.0.0.2:8080".parse().unwrap()), PATIENCE).unwrap();
    let begun = Instant::now();
    while let Err(error) = get(&client, "/healthz").await {
        assert!(begun.elapsed() < Duration::from_secs(20), "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    client
}

async fn get(client: &Client, path: &str) -> Result<String, kube::Error> {
    client.request_text(http::Request::get(path).body(Vec::new()).unwrap()).await
}

/// An answer of which the first piece has come.
async fn watch(client: &Client) -> Body {
    let request = http::Request::get("/watch").body(Body::empty()).unwrap();
    let mut body = client.send(request).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "{}");
    body
}

#[tokio::test]
async fn watch_of_a_server_that_is_cut_off_ends_and_one_of_a_server_that_is_silent_does_not() {
    let test = "watch_of_a_server_that_is_cut_off_ends_and_one_of_a_server_that_is_silent_does_not";
    if !is_client(test) {
        return;
    }
    let machine = Machine::start(test);
    let mut body = watch(&connected().await).await;
    let silent = tokio::time::timeout(NOTICED, body.frame()).await;
    assert!(silent.is_err(), "it is there, and says nothing: {silent:?}");
    machine.cut();
    let cut = Instant::now();
    let ended = tokio::time::timeout(2 * NOTICED, body.frame()).await;
    assert!(ended.expect("the watch ends").unwrap().is_err(), "and says that it was not the server's doing");
    println!("noticed after {:?}", cut.elapsed());
    assert!(cut.elapsed() < NOTICED, "{:?}", cut.elapsed());
}

#[tokio::test]
async fn request_over_a_connection_to_a_server_that_was_cut_off_fails_in_time() {
    let test = "request_over_a_connection_to_a_server_that_was_cut_off_fails_in_time";
    if !is_client(test) {
        return;
    }
    let machine = Machine::start(test);
    let client = connected().await;
    get(&client, "/healthz").await.unwrap();
    machine.cut();
    for round in ["over the connection that there was", "over one that is never made"] {
        let asked = Instant::now();
        let answer = tokio::time::timeout(2 * NOTICED, get(&client, "/healthz")).await;
        assert!(answer.expect("it fails").is_err(), "{round}");
        println!("{round}: failed after {:?}", asked.elapsed());
        assert!(asked.elapsed() < NOTICED, "{round}: {:?}", asked.elapsed());
    }
}

#[tokio::test]
async fn kubeconfig_that_is_not_there_or_says_nothing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    for content in [None, Some("apiVersion: v1\nkind: Config\n"), Some("clusters: 7\n")] {
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let error = from_kubeconfig(&path).await.err().unwrap();
        assert!(matches!(error, ClientError::Read { .. }), "{error:?}");
        assert!(error.to_string().contains("kubeconfig"), "{error}");
    }
}
