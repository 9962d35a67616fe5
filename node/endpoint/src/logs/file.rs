//! A log file that may be rotated while it is read: where its last lines begin, and which file comes after it.

use std::io::{self, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// Bytes read at once.
const BLOCK: usize = 32 << 10;

/// Tells a file from others although its name changes: device and inode.
type Identity = (u64, u64);

/// An open log, and the name under which its successors appear.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    identity: Identity,
    position: u64,
}

impl LogFile {
    pub(super) async fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path).await?;
        let identity = identity(&file.metadata().await?);
        Ok(Self { path: path.to_owned(), file, identity, position: 0 })
    }

    /// Reads what comes next into `buffer`; 0 at the present end. Begins anew if the file was cut.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer).await?;
        self.position += read as u64;
        if read == 0 && self.file.metadata().await?.len() < self.position {
            self.seek(0).await?;
        }
        Ok(read)
    }

    /// Goes to where the last `lines` lines begin.
    pub(super) async fn seek_tail(&mut self, lines: u64) -> io::Result<()> {
        let start = self.tail_start(lines).await?;
        self.seek(start).await
    }

    async fn seek(&mut self, position: u64) -> io::Result<()> {
        self.position = self.file.seek(SeekFrom::Start(position)).await?;
        Ok(())
    }

    async fn tail_start(&mut self, lines: u64) -> io::Result<u64> {
        let size = self.file.metadata().await?.len();
        if lines == 0 {
            return Ok(size);
        }
        let mut buffer = vec![0; BLOCK];
        let mut end = size;
        let mut seen = 0;
        while end > 0 {
            let start = end.saturating_sub(BLOCK as u64);
            let block = &mut buffer[..usize::try_from(end - start).expect("a block fits into memory")];
            self.file.seek(SeekFrom::Start(start)).await?;
            self.file.read_exact(block).await?;
            for (offset, byte) in block.iter().enumerate().rev() {
                let after = start + offset as u64 + 1;
                // The line feed at the very end ends the last line, it does not begin one.
                if *byte == b'\n' && after != size {
                    seen += 1;
                    if seen == lines {
                        return Ok(after);
                    }
                }
            }
            end = start;
        }
        Ok(0)
    }

    /// The file that comes after this one, if this one was moved away and the runtime has begun another.
    pub(super) async fn successor(&self) -> io::Result<Option<Self>> {
        match tokio::fs::metadata(&self.path).await {
            Ok(present) if identity(&present) != self.identity => {}
            Ok(_) => return Ok(None),
            // Between the move and the new file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        // Whoever reads slowly may be several files behind.
        let rotated = rotated(&self.path).await?;
        let mut next = rotated.iter().skip_while(|(_, identity)| *identity != self.identity).skip(1);
        let path = next.next().map_or(&self.path, |(path, _)| path);
        let successor = Self { path: self.path.clone(), ..Self::open(path).await? };
        Ok(Some(successor))
    }
}

/// Files that were moved away from this path, the oldest first: their names end in the time of the move.
async fn rotated(path: &Path) -> io::Result<Vec<(PathBuf, Identity)>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(Vec::new()) };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut files = Vec::new();
    let mut entries = tokio::fs::read_dir(folder).await?;
    while let Some(entry) = entries.next_entry().await? {
        if entry.file_name().to_string_lossy().starts_with(&prefix)
            && let Ok(metadata) = entry.metadata().await
        {
            files.push((entry.path(), identity(&metadata)));
        }
    }
    files.sort();
    Ok(files)
}

fn identity(metadata: &std::fs::Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}
