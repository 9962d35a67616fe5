//! What clients may take: time, places, streams, bytes; and how connections end.

use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{client, connect, get, server};
use crate::body;
use crate::testing::counted;
use crate::tls::Limits;

const HANDSHAKES: &str = "apiserver_tls_handshake_errors_total";

#[tokio::test]
async fn silent_client_is_cut_off() {
    let limits = Limits {
        handshake: Duration::from_millis(50),
        request_head: Duration::from_millis(50),
        connections: 1,
        ..Limits::default()
    };
    let server = server(limits).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(silent.read(&mut [0; 16]).await.unwrap_or(0), 0);
    let connector = client(&server.pki.ca_pem().unwrap(), None, "http/1.1");
    let mut slow = connect(&server, &connector, "localhost").await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
    let mut text = Vec::new();
    // Either a 408 or nothing, but an end.
    let _ = slow.read_to_end(&mut text).await;
    assert!(!text.starts_with(b"HTTP/1.1 200"));
    // The one place is free again.
    let stream = connect(&server, &connector, "localhost").await.unwrap();
    assert_eq!(get(stream, false).await.unwrap(), "0 h1");
    assert_eq!(counted(&server.registry, HANDSHAKES, &[]), Some(1.0), "of the one that never said anything");
    let mut other = TcpStream::connect(server.address).await.unwrap();
    other.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let _ = other.read_to_end(&mut Vec::new()).await;
    assert_eq!(counted(&server.registry, HANDSHAKES, &[]), Some(2.0), "of the one that speaks no TLS");
}

#[tokio::test]
async fn shutdown_ends_idle_connections_and_frees_the_port() {
    let server = server(Limits::default()).await;
    let connector = client(&server.pki.ca_pem().unwrap(), None, "h2");
    let stream = connect(&server, &connector, "localhost").await.unwrap();
    assert_eq!(get(stream, true).await.unwrap(), "0 h2");
    server.shutdown.cancel();
    server.done.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn shutdown_lets_requests_finish() {
    let server = server(Limits { shutdown: Duration::from_secs(60), ..Limits::default() }).await;
    let ca = server.pki.ca_pem().unwrap();
    let mut stream = connect(&server, &client(&ca, None, "http/1.1"), "localhost").await.unwrap();
    let begun = b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nha";
    stream.write_all(begun).await.unwrap();
    // Another one, answered, shows that the first has been read.
    let other = connect(&server, &client(&ca, None, "http/1.1"), "localhost").await.unwrap();
    assert_eq!(get(other, false).await.unwrap(), "0 h1");
    server.shutdown.cancel();
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stream.write_all(b"lf").await.unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("half"), "{text}");
    server.done.await.unwrap();
}

#[tokio::test]
async fn shutdown_waits_for_nobody_longer_than_it_may() {
    let server = server(Limits { shutdown: Duration::from_millis(50), ..Limits::default() }).await;
    let connector = client(&server.pki.ca_pem().unwrap(), None, "http/1.1");
    let mut stream = connect(&server, &connector, "localhost").await.unwrap();
    stream.write_all(b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    stream.read_exact(&mut [0; 12]).await.unwrap();
    server.shutdown.cancel();
    server.done.await.unwrap();
}

#[tokio::test]
async fn connection_without_requests_ends() {
    let short = Duration::from_millis(50);
    let limits = Limits { request_head: short, idle: short, connections: 1, ..Limits::default() };
    let server = server(limits).await;
    let ca = server.pki.ca_pem().unwrap();
    for alpn in ["h2", "http/1.1", "other"] {
        // Says nothing at all behind the handshake.
        let Ok(mut silent) = connect(&server, &client(&ca, None, alpn), "localhost").await else { continue };
        let _ = silent.read_to_end(&mut Vec::new()).await;
    }
    // Says nothing after its first request, but keeps the connection and answers pings.
    let stream = connect(&server, &client(&ca, None, "h2"), "localhost").await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::builder().uri("https://kubernetes/").header("host", "x").body(body::empty());
    let request = request.unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    connection.await.unwrap().unwrap();
    // The one place is free.
    let stream = connect(&server, &client(&ca, None, "http/1.1"), "localhost").await.unwrap();
    assert_eq!(get(stream, false).await.unwrap(), "0 h1");
}

#[tokio::test]
async fn client_is_asked_to_connect_again_by_chance() {
    for (chance, ends) in [(1.0, true), (0.0, false)] {
        let server = server(Limits { goaway_chance: chance, ..Limits::default() }).await;
        let connector = client(&server.pki.ca_pem().unwrap(), None, "h2");
        let stream = connect(&server, &connector, "localhost").await.unwrap();
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.unwrap();
        let connection = tokio::spawn(connection);
        let request = || Request::builder().uri("https://kubernetes/").body(body::empty()).unwrap();
        // The request itself is answered all the same.
        let response = sender.send_request(request()).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "0 h2");
        if ends {
            connection.await.unwrap().unwrap();
        } else {
            assert_eq!(sender.send_request(request()).await.unwrap().status(), 200);
        }
    }
}

#[tokio::test]
async fn client_that_is_sent_elsewhere_has_its_answer_and_then_the_end_of_the_connection() {
    let server = server(Limits::default()).await;
    let connector = client(&server.pki.ca_pem().unwrap(), None, "h2");
    let stream = connect(&server, &connector, "localhost").await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::builder().uri("https://kubernetes/leave").body(body::empty()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "elsewhere");
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn client_that_reads_nothing_is_cut_off() {
    let limits = Limits { write_stall: Duration::from_millis(50), connections: 1, ..Limits::default() };
    let server = server(limits).await;
    let ca = server.pki.ca_pem().unwrap();
    let mut stream = connect(&server, &client(&ca, None, "http/1.1"), "localhost").await.unwrap();
    // More than both ends keep on the way; nothing is read, until the server is tired of it.
    let long = "/".to_owned() + &"x".repeat(32 * 1024);
    let requests = format!("GET {long} HTTP/1.1\r\nHost: x\r\nX-Echo: yes\r\n\r\n");
    while stream.write_all(requests.as_bytes()).await.is_ok() && stream.flush().await.is_ok() {}
    let stream = connect(&server, &client(&ca, None, "http/1.1"), "localhost").await.unwrap();
    assert_eq!(get(stream, false).await.unwrap(), "0 h1");
}

#[tokio::test]
async fn further_streams_than_the_limit_wait_or_are_refused() {
    let server = server(Limits { streams: 3, ..Limits::default() }).await;
    let connector = client(&server.pki.ca_pem().unwrap(), None, "h2");
    let stream = connect(&server, &connector, "localhost").await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let hold = || Request::builder().uri("https://kubernetes/hold").body(body::empty()).unwrap();
    let mut held = Vec::new();
    for _ in 0..3 {
        sender.ready().await.unwrap();
        held.push(sender.send_request(hold()).await.unwrap());
    }
    // The client knows the limit: the fourth is sent when one of the others is over.
    let mut fourth = Box::pin(sender.send_request(hold()));
    assert!(futures::poll!(&mut fourth).is_pending());
    tokio::task::yield_now().await;
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut fourth).await.is_err());
    held.pop();
    assert_eq!(fourth.await.unwrap().status(), 200);
}

#[tokio::test]
async fn headers_beyond_the_limit_are_refused() {
    let server = server(Limits { header_bytes: 8192, ..Limits::default() }).await;
    let connector = client(&server.pki.ca_pem().unwrap(), None, "http/1.1");
    let mut stream = connect(&server, &connector, "localhost").await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "a".repeat(20_000));
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    assert!(text.starts_with(b"HTTP/1.1 431"), "{:?}", String::from_utf8_lossy(&text));
}

#[tokio::test]
async fn request_that_names_no_host_or_two_is_refused() {
    let server = server(Limits::default()).await;
    let connector = client(&server.pki.ca_pem().unwrap(), None, "http/1.1");
    for (hosts, code) in [("Host: x\r\n", 200), ("", 400), ("Host: x\r\nHost: y\r\n", 400)] {
        let mut stream = connect(&server, &connector, "localhost").await.unwrap();
        let request = format!("GET / HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = Vec::new();
        stream.read_to_end(&mut text).await.unwrap();
        let text = String::from_utf8_lossy(&text);
        assert!(text.starts_with(&format!("HTTP/1.1 {code}")), "{hosts:?}: {text}");
    }
}
