//! Port-forward: a client's connections carried to ports inside a pod.
//!
//! Clients bring their connections in a SPDY session, which itself comes in a WebSocket (`kubectl` since 1.31) or
//! directly (before that), or in the channels of a WebSocket, one pair per port ([`channels`]). The pod's side is a
//! connection to localhost made inside the pod's network namespace ([`dial`]), so that servers which listen on
//! localhost only are reached too, as upstream does it.

mod channels;
mod copy;
mod dial;
mod pairs;
#[cfg(test)]
mod tests;

use http::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;

use crate::process::{Work, is_spdy, switching_to_spdy, versions};
use crate::refusal::Refusal;
use crate::spdy::{Role, Session};
use crate::websocket::{self, ByteStream};

pub(crate) use dial::Dialer;

/// SPDY inside of a WebSocket.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// Channels of a WebSocket.
const CHANNELS: &str = "v4.channel.k8s.io";
/// SPDY without a WebSocket.
const PLAIN: &str = "portforward.k8s.io";

/// Gives the answer for the client, and what is to be done after it. `ports` matter for channels only.
///
/// # Errors
/// 400 if the client speaks nothing that is spoken here, or wants channels to no ports.
pub(crate) fn join<B, R: Default>(
    request: &mut Request<B>,
    ports: Vec<u16>,
    dialer: Dialer,
    cancel: CancellationToken,
) -> Result<(Response<R>, Work), Refusal> {
    if websocket::is_asked(request) {
        let protocol = websocket::negotiate(request.headers(), &[TUNNEL, CHANNELS])?;
        if protocol == CHANNELS {
            channels::check(&ports)?;
        }
        let response = websocket::switching(request.headers(), protocol);
        let upgrade = hyper::upgrade::on(request);
        let work = async move {
            let Ok(upgraded) = upgrade.await else { return };
            let socket = websocket::socket(upgraded).await;
            if protocol == CHANNELS {
                cancel.run_until_cancelled(channels::run(socket, ports, dialer)).await;
            } else {
                let session = Session::start(ByteStream::new(socket), Role::Server, &cancel);
                cancel.run_until_cancelled(pairs::run(session, dialer)).await;
            }
        };
        return Ok((response, Box::pin(work)));
    }
    if is_spdy(request) {
        let version = versions(request.headers()).into_iter().find(|version| version == PLAIN);
        let Some(version) = version else {
            return Err(Refusal::bad_request(format!("X-Stream-Protocol-Version must be {PLAIN}")));
        };
        let response = switching_to_spdy(Some(version));
        let upgrade = hyper::upgrade::on(request);
        let work = async move {
            let Ok(upgraded) = upgrade.await else { return };
            let session = Session::start(TokioIo::new(upgraded), Role::Server, &cancel);
            cancel.run_until_cancelled(pairs::run(session, dialer)).await;
        };
        return Ok((response, Box::pin(work)));
    }
    Err(Refusal::bad_request("the request must ask for an upgrade to WebSocket or SPDY/3.1"))
}
