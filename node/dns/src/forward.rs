//! Passes questions about other names on to the machine's own name servers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long one server may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest datagram that is taken.
const DATAGRAM: usize = 4096;

/// Asks each server in turn, by datagram and, when the answer was cut, by stream. `None` when none answers.
pub(crate) async fn ask(servers: &[SocketAddr], question: &[u8]) -> Option<Message> {
    for server in servers {
        match timeout(PATIENCE, ask_one(*server, question)).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => tracing::debug!(%server, %error, "a name server does not answer"),
            Err(_) => tracing::debug!(%server, "a name server takes too long"),
        }
    }
    None
}

async fn ask_one(server: SocketAddr, question: &[u8]) -> std::io::Result<Message> {
    let local: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((local, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Another question's answer is no answer: the first two bytes are the id.
        if buffer[..length].get(..2) != question.get(..2) {
            continue;
        }
        let answer = Message::from_vec(&buffer[..length]).map_err(std::io::Error::other)?;
        return if answer.metadata.truncation { ask_stream(server, question).await } else { Ok(answer) };
    }
}

async fn ask_stream(server: SocketAddr, question: &[u8]) -> std::io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(std::io::Error::other)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(question).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    Message::from_vec(&buffer).map_err(std::io::Error::other)
}
