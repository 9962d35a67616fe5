//! The bpf(2) commands that aya has no call for: map elements as bytes and in batches, replacing the program of
//! a pinned link whatever its kind, and what a link is attached to; and the driver of an interface.
//!
//! Owns: the layout of `union bpf_attr` for these commands (`include/uapi/linux/bpf.h`) and the `unsafe` of the
//! system call. It knows nothing of Skep's maps. All functions return the kernel's error unchanged.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;
const BPF_MAP_DELETE_BATCH: libc::c_long = 27;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_DETACH: libc::c_long = 34;

const BPF_LINK_TYPE_CGROUP: u32 = 3;
const BPF_LINK_TYPE_XDP: u32 = 6;
const BPF_LINK_TYPE_TCX: u32 = 11;

/// Entries asked for in one batch call: large enough to make the call's cost vanish, small enough that the
/// buffers stay under a megabyte.
const BATCH: usize = 4096;

#[repr(C)]
#[derive(Default)]
struct ElemAttr {
    map_fd: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct LinkUpdateAttr {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

#[repr(C)]
struct LinkDetachAttr {
    link_fd: u32,
}

#[repr(C)]
#[derive(Default)]
struct ObjAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// `struct bpf_link_info`, as far as it is read here.
#[repr(C, align(8))]
#[derive(Default)]
struct RawLinkInfo {
    kind: u32,
    id: u32,
    prog_id: u32,
    _pad: u32,
    target: [u32; 12],
}

/// `struct ethtool_drvinfo` (`include/uapi/linux/ethtool.h`), as far as it is read here.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    _rest: [u8; 160],
}

const _: () = assert!(size_of::<DriverInfo>() == 196);

/// The name of the driver of an interface of this network namespace.
pub(crate) fn driver(interface: &str) -> io::Result<String> {
    const ETHTOOL_GDRVINFO: u32 = 3;
    // Any socket leads to the interfaces of its network namespace.
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
    let mut info = DriverInfo { command: ETHTOOL_GDRVINFO, driver: [0; 32], _rest: [0; 160] };
    // SAFETY: a request of zeroes is a valid value of this type of plain integers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte less, so that the name ends with a zero.
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = std::ptr::from_mut(&mut info).cast();
    // SAFETY: the request is live for the call and leads to memory of the size that this command writes.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let end = info.driver.iter().position(|byte| *byte == 0).unwrap_or(info.driver.len());
    Ok(String::from_utf8_lossy(&info.driver[..end]).into_owned())
}

/// Issues one bpf(2) command.
///
/// # Safety
/// `T` must be the prefix of `union bpf_attr` that `command` reads, and every address in it must be valid for
/// what the command does with it until the call returns.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is live for the call, its size is passed along, and the caller vouches for its contents.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn fd_number(fd: BorrowedFd<'_>) -> u32 {
    u32::try_from(fd.as_raw_fd()).expect("an open file descriptor is not negative")
}

/// The cookie of this thread's network namespace, as programs see it (`SO_NETNS_COOKIE`, Linux 5.14).
pub(crate) fn namespace_cookie() -> io::Result<u64> {
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
    let mut cookie = 0u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).expect("8 bytes");
    // SAFETY: the socket is open, and `cookie` is writable for the `length` bytes that the option has.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            std::ptr::from_mut(&mut cookie).cast(),
            &raw mut length,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(cookie) }
}

/// What a link is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkTarget {
    /// XDP or TCX on the interface of that index; 0 when the interface is gone.
    Interface(u32),
    /// The cgroup of that id; 0 when the cgroup is gone.
    Cgroup(u64),
    /// A kind of link that Skep does not make.
    Other,
}

/// A link's kernel identifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkDetails {
    /// Program that runs there.
    pub(crate) program_id: u32,
    /// Where.
    pub(crate) target: LinkTarget,
}

/// Opens what is pinned at `path`.
pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut attr = ObjAttr { pathname: name.as_ptr() as u64, ..ObjAttr::default() };
    // SAFETY: `name` is a NUL-terminated string that outlives the call; BPF_OBJ_GET only reads it.
    let fd = unsafe { bpf(BPF_OBJ_GET, &mut attr) }?;
    let fd = i32::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: BPF_OBJ_GET returned a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reads what `link` is attached to.
pub(crate) fn link_details(link: BorrowedFd<'_>) -> io::Result<LinkDetails> {
    let mut info = RawLinkInfo::default();
    let mut attr = InfoAttr {
        bpf_fd: fd_number(link),
        info_len: u32::try_from(size_of::<RawLinkInfo>()).expect("a small structure"),
        info: std::ptr::from_mut(&mut info) as u64,
    };
    // SAFETY: `info` is writable for `info_len` bytes during the call, and any bytes are a valid value of it.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
    let target = match info.kind {
        BPF_LINK_TYPE_XDP | BPF_LINK_TYPE_TCX => LinkTarget::Interface(info.target[0]),
        BPF_LINK_TYPE_CGROUP => {
            LinkTarget::Cgroup(u64::from(info.target[0]) | (u64::from(info.target[1]) << 32))
        }
        _ => LinkTarget::Other,
    };
    Ok(LinkDetails { program_id: info.prog_id, target })
}

/// Makes `link` run `program` instead of what it runs: one atomic step, no packet sees neither.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkUpdateAttr {
        link_fd: fd_number(link),
        new_prog_fd: fd_number(program),
        ..LinkUpdateAttr::default()
    };
    // SAFETY: the command reads descriptors only.
    unsafe { bpf(BPF_LINK_UPDATE, &mut attr) }.map(|_| ())
}

/// Takes the program of `link` off, at once: a pin that is removed lets go of its link only some time later.
pub(crate) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkDetachAttr { link_fd: fd_number(link) };
    // SAFETY: the command reads a descriptor only.
    unsafe { bpf(BPF_LINK_DETACH, &mut attr) }.map(|_| ())
}

/// Key and value of one entry, as the kernel stores them.
pub(crate) type RawEntry = (Box<[u8]>, Box<[u8]>);

/// A map whose entries are handled as bytes. For per-CPU maps a value is all CPUs' values in a row, each
/// rounded up to 8 bytes.
#[derive(Debug)]
pub(crate) struct RawMap {
    fd: OwnedFd,
    key_size: usize,
    value_size: usize,
}

impl RawMap {
    /// A map of these sizes behind `fd`. The sizes must be the kernel's: the caller has read them from it.
    pub(crate) fn new(fd: OwnedFd, key_size: usize, value_size: usize) -> Self {
        Self { fd, key_size, value_size }
    }

    /// Bytes of one value.
    pub(crate) fn value_size(&self) -> usize {
        self.value_size
    }

    /// The map's descriptor.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn check(&self, key: &[u8], value: Option<&[u8]>) -> io::Result<()> {
        let fits = key.len() == self.key_size && value.is_none_or(|value| value.len() == self.value_size);
        if fits { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    /// The value at `key`, if there is one.
    pub(crate) fn get(&self, key: &[u8]) -> io::Result<Option<Box<[u8]>>> {
        self.check(key, None)?;
        let mut value = vec![0u8; self.value_size].into_boxed_slice();
        let mut attr = ElemAttr {
            map_fd: fd_number(self.fd()),
            key: key.as_ptr() as u64,
            value: value.as_mut_ptr() as u64,
            ..ElemAttr::default()
        };
        // SAFETY: `key` is readable for the map's key size (checked), `value` writable for its value size.
        match unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &mut attr) } {
            Ok(_) => Ok(Some(value)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes `value` at `key`.
    pub(crate) fn put(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.check(key, Some(value))?;
        let mut attr = ElemAttr {
            map_fd: fd_number(self.fd()),
            key: key.as_ptr() as u64,
            value: value.as_ptr() as u64,
            ..ElemAttr::default()
        };
        // SAFETY: both are readable for the map's sizes (checked); the command does not write to them.
        unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut attr) }.map(|_| ())
    }

    /// Removes `key`; false when it was not there.
    pub(crate) fn remove(&self, key: &[u8]) -> io::Result<bool> {
        self.check(key, None)?;
        let mut attr =
            ElemAttr { map_fd: fd_number(self.fd()), key: key.as_ptr() as u64, ..ElemAttr::default() };
        // SAFETY: `key` is readable for the map's key size (checked).
        match unsafe { bpf(BPF_MAP_DELETE_ELEM, &mut attr) } {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes all `entries`, in batches.
    pub(crate) fn put_all(&self, entries: &[RawEntry]) -> io::Result<()> {
        if let [(key, value)] = entries {
            return self.put(key, value);
        }
        for chunk in entries.chunks(BATCH) {
            let mut keys = Vec::with_capacity(chunk.len() * self.key_size);
            let mut values = Vec::with_capacity(chunk.len() * self.value_size);
            for (key, value) in chunk {
                self.check(key, Some(value))?;
                keys.extend_from_slice(key);
                values.extend_from_slice(value);
            }
            self.batch(BPF_MAP_UPDATE_BATCH, &keys, Some(&values), chunk.len())?;
        }
        Ok(())
    }

    /// Removes all `keys`, in batches; those that are not there are no error.
    pub(crate) fn remove_all(&self, keys: &[Box<[u8]>]) -> io::Result<()> {
        for chunk in keys.chunks(BATCH) {
            let mut bytes = Vec::with_capacity(chunk.len() * self.key_size);
            for key in chunk {
                self.check(key, None)?;
                bytes.extend_from_slice(key);
            }
            match self.batch(BPF_MAP_DELETE_BATCH, &bytes, None, chunk.len()) {
                Ok(()) => {}
                // The kernel stops at the first key that is gone: finish one by one.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    for key in chunk {
                        self.remove(key)?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn batch(
        &self,
        command: libc::c_long,
        keys: &[u8],
        values: Option<&[u8]>,
        count: usize,
    ) -> io::Result<()> {
        let mut attr = BatchAttr {
            keys: keys.as_ptr() as u64,
            values: values.map_or(0, |values| values.as_ptr() as u64),
            count: u32::try_from(count).expect("a chunk is at most BATCH entries"),
            map_fd: fd_number(self.fd()),
            ..BatchAttr::default()
        };
        // SAFETY: `keys` and `values` hold `count` entries of the map's sizes (the callers check each), and the
        // update and delete commands only read them.
        unsafe { bpf(command, &mut attr) }.map(|_| ())
    }

    /// Every entry. An entry that comes or goes meanwhile may or may not be among them; no other is missed.
    pub(crate) fn entries(&self) -> io::Result<Vec<RawEntry>> {
        let mut found = Vec::new();
        self.walk(|key, value| found.push((key.into(), value.into())))?;
        Ok(found)
    }

    /// Gives `each` every entry's key and value, as [`RawMap::entries`] does, without keeping them.
    pub(crate) fn walk(&self, mut each: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        let mut room = BATCH;
        let mut keys = vec![0u8; room * self.key_size];
        let mut values = vec![0u8; room * self.value_size];
        // The position is a u32 for hash maps and a key for arrays: never larger than the longer of the two.
        let mut position: Option<Vec<u8>> = None;
        loop {
            let mut next = vec![0u8; self.key_size.max(4)];
            let mut attr = BatchAttr {
                in_batch: position.as_ref().map_or(0, |bytes| bytes.as_ptr() as u64),
                out_batch: next.as_mut_ptr() as u64,
                keys: keys.as_mut_ptr() as u64,
                values: values.as_mut_ptr() as u64,
                count: u32::try_from(room).map_err(|_| io::ErrorKind::OutOfMemory)?,
                map_fd: fd_number(self.fd()),
                ..BatchAttr::default()
            };
            // SAFETY: the buffers are writable for `count` entries of the map's sizes, the positions for one
            // key or u32, and all live until the call returns.
            let last = match unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut attr) } {
                Ok(_) => false,
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
                // One hash bucket has more entries than there is room for: ask again with more.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && room < 1 << 24 => {
                    room *= 2;
                    keys.resize(room * self.key_size, 0);
                    values.resize(room * self.value_size, 0);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let count = attr.count as usize;
            let entries = keys.chunks_exact(self.key_size).zip(values.chunks_exact(self.value_size));
            entries.take(count).for_each(|(key, value)| each(key, value));
            if last || count == 0 {
                return Ok(());
            }
            position = Some(next);
        }
    }
}
