//! An echo server that says which pod answers: HTTP over TCP and plain datagrams over UDP, both families.
//!
//! `GET /` answers with the pod's name and the client's address, `GET /healthz` with `ok`, `GET /exit?code=N` ends the
//! process, `POST` returns the body. A datagram is answered with the pod's name and the datagram.
//! Listens on the port in `PORT` (8080). Ends with 0 on SIGTERM after the requests in hand.
//!
//! `echo get ADDRESS:PORT PATH` is a client instead: it prints the body of one answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

/// The longest body that is echoed, bytes.
const BODY_LIMIT: u64 = 1 << 20;
/// How long a client may stay silent.
const IDLE: Duration = Duration::from_secs(30);

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, address, path] = arguments.as_slice()
        && command == "get"
    {
        return get(address, path);
    }
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;

    let port = std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080);
    let name: Arc<str> = pod_name().into();
    // An unspecified IPv6 address takes IPv4 as well, unless the kernel is told otherwise.
    let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let tcp = TcpListener::bind(address)?;
    let udp = UdpSocket::bind(address)?;
    println!("{name}: listening on port {port}");

    let datagram_name = Arc::clone(&name);
    std::thread::spawn(move || serve_datagrams(&udp, &datagram_name));
    std::thread::spawn(move || serve_streams(&tcp, &name));
    let signal = signals.wait()?;
    println!("ending on {signal}");
    Ok(())
}

/// One `GET` over a connection of its own; prints the body.
fn get(address: &str, path: &str) -> std::io::Result<()> {
    let address: SocketAddr = address.parse().map_err(std::io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(IDLE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or_else(|| std::io::Error::other("no HTTP answer"))?;
    print!("{body}");
    Ok(())
}

fn pod_name() -> String {
    std::env::var("POD_NAME")
        .or_else(|_| std::env::var("HOSTNAME"))
        .or_else(|_| std::fs::read_to_string("/etc/hostname").map(|name| name.trim().to_owned()))
        .unwrap_or_else(|_| "unknown".to_owned())
}

fn serve_datagrams(socket: &UdpSocket, name: &str) {
    let mut buffer = [0; 65_536];
    loop {
        if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let mut answer = format!("{name} ").into_bytes();
            answer.extend_from_slice(&buffer[..length]);
            let _ = socket.send_to(&answer, peer);
        }
    }
}

fn serve_streams(listener: &TcpListener, name: &Arc<str>) {
    for stream in listener.incoming().flatten() {
        let name = Arc::clone(name);
        std::thread::spawn(move || {
            if let Err(error) = serve(stream, &name) {
                eprintln!("connection: {error}");
            }
        });
    }
}

/// Serves requests on one connection until it is closed.
fn serve(stream: TcpStream, name: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    let peer = stream.peer_addr()?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = Request::read(&mut reader)? {
        println!("{peer} {} {}", request.method, request.path);
        let body = match (request.method.as_str(), request.path.as_str()) {
            (_, "/healthz") => "ok\n".to_owned(),
            (_, path) if path.starts_with("/exit") => {
                let code = path.split_once("code=").and_then(|(_, code)| code.parse().ok()).unwrap_or(0);
                println!("ending with {code} as asked");
                std::process::exit(code)
            }
            ("POST" | "PUT", _) => String::from_utf8_lossy(&request.body).into_owned(),
            _ => format!("{name} {peer}\n"),
        };
        let connection = if request.close { "close" } else { "keep-alive" };
        write!(
            writer,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n{body}",
            body.len()
        )?;
        if request.close {
            break;
        }
    }
    Ok(())
}

/// As much of an HTTP/1.1 request as an echo needs.
struct Request {
    method: String,
    path: String,
    body: Vec<u8>,
    close: bool,
}

impl Request {
    /// Reads one request; `None` at the end of the connection.
    fn read(reader: &mut impl BufRead) -> std::io::Result<Option<Self>> {
        let mut line = String::new();
        if reader.take(8192).read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace();
        let (Some(method), Some(path)) = (words.next(), words.next()) else {
            return Err(std::io::Error::other("not an HTTP request"));
        };
        let mut request = Self {
            method: method.to_owned(),
            path: path.to_owned(),
            body: Vec::new(),
            close: words.next() == Some("HTTP/1.0"),
        };
        let mut length = 0;
        loop {
            let mut header = String::new();
            if reader.take(8192).read_line(&mut header)? == 0 {
                return Ok(None);
            }
            let header = header.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            match header.split_once(':') {
                Some(("content-length", value)) => length = value.trim().parse().unwrap_or(0),
                Some(("connection", value)) => request.close = value.trim() == "close",
                _ => {}
            }
        }
        reader.take(u64::min(length, BODY_LIMIT)).read_to_end(&mut request.body)?;
        Ok(Some(request))
    }
}
