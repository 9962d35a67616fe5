//! Reads a log to its end, or along as it grows: across rotation, until the container has ended.

use std::io;
use std::ops::ControlFlow;
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::file::LogFile;
use super::line::Render;
use super::options::LogOptions;

/// How often a log that is followed is looked at. Watching files with inotify would save that, but watches are few
/// (128 instances per user by default) and logs are many.
const LOOK: Duration = Duration::from_millis(100);

/// Copies a log to `out`. When following, goes on until `ending` is done and everything written before is copied.
///
/// Ends early when the reader of `out` is gone.
///
/// # Errors
/// Those of reading the file.
pub(super) async fn copy(
    mut file: LogFile,
    options: LogOptions,
    ending: impl Future<Output = ()>,
    out: mpsc::Sender<Bytes>,
) -> io::Result<()> {
    if let Some(lines) = options.tail {
        file.seek_tail(lines).await?;
    }
    let mut ending = pin!(ending);
    let mut ended = !options.follow;
    let mut next = None;
    let mut render = Render::new(&options);
    let mut buffer = vec![0; 32 << 10];
    loop {
        let read = file.read(&mut buffer).await?;
        if read > 0 {
            let mut piece = BytesMut::new();
            let flow = render.push(&buffer[..read], &mut piece);
            if send(&out, piece).await.is_break() || flow.is_break() {
                return Ok(());
            }
            continue;
        }
        // The old file was read to its end once more after the new one appeared.
        if let Some(successor) = next.take() {
            file = successor;
            continue;
        }
        if options.follow {
            next = file.successor().await?;
        }
        if ended && next.is_none() {
            let mut piece = BytesMut::new();
            render.finish(&mut piece);
            let _ = send(&out, piece).await;
            return Ok(());
        }
        tokio::select! {
            () = &mut ending, if !ended => ended = true,
            () = tokio::time::sleep(LOOK) => {}
            () = out.closed() => return Ok(()),
        }
    }
}

async fn send(out: &mpsc::Sender<Bytes>, piece: BytesMut) -> ControlFlow<()> {
    if piece.is_empty() || out.send(piece.freeze()).await.is_ok() {
        ControlFlow::Continue(())
    } else {
        ControlFlow::Break(())
    }
}
