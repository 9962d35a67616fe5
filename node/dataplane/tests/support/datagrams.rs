//! A client for the tests: does with one UDP socket what it reads, a line at a time, and writes what came of it.
//!
//! `connect ADDRESS` makes the socket and connects it (again, if there is one). `send TEXT` sends over the connected socket
//! and waits a second for the answer. `peer` says whom it is connected to. `close` closes it. `stream
//! ADDRESS` connects over TCP instead, and says to whom. What fails is written as `error:` and the kernel's name for it.

use std::io::{self, BufRead, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

fn act(socket: &mut Option<UdpSocket>, line: &str) -> io::Result<String> {
    match (line.split_once(' ').unwrap_or((line, "")), socket) {
        (("connect", target), socket) => {
            let target: SocketAddr = target.parse().map_err(io::Error::other)?;
            let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let made = match socket.take() {
                Some(made) => made,
                None => UdpSocket::bind(any)?,
            };
            made.connect(target)?;
            made.set_read_timeout(Some(Duration::from_secs(1)))?;
            let peer = made.peer_addr()?;
            *socket = Some(made);
            Ok(peer.to_string())
        }
        (("send", text), Some(socket)) => {
            socket.send(text.as_bytes())?;
            let mut answer = [0; 512];
            let length = socket.recv(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
        }
        (("peer", _), Some(socket)) => Ok(socket.peer_addr()?.to_string()),
        (("stream", target), _) => Ok(TcpStream::connect(target)?.peer_addr()?.to_string()),
        (("close", _), socket) => {
            *socket = None;
            Ok(String::new())
        }
        _ => Err(io::Error::other("connect, send, peer, close or stream")),
    }
}

fn main() -> io::Result<()> {
    let mut socket = None;
    for line in io::stdin().lock().lines() {
        let answer = act(&mut socket, &line?).unwrap_or_else(|error| format!("error: {:?}", error.kind()));
        writeln!(io::stdout(), "{answer}")?;
        io::stdout().flush()?;
    }
    Ok(())
}
