//! A file that is put aside when it grows too large: `audit.log` becomes `audit-2026-11-28T22-38-24.123.log`.
//!
//! States: open with so many bytes -> (a line would not fit) -> renamed, a new one open, old ones removed. A write that
//! fails in the middle is taken back, so that lines stay whole and the file can be read when there is space again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;

use crate::gate::Clock;

/// The time in the names of files put aside.
const STAMP: &str = "%Y-%m-%dT%H-%M-%S.%3f";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// When files are put aside, and how long they are kept.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// Bytes of a file; 0 means that it grows for ever.
    pub max_size: u64,
    /// Days that files put aside are kept; 0 means for ever.
    pub max_age: u32,
    /// How many of them are kept; 0 means all.
    pub max_backups: usize,
    /// Whether they are compressed.
    pub compress: bool,
}

/// The file.
pub struct Rotating {
    path: PathBuf,
    rotation: Rotation,
    clock: Clock,
    file: File,
    size: u64,
}

impl std::fmt::Debug for Rotating {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rotating").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Rotating {
    /// Opens the file for its owner alone, and makes it and its directory if they are not there.
    ///
    /// # Errors
    ///
    /// When that is not possible.
    pub fn open(path: PathBuf, rotation: Rotation, clock: Clock) -> io::Result<Self> {
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let file = append(&path, 0o600)?;
        let size = file.metadata()?.len();
        Ok(Self { path, rotation, clock, file, size })
    }

    /// Appends whole lines.
    ///
    /// # Errors
    ///
    /// When the disk does not take them; then none of them is in the file.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let limit = self.rotation.max_size;
        if limit > 0 {
            if lines.len() as u64 > limit {
                let why = format!("write length {} exceeds maximum file size {limit}", lines.len());
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
            }
            if self.size + lines.len() as u64 > limit {
                self.rotate()?;
            }
        }
        match self.file.write_all(lines) {
            Ok(()) => {
                self.size += lines.len() as u64;
                Ok(())
            }
            Err(error) => {
                // What is half there is worse than nothing. Where it cannot be taken back, the next line shows it.
                let _ = self.file.set_len(self.size);
                Err(error)
            }
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let mode = self.file.metadata()?.permissions().mode();
        let aside = self.aside();
        match std::fs::rename(&self.path, &aside) {
            // Somebody took it away: there is nothing to put aside.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.file = append(&self.path, mode & 0o7777)?;
        self.size = self.file.metadata()?.len();
        if let Err(error) = self.tidy() {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove or compress old audit logs");
        }
        Ok(())
    }

    /// A name that no file has yet.
    fn aside(&self) -> PathBuf {
        let (stem, extension) = self.name();
        let mut now = Timestamp::try_from((self.clock)()).unwrap_or(Timestamp::UNIX_EPOCH);
        loop {
            let path = self.path.with_file_name(format!("{stem}-{}{extension}", now.strftime(STAMP)));
            if !path.exists() && !gzipped(&path).exists() {
                return path;
            }
            now = now.saturating_add(jiff::SignedDuration::from_millis(1)).unwrap_or(Timestamp::MAX);
        }
    }

    /// `audit` and `.log`.
    fn name(&self) -> (String, String) {
        let part = |part: Option<&std::ffi::OsStr>| {
            part.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default()
        };
        let extension = part(self.path.extension());
        let dot = if extension.is_empty() { "" } else { "." };
        (part(self.path.file_stem()), format!("{dot}{extension}"))
    }

    /// The files put aside, the newest first.
    fn old(&self) -> io::Result<Vec<(Timestamp, PathBuf)>> {
        let (stem, extension) = self.name();
        let directory = self.path.parent().filter(|directory| !directory.as_os_str().is_empty());
        let mut found = Vec::new();
        for entry in std::fs::read_dir(directory.unwrap_or(Path::new(".")))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let name = name.strip_suffix(".gz").unwrap_or(&name);
            let stamp = name
                .strip_prefix(&stem)
                .and_then(|rest| rest.strip_prefix('-'))
                .and_then(|rest| rest.strip_suffix(&extension));
            let made =
                stamp.and_then(|stamp| jiff::civil::DateTime::strptime("%Y-%m-%dT%H-%M-%S%.f", stamp).ok());
            if let Some(made) = made.and_then(|made| made.to_zoned(jiff::tz::TimeZone::UTC).ok()) {
                found.push((made.timestamp(), path));
            }
        }
        found.sort_by(|one, other| other.cmp(one));
        Ok(found)
    }

    fn tidy(&self) -> io::Result<()> {
        let oldest = match self.rotation.max_age {
            0 => None,
            days => (self.clock)().checked_sub(DAY * days),
        };
        for (at, (made, path)) in self.old()?.into_iter().enumerate() {
            let too_many = self.rotation.max_backups > 0 && at >= self.rotation.max_backups;
            if too_many || oldest.is_some_and(|oldest| SystemTime::from(made) < oldest) {
                std::fs::remove_file(&path)?;
            } else if self.rotation.compress && path.extension().is_none_or(|end| end != "gz") {
                compress(&path)?;
            }
        }
        Ok(())
    }
}

fn append(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(mode).open(path)
}

fn gzipped(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    name.into()
}

fn compress(path: &Path) -> io::Result<()> {
    let target = gzipped(path);
    let mut from = File::open(path)?;
    let mode = from.metadata()?.permissions().mode();
    let to = OpenOptions::new().create(true).write(true).truncate(true).mode(mode & 0o7777).open(&target)?;
    let mut encoder = GzEncoder::new(to, Compression::default());
    let done =
        io::copy(&mut from, &mut encoder).and_then(|_| encoder.finish()).and_then(|file| file.sync_all());
    match done {
        Ok(()) => std::fs::remove_file(path),
        Err(error) => {
            let _ = std::fs::remove_file(&target);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestClock;

    struct Log {
        directory: tempfile::TempDir,
        clock: TestClock,
        file: Rotating,
    }

    fn log(rotation: Rotation) -> Log {
        let (directory, clock) = (tempfile::tempdir().unwrap(), TestClock::new());
        let file = Rotating::open(directory.path().join("logs/audit.log"), rotation, clock.clock()).unwrap();
        Log { directory, clock, file }
    }

    impl Log {
        fn files(&self) -> Vec<String> {
            let entries = std::fs::read_dir(self.directory.path().join("logs")).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }

        fn text(&self, name: &str) -> String {
            std::fs::read_to_string(self.directory.path().join("logs").join(name)).unwrap()
        }
    }

    const ALL: Rotation = Rotation { max_size: 10, max_age: 0, max_backups: 0, compress: false };

    #[test]
    fn file_that_is_full_is_put_aside_under_its_time() {
        let mut log = log(ALL);
        for line in ["one\n", "two\n", "three\n", "four\n"] {
            log.file.append(line.as_bytes()).unwrap();
        }
        let aside = ["audit-2027-01-15T08-00-00.000.log", "audit-2027-01-15T08-00-00.001.log"];
        assert_eq!(log.files(), [aside[0], aside[1], "audit.log"]);
        assert_eq!(
            log.text(aside[0]) + &log.text(aside[1]) + &log.text("audit.log"),
            "one\ntwo\nthree\nfour\n"
        );
    }

    #[test]
    fn file_and_directory_are_for_their_owner_alone_also_after_rotation() {
        let mut log = log(ALL);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        log.file.append(b"12345678\n").unwrap();
        log.file.append(b"12345678\n").unwrap();
        let logs = log.directory.path().join("logs");
        assert_eq!((mode(&logs), mode(&logs.join("audit.log"))), (0o700, 0o600));
    }

    #[test]
    fn old_files_go_by_number_and_by_age() {
        let mut log = log(Rotation { max_backups: 2, max_age: 3, ..ALL });
        for _ in 0..5 {
            log.file.append(b"12345678\n").unwrap();
            log.clock.advance(DAY);
        }
        assert_eq!(log.files().len(), 3, "{:?}", log.files());
        log.clock.advance(DAY * 2 + Duration::from_secs(1));
        log.file.append(b"12345678\n").unwrap();
        assert_eq!(log.files(), ["audit-2027-01-22T08-00-01.000.log", "audit.log"]);
    }

    #[test]
    fn old_files_are_compressed_if_asked() {
        let mut log = log(Rotation { compress: true, ..ALL });
        log.file.append(b"12345678\n").unwrap();
        log.file.append(b"12345678\n").unwrap();
        assert_eq!(log.files(), ["audit-2027-01-15T08-00-00.000.log.gz", "audit.log"]);
    }

    #[test]
    fn line_larger_than_a_file_is_an_error_and_changes_nothing() {
        let mut log = log(ALL);
        log.file.append(b"1\n").unwrap();
        assert_eq!(log.file.append(b"12345678901\n").unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!((log.files(), log.text("audit.log")), (vec!["audit.log".to_owned()], "1\n".to_owned()));
    }

    #[test]
    fn file_of_before_is_gone_on_with() {
        let mut log = log(ALL);
        log.file.append(b"1234567\n").unwrap();
        let path = log.directory.path().join("logs/audit.log");
        log.file = Rotating::open(path, ALL, log.clock.clock()).unwrap();
        log.file.append(b"12\n").unwrap();
        assert_eq!(log.files().len(), 2);
    }
}
