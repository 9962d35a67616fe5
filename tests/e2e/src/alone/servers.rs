//! What answers in the pods of a [`super::World`]: threads of the test in their namespaces.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Barrier;
use std::thread;

use super::enter;

/// Where a pod that was asked [`HELD`] waits with its answer until the test is there too.
pub static GATE: Barrier = Barrier::new(2);
/// How a line begins whose answer is held back.
pub const HELD: &str = "held";

/// Answers every line on port 8080 with the pod's name, the peer's address and the line; over TCP those that begin with
/// [`HELD`] when [`GATE`] opens.
pub(super) fn serve(pod: &str) {
    in_pod(pod, |name| {
        let listener = TcpListener::bind("0.0.0.0:8080").expect("the port is free");
        let socket = UdpSocket::bind("0.0.0.0:8080").expect("the port is free");
        let answers = name.clone();
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                let line = String::from_utf8_lossy(&buffer[..length]);
                socket.send_to(format!("{answers} {} {line}", peer.ip()).as_bytes(), peer).ok();
            }
        });
        (listener, name)
    });
}

/// Serves on the pod's own localhost, at that port; it calls itself `own`.
pub(super) fn serve_own(pod: &str, port: u16) {
    in_pod(pod, move |_| {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        (listener, "own".to_owned())
    });
}

/// Serves what `bind` gives, in the pod's namespace, from when this returns.
fn in_pod(pod: &str, bind: impl FnOnce(String) -> (TcpListener, String) + Send + 'static) {
    let (told, ready) = std::sync::mpsc::channel();
    let pod = pod.to_owned();
    thread::spawn(move || {
        enter(&pod);
        let (listener, name) = bind(pod);
        told.send(()).ok();
        for stream in listener.incoming().flatten() {
            let name = name.clone();
            thread::spawn(move || answer(stream, &name));
        }
    });
    ready.recv().expect("the pod serves");
}

fn answer(stream: TcpStream, name: &str) {
    let Ok(peer) = stream.peer_addr() else { return };
    let Ok(mut out) = stream.try_clone() else { return };
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        if line.starts_with(HELD) {
            GATE.wait();
        }
        if out.write_all(format!("{name} {} {line}\n", peer.ip()).as_bytes()).is_err() {
            return;
        }
    }
}
