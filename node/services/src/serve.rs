//! Small HTTP servers: the health check ports of services, and whatever else answers a GET from memory.
//!
//! Owns the listeners: which ports are open follows [`Health::ports`]. A port that cannot be had is tried again.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::health::{Answer, Health};

/// Pause before a port that could not be opened is tried again, and after a failed accept.
const RETRY: Duration = Duration::from_secs(10);
/// How long a client may take to send its request.
const REQUEST_TIME: Duration = Duration::from_secs(10);

/// What answers the path of a request.
pub type Answers = Arc<dyn Fn(&str) -> Answer + Send + Sync>;

/// Serves `answers` at `listener` until `stopped` turns true.
pub async fn serve(listener: TcpListener, answers: Answers, mut stopped: watch::Receiver<bool>) {
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, mostly: the clients come again.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = ended(&mut stopped) => return,
        };
        let answers = answers.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let response = response(answers(request.uri().path()));
                async move { Ok::<_, Infallible>(response) }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(REQUEST_TIME).keep_alive(false);
            if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "a connection broke");
            }
        });
    }
}

async fn ended(stopped: &mut watch::Receiver<bool>) {
    stopped.wait_for(|ended| *ended).await.ok();
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(answer.body.into()));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in answer.headers {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Opens and closes the health check ports as services come and go, until `stopped` turns true. `addresses` are those to
/// listen on; none means all.
pub async fn serve_checks(health: Health, addresses: Vec<IpAddr>, mut stopped: watch::Receiver<bool>) {
    let mut ports = health.ports();
    let mut open: BTreeMap<u16, Vec<JoinHandle<()>>> = BTreeMap::new();
    loop {
        let wanted = ports.borrow_and_update().clone();
        open.retain(|port, servers| {
            let keep = wanted.contains(port);
            if !keep {
                servers.iter().for_each(JoinHandle::abort);
            }
            keep
        });
        let mut missing = false;
        for port in wanted {
            if open.contains_key(&port) {
                continue;
            }
            match bind(&addresses, port).await {
                Ok(listeners) => {
                    let servers = listeners.into_iter().map(|listener| {
                        let health = health.clone();
                        let answers: Answers = Arc::new(move |_| health.answer_check(port));
                        tokio::spawn(serve(listener, answers, stopped.clone()))
                    });
                    open.insert(port, servers.collect());
                }
                Err(error) => {
                    tracing::warn!(port, %error, "a health check port cannot be opened; balancers get no answer");
                    missing = true;
                }
            }
        }
        tokio::select! {
            changed = ports.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if missing => {}
            () = ended(&mut stopped) => return,
        }
    }
}

/// Listeners at all of the addresses; at every address of the machine when there are none.
async fn bind(addresses: &[IpAddr], port: u16) -> io::Result<Vec<TcpListener>> {
    if addresses.is_empty() {
        // The IPv6 one answers IPv4 too; it cannot be had on machines without IPv6.
        let both = TcpListener::bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)).await;
        return match both {
            Ok(listener) => Ok(vec![listener]),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
            Err(_) => TcpListener::bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
                .await
                .map(|one| vec![one]),
        };
    }
    let mut listeners = Vec::new();
    for address in addresses {
        listeners.push(TcpListener::bind(SocketAddr::new(*address, port)).await?);
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Check;
    use crate::model::ServiceName;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// The answer of one request, or the error of connecting.
    async fn ask(port: u16) -> io::Result<String> {
        let mut stream = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }

    async fn until(mut good: impl AsyncFnMut() -> bool) {
        for _ in 0..200 {
            if good().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it never came true");
    }

    #[tokio::test]
    async fn check_ports_open_and_close_with_their_services() {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let health = Health::default();
        health.synced();
        let (stop, stopped) = watch::channel(false);
        let server = tokio::spawn(serve_checks(health.clone(), vec![Ipv4Addr::LOCALHOST.into()], stopped));
        let name = ServiceName::new("default", "web");
        health.set_check(&name, Some(Check { port, local: 1 }));
        until(async || ask(port).await.is_ok()).await;
        let text = ask(port).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(text.contains("x-load-balancing-endpoint-weight: 1\r\n"), "{text}");
        health.set_check(&name, Some(Check { port, local: 0 }));
        assert!(ask(port).await.unwrap().starts_with("HTTP/1.1 503"));
        health.set_check(&name, None);
        until(async || ask(port).await.is_err()).await;
        stop.send(true).unwrap();
        server.await.unwrap();
    }
}
