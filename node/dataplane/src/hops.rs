//! Watches routes and neighbours, and lets flows resolve their next hop again when one changes.
//!
//! Owns the decision what counts as a change: any route that comes or goes, and a neighbour that gets another link-layer
//! address. A neighbour that is merely confirmed, forgotten or learnt is none: that happens all the time, and a flow that
//! waits for one resolves it by itself.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use futures::StreamExt;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use skep_maps::Dataplane;
use tokio::sync::watch;

use crate::Error;
use crate::attach::with_sources;

/// Most neighbours remembered; more than that and the memory starts anew, at the price of a needless resolution.
const NEIGHBOURS: usize = 16_384;
/// Most messages looked at before flows are told.
const BURST: usize = 1024;

/// The last known link-layer address of each neighbour, by interface.
#[derive(Debug, Default)]
struct Neighbours {
    known: HashMap<(u32, IpAddr), Vec<u8>>,
}

impl Neighbours {
    /// Takes note of a neighbour; true when it had another address before.
    fn changed(&mut self, message: &NeighbourMessage) -> bool {
        let mut address: Option<IpAddr> = None;
        let mut link_layer = None;
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some((*v4).into()),
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some((*v6).into()),
                NeighbourAttribute::LinkLayerAddress(bytes) => link_layer = Some(bytes.clone()),
                _ => {}
            }
        }
        let (Some(address), Some(link_layer)) = (address, link_layer) else { return false };
        if self.known.len() >= NEIGHBOURS {
            self.known.clear();
        }
        let before = self.known.insert((message.header.ifindex, address), link_layer.clone());
        before.is_some_and(|before| before != link_layer)
    }

    /// Whether flows must resolve their next hops again after `message`.
    fn matters(&mut self, message: &NetlinkMessage<RouteNetlinkMessage>) -> bool {
        match &message.payload {
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewRoute(_) | RouteNetlinkMessage::DelRoute(_),
            ) => true,
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(neighbour)) => {
                self.changed(neighbour)
            }
            // Messages were lost: anything may have changed.
            NetlinkPayload::Overrun(_) => {
                self.known.clear();
                true
            }
            _ => false,
        }
    }
}

/// Follows routes and neighbours of this network namespace until `shutdown` turns true.
///
/// # Errors
/// [`Error::Netlink`] when the kernel's notifications cannot be had, or end.
pub async fn follow_next_hops(
    dataplane: Arc<dyn Dataplane>,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), Error> {
    let groups = [MulticastGroup::Neigh, MulticastGroup::Ipv4Route, MulticastGroup::Ipv6Route];
    let (connection, _handle, messages) =
        rtnetlink::new_multicast_connection(&groups).map_err(Error::Netlink)?;
    let connection = tokio::spawn(connection);
    let mut messages = messages.ready_chunks(BURST);
    let mut neighbours = Neighbours::default();
    let result = loop {
        tokio::select! {
            _ = shutdown.wait_for(|ended| *ended) => break Ok(()),
            batch = messages.next() => {
                let Some(batch) = batch else {
                    break Err(Error::Netlink(std::io::ErrorKind::UnexpectedEof.into()));
                };
                // Each message must be looked at, so no short cut.
                let matters = batch.iter().fold(false, |any, (message, _)| neighbours.matters(message) || any);
                if matters && let Err(error) = dataplane.routes_changed() {
                    tracing::warn!(error = with_sources(&error), "flows may use stale next hops for a while");
                }
            }
        }
    };
    connection.abort();
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::route::RouteMessage;

    fn neighbour(ifindex: u32, last: u8, mac: Option<[u8; 6]>) -> NetlinkMessage<RouteNetlinkMessage> {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = ifindex;
        let address = std::net::Ipv4Addr::new(10, 0, 0, last);
        message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(address)));
        message.attributes.extend(mac.map(|mac| NeighbourAttribute::LinkLayerAddress(mac.to_vec())));
        NetlinkMessage::from(RouteNetlinkMessage::NewNeighbour(message))
    }

    #[test]
    fn neighbours_only_another_address_of_a_known_one_matters() {
        let mut neighbours = Neighbours::default();
        let cases = [
            (neighbour(1, 1, Some([1; 6])), false),
            (neighbour(1, 1, Some([1; 6])), false),
            (neighbour(2, 1, Some([2; 6])), false),
            (neighbour(1, 1, None), false),
            (neighbour(1, 1, Some([3; 6])), true),
            (neighbour(1, 1, Some([3; 6])), false),
        ];
        for (at, (message, expected)) in cases.iter().enumerate() {
            assert_eq!(neighbours.matters(message), *expected, "case {at}");
        }
    }

    #[test]
    fn routes_coming_and_going_matter() {
        let mut neighbours = Neighbours::default();
        let route = RouteMessage::default();
        assert!(neighbours.matters(&NetlinkMessage::from(RouteNetlinkMessage::NewRoute(route.clone()))));
        assert!(neighbours.matters(&NetlinkMessage::from(RouteNetlinkMessage::DelRoute(route))));
    }
}
