//! Network namespaces that do what they are told, and who talks in them.
#![allow(clippy::unwrap_used)] // a test

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

use crate::support::ip;

/// What a namespace's thread is told to do.
type Job = Box<dyn FnOnce() + Send>;

/// Another network namespace, entered by a thread that does what it is told.
pub struct Namespace {
    /// Where the kernel shows it.
    pub path: PathBuf,
    jobs: mpsc::Sender<Job>,
}

impl Namespace {
    /// A fresh one.
    pub fn new() -> Self {
        let (jobs, work) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ip("link set lo up");
            let me = nix::unistd::gettid();
            tell.send(PathBuf::from(format!("/proc/{}/task/{me}/ns/net", std::process::id()))).unwrap();
            work.into_iter().for_each(|job| job());
        });
        Self { path: told.recv().unwrap(), jobs }
    }

    /// Does it there.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        self.jobs.send(Box::new(move || drop(tell.send(job())))).unwrap();
        told.recv().expect("the job ends")
    }

    /// Moves an interface here and gives it addresses; offload of checksums ends at a redirect, so it is off.
    pub fn take(
        &self,
        interface: &'static str,
        addresses: &'static [&'static str],
        gateways: &'static [&'static str],
    ) {
        ip(&format!("link set {interface} netns {}", self.path.display()));
        self.run(move || {
            ip(&format!("link set {interface} up"));
            let off = ["-K", interface, "tx", "off"];
            std::process::Command::new("ethtool").args(off).output().unwrap();
            for address in addresses {
                ip(&format!("address add {address} dev {interface} nodad"));
            }
            for gateway in gateways {
                ip(&format!("route add default via {gateway}"));
            }
        });
    }
}

/// The MAC address of an interface.
pub fn mac(interface: &str) -> [u8; 6] {
    let output = std::process::Command::new("ip").args(["-o", "link", "show", interface]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut words = text.split_whitespace().skip_while(|word| *word != "link/ether").skip(1);
    let parts: Vec<u8> =
        words.next().unwrap().split(':').map(|p| u8::from_str_radix(p, 16).unwrap()).collect();
    parts.try_into().unwrap()
}

/// Sends a line over the connection that the client's namespace keeps, and expects it back.
pub fn exchange(stream: &mut TcpStream, line: &str) {
    stream.write_all(line.as_bytes()).unwrap();
    let mut answer = vec![0; line.len()];
    stream.read_exact(&mut answer).unwrap_or_else(|error| panic!("{line}: {error}"));
    assert_eq!(answer, line.as_bytes());
}

/// A connection from that namespace.
pub fn connect(client: &Namespace, target: &'static str) -> std::io::Result<TcpStream> {
    client.run(move || {
        let target: SocketAddr = target.parse().unwrap();
        let stream = TcpStream::connect_timeout(&target, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(stream)
    })
}

/// Sends a datagram to `target` and says what came of waiting for an answer.
pub fn ask(client: &Namespace, target: &'static str, length: usize) -> std::io::Result<bool> {
    client.run(move || {
        let target: SocketAddr = target.parse().unwrap();
        let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.connect(target)?;
        socket.set_read_timeout(Some(Duration::from_secs(3)))?;
        let sent: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
        socket.send(&sent)?;
        let mut answer = vec![0; 65536];
        let received = socket.recv(&mut answer)?;
        Ok(answer[..received] == sent)
    })
}
