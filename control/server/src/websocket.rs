//! Watches and logs over a WebSocket (RFC 6455), for clients that cannot read an answer as it comes: browsers, mostly.
//!
//! The request is handled as always; only an answer that is a success is cut into messages. Each event of a watch is one,
//! text where it is JSON; a log goes out as it is read. What the client says is not listened to, but for its farewell.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use skep_api::status::Status;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::body::{self, Body};
use crate::request::RequestInfo;
use crate::streams::{strip_credentials, wants_upgrade};

/// The largest message of a client (bytes). None of them is looked at.
const LARGEST: usize = 64 << 10;
/// So long the client may take to answer the farewell.
const FAREWELL: Duration = Duration::from_secs(5);
/// The protocols of logs, in upstream's order.
const OF_LOGS: [&str; 2] = ["binary.k8s.io", "base64.binary.k8s.io"];

/// How an answer is cut into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// One for each line.
    Lines,
    /// One for each piece that has its length before it (four bytes, the highest first).
    Lengths,
    /// As it comes.
    Pieces,
    /// As it comes, in base64.
    Base64,
}

/// What a client asked for that speaks WebSocket.
pub(crate) struct WebSocket {
    client: OnUpgrade,
    accept: HeaderValue,
    protocol: Option<HeaderValue>,
    is_log: bool,
}

impl WebSocket {
    /// Takes the WebSocket out of a request that can be answered over one, so that what is left is like any other. Who asks
    /// is known already.
    ///
    /// # Errors
    ///
    /// 400 when the client begins it wrongly, or speaks none of the protocols that are spoken here.
    pub(crate) fn of(info: &RequestInfo, parts: &mut Parts) -> Result<Option<Self>, Status> {
        let is_log =
            (info.resource.as_str(), info.subresource.as_str()) == ("pods", "log") && info.verb == "get";
        let asks = |to: &HeaderValue| to.as_bytes().eq_ignore_ascii_case(b"websocket");
        let asks = parts.headers.get(header::UPGRADE).is_some_and(asks) && wants_upgrade(&parts.headers);
        if !asks || !(is_log || info.verb == "watch") {
            return Ok(None);
        }
        let Some(client) = parts.extensions.remove::<OnUpgrade>() else { return Ok(None) };
        let headers = &mut parts.headers;
        let key = headers.remove(header::SEC_WEBSOCKET_KEY);
        let version = headers.remove(header::SEC_WEBSOCKET_VERSION);
        let (Some(key), true) = (key, version.is_some_and(|version| version == "13")) else {
            return Err(Status::bad_request("not a WebSocket handshake of version 13"));
        };
        let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()));
        let accept = accept.map_err(|_| Status::bad_request("not a WebSocket handshake"))?;
        let protocol = protocol(headers, is_log)?;
        for name in [header::UPGRADE, header::CONNECTION, header::ACCEPT_ENCODING] {
            headers.remove(name);
        }
        Ok(Some(Self { client, accept, protocol, is_log }))
    }

    /// Begins the WebSocket if there is something to send over it. Whatever else is to last as long, `with` holds.
    pub(crate) fn answer<T: Send + 'static>(
        self,
        response: Response<Body>,
        with: T,
    ) -> (Response<Body>, Option<impl Future<Output = ()> + Send + 'static + use<T>>) {
        if !response.status().is_success() {
            return (response, None);
        }
        let (parts, content) = response.into_parts();
        let cut = self.cut(&parts.headers);
        let mut switching = Response::new(body::empty());
        *switching.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = switching.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept);
        if let Some(protocol) = self.protocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        let sending = async move {
            if let Err(error) = send(self.client, content, cut, self.is_log).await {
                tracing::debug!(%error, "a WebSocket ended");
            }
            drop(with);
        };
        (switching, Some(sending))
    }

    fn cut(&self, headers: &HeaderMap) -> Cut {
        if self.is_log {
            let encoded = self.protocol.as_ref().is_some_and(|protocol| *protocol == OF_LOGS[1]);
            return if encoded { Cut::Base64 } else { Cut::Pieces };
        }
        let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        if kind.starts_with(b"application/vnd.kubernetes.protobuf") { Cut::Lengths } else { Cut::Lines }
    }
}

/// The protocol that is spoken, of those that the client offers. Tokens that stand there are not among them.
fn protocol(headers: &mut HeaderMap, is_log: bool) -> Result<Option<HeaderValue>, Status> {
    strip_credentials(headers);
    let Some(offered) = headers.remove(header::SEC_WEBSOCKET_PROTOCOL) else { return Ok(None) };
    let offered: Vec<&str> = offered.to_str().unwrap_or_default().split(", ").collect();
    let found = offered.iter().find(|one| !is_log || OF_LOGS.contains(*one));
    let found = found.and_then(|one| HeaderValue::try_from(*one).ok()).map(Some);
    found.ok_or_else(|| {
        let (offered, spoken) = (offered.join(" "), OF_LOGS.join(" "));
        Status::bad_request(format!(
            "requested protocol(s) are not supported: [{offered}]; supports [ {spoken}]"
        ))
    })
}

async fn send(client: OnUpgrade, mut content: Body, cut: Cut, is_log: bool) -> Result<(), Error> {
    let upgraded = client.await.map_err(|error| Error::Io(std::io::Error::other(error)))?;
    let config = WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST));
    let mut socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    if is_log {
        // Upstream says first that it is there.
        socket.send(message(cut, Bytes::new())).await?;
    }
    let mut rest = BytesMut::new();
    loop {
        let frame = tokio::select! {
            frame = content.frame() => frame,
            heard = socket.next() => match heard {
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Err(error),
            },
        };
        // An answer that breaks off ends like one that is complete: there is no other way to say so here.
        let Some(Ok(frame)) = frame else { break };
        let Ok(data) = frame.into_data() else { continue };
        for piece in pieces(cut, data, &mut rest) {
            socket.feed(message(cut, piece)).await?;
        }
        socket.flush().await?;
    }
    socket.close(None).await?;
    let farewell = async { while let Some(Ok(_)) = socket.next().await {} };
    tokio::time::timeout(FAREWELL, farewell).await.ok();
    Ok(())
}

fn message(cut: Cut, piece: Bytes) -> Message {
    match cut {
        Cut::Lines => Message::text(String::from_utf8_lossy(&piece).into_owned()),
        Cut::Base64 => Message::text(STANDARD.encode(&piece)),
        Cut::Lengths | Cut::Pieces => Message::binary(piece),
    }
}

/// Cuts off what is complete; `rest` is what is not yet.
fn pieces(cut: Cut, data: Bytes, rest: &mut BytesMut) -> Vec<Bytes> {
    let next = match cut {
        Cut::Pieces | Cut::Base64 => return vec![data],
        Cut::Lines => line,
        Cut::Lengths => measured,
    };
    rest.extend_from_slice(&data);
    std::iter::from_fn(|| next(rest)).collect()
}

fn line(rest: &mut BytesMut) -> Option<Bytes> {
    let end = memchr::memchr(b'\n', rest)?;
    Some(rest.split_to(end + 1).freeze())
}

fn measured(rest: &mut BytesMut) -> Option<Bytes> {
    let length = u32::from_be_bytes(*rest.first_chunk()?) as usize;
    (rest.len() - 4 >= length).then(|| {
        rest.advance(4);
        rest.split_to(length).freeze()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(cut: Cut, parts: &[&'static [u8]]) -> Vec<Vec<u8>> {
        let mut rest = BytesMut::new();
        let pieces = parts.iter().flat_map(|part| pieces(cut, Bytes::from_static(part), &mut rest));
        let pieces = pieces.collect::<Vec<_>>();
        pieces.iter().map(|piece| piece.to_vec()).collect()
    }

    #[test]
    fn answer_is_cut_into_messages_wherever_its_pieces_end() {
        assert_eq!(cut(Cut::Lines, &[b"a\nb", b"c", b"\n"]), [b"a\n".to_vec(), b"bc\n".to_vec()]);
        let measured = cut(Cut::Lengths, &[b"\0\0\0\x02ab\0\0", b"\0\x01", b"c\0\0\0\0"]);
        assert_eq!(measured, [b"ab".to_vec(), b"c".to_vec(), Vec::new()]);
        assert_eq!(cut(Cut::Pieces, &[b"a\nb", b"c"]), [b"a\nb".to_vec(), b"c".to_vec()]);
    }

    #[test]
    fn protocol_is_the_clients_first_that_is_spoken() {
        let choose = |offered: &str, is_log| {
            let mut headers = HeaderMap::new();
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, offered.parse().unwrap());
            protocol(&mut headers, is_log).map(|found| found.map(|one| one.to_str().unwrap().to_owned()))
        };
        let token = "base64url.bearer.authorization.k8s.io.eA";
        assert_eq!(
            choose(&format!("{token}, base64.binary.k8s.io"), true).unwrap().as_deref(),
            Some(OF_LOGS[1])
        );
        assert_eq!(choose(&format!("{token}, watch"), false).unwrap().as_deref(), Some("watch"));
        assert_eq!(choose(token, true).unwrap(), None);
        let refused = choose("v4.channel.k8s.io", true).unwrap_err();
        assert_eq!(
            (refused.code, refused.message.as_str()),
            (
                400,
                "requested protocol(s) are not supported: [v4.channel.k8s.io]; \
                 supports [ binary.k8s.io base64.binary.k8s.io]"
            )
        );
    }
}
