//! The addresses of this network namespace's interfaces, and news when they change.
//!
//! Owns the reading; which of them matter is the caller's business.

use std::io;
use std::net::IpAddr;

use futures::StreamExt;
use rtnetlink::MulticastGroup;
use tokio::sync::watch;

use crate::Error;

/// Most messages taken together: addresses are read once for all of them.
const BURST: usize = 256;

/// Every address, with the name of its interface.
///
/// # Errors
/// [`Error::Netlink`].
pub fn local() -> Result<Vec<(String, IpAddr)>, Error> {
    let all = nix::ifaddrs::getifaddrs().map_err(|error| Error::Netlink(io::Error::from(error)))?;
    let read = |entry: nix::ifaddrs::InterfaceAddress| {
        let address = entry.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        let found = v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))?;
        Some((entry.interface_name, found))
    };
    Ok(all.filter_map(read).collect())
}

/// Keeps `addresses` equal to the interfaces' addresses until `shutdown` turns true.
///
/// # Errors
/// [`Error::Netlink`] when the kernel's notifications cannot be had, or end.
pub async fn follow(
    addresses: watch::Sender<Vec<IpAddr>>,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), Error> {
    let groups = [MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
    let (connection, _handle, messages) =
        rtnetlink::new_multicast_connection(&groups).map_err(Error::Netlink)?;
    let connection = tokio::spawn(connection);
    let mut messages = messages.ready_chunks(BURST);
    let result = loop {
        match local() {
            Ok(found) => {
                let found: Vec<IpAddr> = found.into_iter().map(|(_, address)| address).collect();
                addresses.send_if_modified(|known| {
                    let differs = *known != found;
                    *known = found;
                    differs
                });
            }
            Err(error) => break Err(error),
        }
        tokio::select! {
            _ = shutdown.wait_for(|ended| *ended) => break Ok(()),
            batch = messages.next() => if batch.is_none() {
                break Err(Error::Netlink(io::ErrorKind::UnexpectedEof.into()));
            },
        }
    };
    connection.abort();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_have_the_loopback_interface() {
        assert!(local().unwrap().contains(&("lo".to_owned(), std::net::Ipv4Addr::LOCALHOST.into())));
    }
}
