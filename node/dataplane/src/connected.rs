//! What the socket hooks remember of connected sockets ([`skep_abi::socket`]), read beside them.

use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};

use skep_abi::flow::FlowAddress;
use skep_abi::socket::{CONNECTED_SOCKETS, Connected, place};
use skep_abi::{Plain, UDP};

use crate::memory::MappedArray;
use crate::plain::read;
use crate::sockets::Translated;

/// How often an entry is read that is of two sockets: one that is just being written soon is not.
const READS: usize = 3;

/// The connected sockets of one address family.
#[derive(Debug)]
pub(crate) struct ConnectedSockets<A> {
    entries: MappedArray,
    address: PhantomData<A>,
}

impl<A: FlowAddress> ConnectedSockets<A>
where
    Connected<A>: Plain,
    IpAddr: From<A>,
{
    /// Those in the array.
    pub(crate) fn new(entries: MappedArray) -> Self {
        Self { entries, address: PhantomData }
    }

    /// Gives `each` every UDP socket.
    pub(crate) fn walk_udp(&self, mut each: impl FnMut(Translated)) {
        for at in 0..CONNECTED_SOCKETS as usize {
            // The cookie: most places are empty.
            if self.entries.load_word(at, 0).is_some_and(|cookie| cookie != 0) {
                self.whole(at).iter().map(translated).for_each(&mut each);
            }
        }
    }

    /// The UDP socket with that cookie.
    pub(crate) fn udp(&self, cookie: u64) -> Option<Translated> {
        let entry = self.whole(place(cookie, UDP) as usize)?;
        (entry.cookie == cookie).then(|| translated(&entry))
    }

    /// The entry at that place, unless it is of two sockets.
    fn whole(&self, at: usize) -> Option<Connected<A>> {
        let mut reads = (0..READS).filter_map(|_| read::<Connected<A>>(&self.entries.read(at, 1)));
        reads.find(Connected::is_whole)
    }
}

fn translated<A>(entry: &Connected<A>) -> Translated
where
    A: Copy,
    IpAddr: From<A>,
{
    Translated {
        cookie: entry.cookie,
        backend: SocketAddr::new(entry.backend.into(), entry.backend_port.get()),
        frontend: SocketAddr::new(entry.frontend.into(), entry.frontend_port.get()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use skep_abi::socket::{CONNECTED_CAPACITY, seal};
    use skep_abi::{Be16, TCP, V4};

    use super::*;
    use crate::plain::bytes;

    fn entry(cookie: u64, backend: [u8; 4], protocol: u8) -> Connected<V4> {
        let (backend, frontend) = (V4::from_octets(backend), V4::from_octets([10, 96, 0, 10]));
        let ports = [Be16::new(5353), Be16::new(53)];
        Connected {
            cookie,
            backend,
            frontend,
            backend_port: ports[0],
            frontend_port: ports[1],
            protocol,
            reserved: [0; 3],
            seal: seal(cookie, V4::pair(cookie, backend, frontend), ports, protocol),
        }
    }

    fn sockets(entries: &[Connected<V4>]) -> ConnectedSockets<V4> {
        let path = std::env::temp_dir().join(format!("skep-connected-{}", std::process::id()));
        let file =
            std::fs::File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        file.set_len(u64::from(CONNECTED_CAPACITY) * size_of::<Connected<V4>>() as u64).unwrap();
        std::fs::remove_file(path).unwrap();
        let size = size_of::<Connected<V4>>();
        let array = MappedArray::new(&OwnedFd::from(file), size, CONNECTED_CAPACITY).unwrap();
        for entry in entries {
            array.write(place(entry.cookie, entry.protocol) as usize, bytes(entry)).unwrap();
        }
        ConnectedSockets::new(array)
    }

    #[test]
    fn walk_gives_udp_sockets_that_are_whole_and_no_other() {
        let torn = Connected { frontend: V4::from_octets([10, 96, 0, 11]), ..entry(3, [10, 0, 0, 3], UDP) };
        let last = u64::from(CONNECTED_SOCKETS) * 7 - 1;
        let sockets = sockets(&[
            entry(1, [10, 0, 0, 1], UDP),
            entry(2, [10, 0, 0, 2], TCP),
            torn,
            entry(last, [10, 0, 0, 4], UDP),
        ]);
        let mut found = Vec::new();
        sockets.walk_udp(|socket| found.push((socket.cookie, socket.backend.to_string())));
        assert_eq!(found, [(1, "10.0.0.1:5353".to_owned()), (last, "10.0.0.4:5353".to_owned())]);
        assert_eq!(sockets.udp(1).unwrap().frontend.to_string(), "10.96.0.10:53");
        let others = [2, 3, 1 + u64::from(CONNECTED_SOCKETS)];
        assert_eq!(others.map(|cookie| sockets.udp(cookie)), [None; 3]);
    }
}
