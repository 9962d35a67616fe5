//! The log backend: a line per event, to a file or to standard output.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::event::Event;
use super::metrics::AuditMetrics;
use super::output::Backend;
use super::rotate::{Rotating, Rotation};
use crate::error::Error;
use crate::gate::Clock;

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The event as JSON.
    #[default]
    Json,
    /// Upstream's old text form, without objects.
    Legacy,
}

enum Sink {
    File(Box<Rotating>),
    Other(Box<dyn Write + Send>),
}

/// The backend.
pub(crate) struct Log {
    sink: Mutex<Sink>,
    format: Format,
}

impl Log {
    /// A log in the file at `path`; `-` is standard output.
    ///
    /// # Errors
    ///
    /// When the file cannot be had.
    pub(crate) fn open(
        path: PathBuf,
        rotation: Rotation,
        format: Format,
        clock: Clock,
    ) -> Result<Self, Error> {
        if path.as_os_str() == "-" {
            return Ok(Self::to(Box::new(std::io::stdout()), format));
        }
        let file = Rotating::open(path.clone(), rotation, clock);
        let file = file.map_err(|source| Error::Write { path, source })?;
        Ok(Self { sink: Mutex::new(Sink::File(Box::new(file))), format })
    }

    /// A log that goes to `writer`.
    pub(crate) fn to(writer: Box<dyn Write + Send>, format: Format) -> Self {
        Self { sink: Mutex::new(Sink::Other(writer)), format }
    }
}

#[async_trait]
impl Backend for Log {
    fn name(&self) -> &'static str {
        "log"
    }

    // A line goes to the kernel's memory, which is faster than handing it to another thread. A disk that hangs does hold
    // requests up in the blocking modes; that is what these modes are for.
    async fn write(&self, events: &[Arc<Event>], metrics: &AuditMetrics) -> bool {
        let mut success = true;
        for event in events {
            let line = match self.format {
                Format::Json => event.json_line(),
                Format::Legacy => format!("{}\n", event.legacy_line()).into_bytes(),
            };
            let written = match &mut *self.sink.lock() {
                Sink::File(file) => file.append(&line),
                Sink::Other(writer) => writer.write_all(&line).and_then(|()| writer.flush()),
            };
            if let Err(error) = written {
                metrics.lost(self.name(), &error.to_string(), std::slice::from_ref(event));
                success = false;
            }
        }
        success
    }
}
