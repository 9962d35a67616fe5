//! The link of a pod: a veth pair with point-to-point routes and permanent neighbours on both ends.
//!
//! The pod sends everything to one gateway address that no machine has ([`GATEWAY_V4`], [`GATEWAY_V6`]); its neighbour
//! entry is the node's end. So there is no bridge, no ARP, and no address of the node's in the pod's range.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::path::Path;

use futures::TryStreamExt;
use netlink_packet_route::address::{AddressAttribute, AddressScope};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage};
use netlink_packet_route::route::{RouteProtocol, RouteScope};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder, new_connection};

use crate::error::NetworkError;
use crate::namespace;

/// What a pod sends its IPv4 packets to.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// What a pod sends its IPv6 packets to.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// Marks the routes that the agent made (`rtm_protocol`).
pub const ROUTE_PROTOCOL: RouteProtocol = RouteProtocol::Other(83);
/// How the names of the node's ends begin.
pub const HOST_PREFIX: &str = "skp";

/// A link between a pod and the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodLink {
    /// Name of the node's end.
    pub host_interface: String,
    /// Index of the node's end.
    pub ifindex: u32,
    /// MAC address of the node's end.
    pub host_mac: [u8; 6],
    /// MAC address of the pod's end.
    pub pod_mac: [u8; 6],
    /// The pod's addresses.
    pub addresses: Vec<IpAddr>,
}

/// An interface, as netlink tells it.
#[derive(Clone, Debug)]
pub(crate) struct Interface {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mac: [u8; 6],
    pub(crate) mtu: u32,
}

/// A netlink connection in the namespace of the calling thread.
pub(crate) fn connect() -> Result<Handle, NetworkError> {
    let (connection, handle, _) = new_connection()
        .map_err(NetworkError::file("cannot open a netlink socket for", "/proc/self/ns/net"))?;
    tokio::spawn(connection);
    Ok(handle)
}

/// Name of the node's end for a sandbox: as much of its id as an interface name holds.
pub(crate) fn host_interface(container_id: &str) -> String {
    let tail: String = container_id.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    format!("{HOST_PREFIX}{tail}")
}

/// Makes the pair, its addresses, routes and neighbours. What a failed attempt left is removed before.
pub(crate) async fn create(
    handle: &Handle,
    namespace_path: &Path,
    interface: &str,
    host: &str,
    addresses: &[IpAddr],
    mtu: u32,
) -> Result<PodLink, NetworkError> {
    remove(handle, host).await?;
    let namespace = namespace::open(namespace_path)?;
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(interface.to_owned())
        .mtu(mtu)
        .setns_by_fd(namespace.as_raw_fd())
        .build();
    let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(host.to_owned())
        .mtu(mtu)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
    handle.link().add(pair).execute().await.map_err(NetworkError::netlink(format!("add {host}")))?;
    no_autoconfiguration(host);
    let node_end = find(handle, host).await?;

    let pod_end = {
        let (interface, addresses, gateway_mac) = (interface.to_owned(), addresses.to_vec(), node_end.mac);
        namespace::inside(&namespace, namespace_path, move || pod_side(interface, addresses, gateway_mac))
            .await?
    };
    up(handle, &node_end).await?;
    for address in addresses {
        neighbour(handle, &node_end, *address, pod_end.mac).await?;
        let message = host_route(*address).output_interface(node_end.index).scope(RouteScope::Link);
        handle
            .route()
            .add(message.protocol(ROUTE_PROTOCOL).build())
            .replace()
            .execute()
            .await
            .map_err(NetworkError::netlink(format!("route {address} to {host}")))?;
    }
    Ok(PodLink {
        host_interface: node_end.name,
        ifindex: node_end.index,
        host_mac: node_end.mac,
        pod_mac: pod_end.mac,
        addresses: addresses.to_vec(),
    })
}

/// Everything inside the pod: addresses, the gateway, the default routes.
async fn pod_side(
    interface: String,
    addresses: Vec<IpAddr>,
    gateway_mac: [u8; 6],
) -> Result<Interface, NetworkError> {
    let handle = connect()?;
    let end = find(&handle, &interface).await?;
    let loopback = find(&handle, "lo").await?;
    up(&handle, &loopback).await?;
    no_autoconfiguration(&interface);
    for address in &addresses {
        add_address(&handle, &end, *address, AddressScope::Universe).await?;
    }
    up(&handle, &end).await?;
    for v4 in [true, false] {
        if addresses.iter().any(|address| address.is_ipv4() == v4) {
            let gateway = if v4 { IpAddr::V4(GATEWAY_V4) } else { IpAddr::V6(GATEWAY_V6) };
            neighbour(&handle, &end, gateway, gateway_mac).await?;
            let default = RouteMessageBuilder::<IpAddr>::new();
            let default = if v4 {
                default.destination_prefix(Ipv4Addr::UNSPECIFIED.into(), 0)
            } else {
                default.destination_prefix(Ipv6Addr::UNSPECIFIED.into(), 0)
            };
            let operation = format!("default route through {gateway}");
            let default = default
                .and_then(|route| route.gateway(gateway))
                .map_err(|_| NetworkError::BadRequest { field: "gateway", problem: operation.clone() })?;
            handle
                .route()
                .add(default.output_interface(end.index).onlink().build())
                .replace()
                .execute()
                .await
                .map_err(NetworkError::netlink(operation))?;
        }
    }
    Ok(end)
}

/// Reads the link of a record back from the kernel.
pub(crate) async fn read(
    handle: &Handle,
    namespace_path: &Path,
    interface: &str,
    host: &str,
    addresses: &[IpAddr],
) -> Result<PodLink, NetworkError> {
    let node_end = find(handle, host).await?;
    let namespace = namespace::open(namespace_path)?;
    let (interface, wanted) = (interface.to_owned(), addresses.to_vec());
    let pod_mac = namespace::inside(&namespace, namespace_path, move || async move {
        let handle = connect()?;
        let end = find(&handle, &interface).await?;
        let present = addresses_of(&handle, end.index).await?;
        match wanted.iter().find(|address| !present.contains(address)) {
            Some(address) => Err(NetworkError::NoAddress { name: interface, address: *address }),
            None => Ok(end.mac),
        }
    })
    .await?;
    Ok(PodLink {
        host_interface: node_end.name,
        ifindex: node_end.index,
        host_mac: node_end.mac,
        pod_mac,
        addresses: addresses.to_vec(),
    })
}

/// Removes a pair by the name of the node's end, if it is there.
pub(crate) async fn remove(handle: &Handle, host: &str) -> Result<(), NetworkError> {
    match find(handle, host).await {
        Ok(link) => handle
            .link()
            .del(link.index)
            .execute()
            .await
            .map_err(NetworkError::netlink(format!("delete {host}"))),
        Err(NetworkError::NoLink { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Every interface of the namespace whose name begins with `prefix`.
pub(crate) async fn named(handle: &Handle, prefix: &str) -> Result<Vec<Interface>, NetworkError> {
    let links: Vec<LinkMessage> =
        handle.link().get().execute().try_collect().await.map_err(NetworkError::netlink("list links"))?;
    Ok(links.iter().filter_map(interface).filter(|link| link.name.starts_with(prefix)).collect())
}

/// One interface by name.
pub(crate) async fn find(handle: &Handle, name: &str) -> Result<Interface, NetworkError> {
    let all = named(handle, name).await?;
    all.into_iter()
        .find(|link| link.name == name)
        .ok_or_else(|| NetworkError::NoLink { name: name.to_owned() })
}

/// Gives an interface an address with a full prefix. `scope` host keeps it from being chosen as a source.
pub(crate) async fn add_address(
    handle: &Handle,
    link: &Interface,
    address: IpAddr,
    scope: AddressScope,
) -> Result<(), NetworkError> {
    let mut request = handle.address().add(link.index, address, full_prefix(address)).replace();
    request.message_mut().header.scope = scope;
    request.execute().await.map_err(NetworkError::netlink(format!("address {address} on {}", link.name)))
}

/// Sets an interface up.
pub(crate) async fn up(handle: &Handle, link: &Interface) -> Result<(), NetworkError> {
    let message = LinkUnspec::new_with_index(link.index).up().build();
    handle.link().set(message).execute().await.map_err(NetworkError::netlink(format!("set {} up", link.name)))
}

async fn neighbour(
    handle: &Handle,
    link: &Interface,
    address: IpAddr,
    mac: [u8; 6],
) -> Result<(), NetworkError> {
    handle
        .neighbours()
        .add(link.index, address)
        .link_layer_address(&mac)
        .replace()
        .execute()
        .await
        .map_err(NetworkError::netlink(format!("neighbour {address} on {}", link.name)))
}

async fn addresses_of(handle: &Handle, index: u32) -> Result<Vec<IpAddr>, NetworkError> {
    let messages: Vec<_> = handle
        .address()
        .get()
        .set_link_index_filter(index)
        .execute()
        .try_collect()
        .await
        .map_err(NetworkError::netlink("list addresses"))?;
    let address = |attribute: &AddressAttribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    };
    Ok(messages.iter().flat_map(|message| message.attributes.iter().filter_map(address)).collect())
}

fn host_route(address: IpAddr) -> RouteMessageBuilder<IpAddr> {
    RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(address, full_prefix(address))
        .expect("a full prefix fits its address family")
}

fn full_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn interface(message: &LinkMessage) -> Option<Interface> {
    let mut found = Interface { index: message.header.index, name: String::new(), mac: [0; 6], mtu: 1500 };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => found.name.clone_from(name),
            LinkAttribute::Address(mac) => found.mac = mac.as_slice().try_into().unwrap_or_default(),
            LinkAttribute::Mtu(mtu) => found.mtu = *mtu,
            _ => {}
        }
    }
    (!found.name.is_empty()).then_some(found)
}

/// No router advertisements, no waiting for duplicate addresses, no check of the reverse path: the routes are ours.
/// A kernel without IPv6 lacks some of these, which is as good.
fn no_autoconfiguration(interface: &str) {
    for (file, value) in [
        (format!("/proc/sys/net/ipv6/conf/{interface}/accept_ra"), "0"),
        (format!("/proc/sys/net/ipv6/conf/{interface}/accept_dad"), "0"),
        (format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter"), "0"),
    ] {
        if let Err(error) = fs::write(&file, value) {
            tracing::debug!(%error, file, "setting is not there");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_interface_fits_into_an_interface_name() {
        let name = host_interface("0123456789abcdef0123");
        assert_eq!(name, "skp0123456789ab");
        assert!(name.len() <= 15);
    }
}
