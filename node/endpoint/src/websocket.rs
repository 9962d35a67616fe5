//! The server's side of WebSocket (RFC 6455): the handshake's decisions, and a WebSocket as a stream of bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures::stream::{SplitSink, SplitStream};
use futures::{Sink, SinkExt, Stream, StreamExt};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::refusal::Refusal;

/// Largest message taken. Clients send pieces of 32 KiB.
const LARGEST: usize = 4 << 20;

/// How long the client may take to answer the closing.
const FAREWELL: Duration = Duration::from_secs(5);

/// A client's WebSocket.
pub(crate) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Whether the request asks to become a WebSocket.
pub(crate) fn is_asked<B>(request: &Request<B>) -> bool {
    request.method() == Method::GET && lists(request.headers(), &header::UPGRADE, "websocket")
}

/// Whether a header's comma-separated values name this token.
pub(crate) fn lists(headers: &HeaderMap, name: &header::HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|known| known.eq_ignore_ascii_case(token))
}

fn tokens<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// The first of the client's subprotocols that is spoken here, in the client's order.
///
/// # Errors
/// 400 if the handshake is wrong or there is no such subprotocol.
pub(crate) fn negotiate(headers: &HeaderMap, spoken: &[&'static str]) -> Result<&'static str, Refusal> {
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13")
        || headers.get(header::SEC_WEBSOCKET_KEY).is_none()
    {
        return Err(Refusal::bad_request("not a WebSocket handshake of version 13"));
    }
    let offered = || tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL);
    let chosen = offered().find_map(|token| spoken.iter().find(|known| **known == token));
    chosen.copied().ok_or_else(|| {
        let offered: Vec<&str> = offered().collect();
        Refusal::bad_request(format!("no subprotocol of {offered:?} is supported, only {spoken:?}"))
    })
}

/// The answer that turns the connection into a WebSocket, to a request that [`negotiate`] has found right.
pub(crate) fn switching<B: Default>(headers: &HeaderMap, protocol: &'static str) -> Response<B> {
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    let accept = HeaderValue::from_str(&derive_accept_key(key)).expect("base64 is a header value");
    answer.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}

/// The WebSocket on a connection that has been switched.
pub(crate) async fn socket(upgraded: Upgraded) -> Socket {
    let config = WebSocketConfig::default()
        .read_buffer_size(32 << 10)
        .max_write_buffer_size(2 * LARGEST)
        .max_message_size(Some(LARGEST))
        .max_frame_size(Some(LARGEST));
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await
}

/// Both directions of a client's WebSocket.
pub(crate) type Halves = (SplitSink<Socket, Message>, SplitStream<Socket>);

/// Closes a WebSocket whose business is done: says so, waits until the client has closed too, so that nothing sent is
/// lost, and closes the connection below.
pub(crate) async fn close((mut sink, mut source): Halves) {
    let close = Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }));
    let closing = async {
        if sink.send(close).await.is_ok() {
            while let Some(Ok(_)) = source.next().await {}
        }
        if let Ok(mut socket) = sink.reunite(source) {
            let _ = socket.get_mut().shutdown().await;
        }
    };
    // A client that does not answer is left.
    let _ = tokio::time::timeout(FAREWELL, closing).await;
}

/// The bytes of a WebSocket's binary messages as one stream; where messages begin and end means nothing.
pub(crate) struct ByteStream<S> {
    socket: WebSocketStream<S>,
    /// The rest of the last message.
    rest: Bytes,
}

impl<S> ByteStream<S> {
    pub(crate) fn new(socket: WebSocketStream<S>) -> Self {
        Self { socket, rest: Bytes::new() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ByteStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(context)) {
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
            }
        }
        let take = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest[..take]);
        self.rest.advance(take);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ByteStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(context)).map_err(io_error)?;
        let message = Message::Binary(Bytes::copy_from_slice(bytes));
        Pin::new(&mut self.socket).start_send(message).map_err(io_error)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context).map_err(io_error)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_close(context)).map_err(io_error)?;
        // TLS has a closing of its own.
        Pin::new(self.socket.get_mut()).poll_shutdown(context)
    }
}

fn io_error(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(protocols: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        for protocol in protocols {
            headers.append(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(protocol).unwrap());
        }
        headers
    }

    #[test]
    fn subprotocol_is_chosen_in_the_clients_order() {
        let spoken = ["v5", "v4"];
        let cases: [(&[&str], Option<&str>); 5] = [
            (&["v5"], Some("v5")),
            (&["v4, v5"], Some("v4")),
            (&["v9", "v4"], Some("v4")),
            (&["v9"], None),
            (&[], None),
        ];
        for (offered, expected) in cases {
            assert_eq!(negotiate(&headers(offered), &spoken).ok(), expected, "{offered:?}");
        }
    }

    #[test]
    fn handshake_of_another_version_is_refused() {
        let mut headers = headers(&["v5"]);
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("8"));
        assert_eq!(negotiate(&headers, &["v5"]).unwrap_err().status, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn answer_proves_that_the_key_was_read() {
        // The example of RFC 6455, section 1.3.
        let response: Response<()> = switching(&headers(&["v5"]), "v5");
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(response.headers()[header::SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
