//! The clients: connect, send, read to the end, close.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

/// What a client sends.
pub(super) const REQUEST: &[u8; 64] = &[b'q'; 64];
/// What it gets.
pub(super) const ANSWER: &[u8; 256] = &[b'a'; 256];
/// Clients at a time.
const CLIENTS: usize = 4;
/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes requests to the targets in turn for `time`, from this namespace. Returns how many were answered in a second.
pub(super) fn make(targets: &Arc<[SocketAddr]>, time: Duration) -> Result<f64> {
    let next = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (targets, next) = (targets.clone(), next.clone());
            thread::spawn(move || -> Result<usize> {
                let mut done = 0;
                while start.elapsed() < time {
                    let target = targets[next.fetch_add(1, Ordering::Relaxed) % targets.len()];
                    request(target).with_context(|| format!("{target}, after {done} requests"))?;
                    done += 1;
                }
                Ok(done)
            })
        })
        .collect();
    let mut done = 0;
    for client in clients {
        done += client.join().map_err(|_| anyhow!("a client panicked"))??;
    }
    Ok(done as f64 / start.elapsed().as_secs_f64())
}

fn request(target: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(REQUEST)?;
    let mut answer = Vec::with_capacity(ANSWER.len());
    stream.read_to_end(&mut answer)?;
    ensure!(answer == ANSWER, "an answer of {} bytes", answer.len());
    Ok(())
}
