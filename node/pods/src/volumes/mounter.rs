//! The mounts that volumes need, behind a trait, because tests have no right to mount.

use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Mounting on this machine.
pub trait Mounter: Send + Sync + 'static {
    /// Whether something is mounted exactly here.
    ///
    /// # Errors
    /// The mount table cannot be read.
    fn is_mounted(&self, path: &Path) -> io::Result<bool>;
    /// Mounts memory here, at most `size` bytes of it.
    ///
    /// # Errors
    /// What the kernel says.
    fn mount_tmpfs(&self, path: &Path, size: Option<i64>) -> io::Result<()>;
    /// Mounts what is at `from` also at `to`, which exists.
    ///
    /// # Errors
    /// What the kernel says.
    fn bind(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Unmounts everything at `path` and below, and checks that nothing is left.
    ///
    /// # Errors
    /// What the kernel says, or that something is still mounted.
    fn unmount_below(&self, path: &Path) -> io::Result<()>;
}

/// The kernel's mounts, in the mount namespace of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemMounter;

const TABLE: &str = "/proc/self/mountinfo";

impl Mounter for SystemMounter {
    fn is_mounted(&self, path: &Path) -> io::Result<bool> {
        Ok(mount_points(&std::fs::read_to_string(TABLE)?).iter().any(|point| point == path))
    }

    fn mount_tmpfs(&self, path: &Path, size: Option<i64>) -> io::Result<()> {
        let options = size.map(|size| format!("size={size}"));
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        Ok(mount(Some("tmpfs"), path, Some("tmpfs"), flags, options.as_deref())?)
    }

    fn bind(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
    }

    fn unmount_below(&self, path: &Path) -> io::Result<()> {
        let below = || -> io::Result<Vec<PathBuf>> {
            let points = mount_points(&std::fs::read_to_string(TABLE)?);
            Ok(points.into_iter().filter(|point| point.starts_with(path)).collect())
        };
        // Later mounts lie on top of earlier ones.
        for point in below()?.iter().rev() {
            umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
        }
        match below()?.first() {
            Some(left) => Err(io::Error::other(format!("{} is still mounted", left.display()))),
            None => Ok(()),
        }
    }
}

/// Mount points in the order in which they were mounted.
fn mount_points(table: &str) -> Vec<PathBuf> {
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(unescape(point)))
        .collect()
}

/// The table writes blanks and backslashes as octal numbers.
fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let bytes = text.as_bytes();
    let mut index = 0;
    while index < bytes.len() {
        let octal = text.get(index + 1..index + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (bytes[index], octal) {
            (b'\\', Some(byte)) => {
                out.push(byte);
                index += 4;
            }
            (byte, _) => {
                out.push(byte);
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_blanks() {
        let table = "22 1 0:21 / / rw - ext4 /dev/vda rw\n30 22 0:30 / /a\\040b/c rw - tmpfs tmpfs rw\n";
        assert_eq!(mount_points(table), [PathBuf::from("/"), PathBuf::from("/a b/c")]);
    }
}
