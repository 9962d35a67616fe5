//! Exec and attach: a client's stream joined to the runtime's.
//!
//! Clients come with WebSocket (`v5.channel.k8s.io`, `v4.channel.k8s.io`, `channel.k8s.io`)
//! or SPDY. The runtime's streaming server is
//! spoken to in SPDY in both cases: its WebSocket (v4) has no way to say that standard input is at its end, which
//! `kubectl exec -i` with a pipe lives on. A SPDY client is let through to it byte for byte.

mod bridge;
mod runtime_stream;
#[cfg(test)]
mod tests;

use http::{Request, Response, header};
use skep_runtime::Streams;
use tokio_util::sync::CancellationToken;

use crate::refusal::Refusal;
use crate::spdy::{Role, Session};
use crate::websocket;

pub(crate) use runtime_stream::{is_spdy, switching as switching_to_spdy, versions};

/// Subprotocols of WebSocket that are spoken. The fifth version has a message that closes standard input; the first says in
/// plain words how a process ended, and nothing if it ended well.
const SPOKEN: [&str; 3] = ["v5.channel.k8s.io", "v4.channel.k8s.io", FIRST];
const FIRST: &str = "channel.k8s.io";
/// What is spoken to the runtime.
const RUNTIME_PROTOCOL: &str = "v4.channel.k8s.io";

/// What will be done once the client's connection is switched: hold it until then.
pub(crate) type Work = futures::future::BoxFuture<'static, ()>;

/// What the client is, before the runtime is asked for a process.
pub(crate) enum Client {
    WebSocket(&'static str),
    Spdy(Vec<header::HeaderValue>),
}

/// Sees which protocol the client speaks.
///
/// # Errors
/// 400 if none that is spoken here.
pub(crate) fn client<B>(request: &Request<B>) -> Result<Client, Refusal> {
    if websocket::is_asked(request) {
        return Ok(Client::WebSocket(websocket::negotiate(request.headers(), &SPOKEN)?));
    }
    if is_spdy(request) {
        return Ok(Client::Spdy(versions(request.headers())));
    }
    Err(Refusal::bad_request("the request must ask for an upgrade to WebSocket or SPDY/3.1"))
}

/// Connects to the runtime's stream at `url`, and gives the answer for the client and what is to be done after it.
///
/// # Errors
/// What the runtime's server says instead.
pub(crate) async fn join<B, R: Default>(
    request: &mut Request<B>,
    client: Client,
    url: &str,
    streams: Streams,
    cancel: CancellationToken,
) -> Result<(Response<R>, Work), Refusal> {
    match client {
        Client::WebSocket(protocol) => {
            let version = header::HeaderValue::from_static(RUNTIME_PROTOCOL);
            let runtime = runtime_stream::connect(url, &[version]).await?;
            let response = websocket::switching(request.headers(), protocol);
            let upgrade = hyper::upgrade::on(request);
            let work = async move {
                let Ok(upgraded) = upgrade.await else { return };
                let socket = websocket::socket(upgraded).await;
                let session = Session::start(runtime.connection, Role::Client, &cancel);
                let bridge = bridge::run(socket, session, streams, protocol == SPOKEN[0], protocol == FIRST);
                cancel.run_until_cancelled(bridge).await;
            };
            Ok((response, Box::pin(work)))
        }
        Client::Spdy(versions) => {
            let runtime = runtime_stream::connect(url, &versions).await?;
            let response = switching_to_spdy(runtime.version);
            let upgrade = hyper::upgrade::on(request);
            let work = async move {
                let Ok(upgraded) = upgrade.await else { return };
                let mut client = hyper_util::rt::TokioIo::new(upgraded);
                let mut connection = runtime.connection;
                let copy = tokio::io::copy_bidirectional(&mut client, &mut connection);
                cancel.run_until_cancelled(copy).await;
            };
            Ok((response, Box::pin(work)))
        }
    }
}
