//! The client outside, which no socket hook sees.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use super::World;

/// How long an answer may take: a lost packet is sent again well within it.
const ANSWER: Duration = Duration::from_secs(5);

/// A connection from outside.
pub struct Connection {
    stream: BufReader<TcpStream>,
    from: SocketAddr,
}

impl World {
    /// Connects from outside.
    ///
    /// # Errors
    ///
    /// Refused, or not made in that time.
    pub fn connect(&self, to: &str, patience: Duration) -> io::Result<Connection> {
        let to: SocketAddr = to.parse().expect("an address");
        self.inside(&self.wires.client, move || {
            let stream = TcpStream::connect_timeout(&to, patience)?;
            stream.set_read_timeout(Some(ANSWER))?;
            let from = stream.local_addr()?;
            Ok(Connection { stream: BufReader::new(stream), from })
        })
    }

    /// Sends a datagram from outside; what comes back, which must be from where it was sent to.
    ///
    /// # Errors
    ///
    /// Nothing comes.
    pub fn datagram(&self, to: &str, line: &str) -> io::Result<String> {
        let to: SocketAddr = to.parse().expect("an address");
        let line = line.to_owned();
        self.inside(&self.wires.client, move || {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.set_read_timeout(Some(ANSWER))?;
            socket.send_to(line.as_bytes(), to)?;
            let mut buffer = [0; 2048];
            let (length, from) = socket.recv_from(&mut buffer)?;
            assert_eq!(from, to);
            Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
        })
    }
}

impl Connection {
    /// Sends a line.
    pub fn send(&mut self, line: &str) {
        self.stream.get_mut().write_all(format!("{line}\n").as_bytes()).expect("the connection takes a line");
    }

    /// The next answer, or that the connection was reset.
    ///
    /// # Errors
    ///
    /// It was.
    ///
    /// # Panics
    ///
    /// There is neither: whatever happens to a connection, its client must not be left waiting.
    pub fn answer(&mut self) -> io::Result<String> {
        let mut answer = String::new();
        match self.stream.read_line(&mut answer) {
            Ok(1..) => Ok(answer.trim().to_owned()),
            Ok(_) => panic!("the connection from {} was closed", self.from),
            Err(error) if is_reset(&error) => Err(error),
            Err(error) => panic!("the connection from {} got no answer: {error}", self.from),
        }
    }

    /// Sends a line and gives the answer to it, or that the connection was reset.
    ///
    /// # Errors
    ///
    /// It was.
    ///
    /// # Panics
    ///
    /// As [`Connection::answer`].
    pub fn try_ask(&mut self, line: &str) -> io::Result<String> {
        match self.stream.get_mut().write_all(format!("{line}\n").as_bytes()) {
            Err(error) if is_reset(&error) => return Err(error),
            sent => sent.expect("the connection takes a line"),
        }
        self.answer()
    }

    /// Sends a line and gives the answer: the pod, the peer that it saw, and the line.
    pub fn ask(&mut self, line: &str) -> String {
        self.try_ask(line).unwrap_or_else(|error| panic!("from {}, asked `{line}`: {error}", self.from))
    }
}

fn is_reset(error: &io::Error) -> bool {
    [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind())
}
