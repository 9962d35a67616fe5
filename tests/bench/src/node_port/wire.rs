//! A node between a client outside and a pod: three network namespaces and two links. Owns the addresses, and the server
//! in the pod, which runs from the start.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result};
use skep_maps::PodLink;

use super::requests::{ANSWER, REQUEST};
use crate::objects::TARGET_PORT;
use crate::place::Place;

/// The node's address.
pub(super) const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The pod's.
pub(super) const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
/// Threads of the server.
const SERVERS: usize = 2;

/// The three namespaces.
pub(super) struct Wire {
    pub(super) client: Place,
    pub(super) node: Place,
    pod: Place,
}

impl Wire {
    pub(super) fn new() -> Result<Self> {
        let (client, node, pod) = (Place::new()?, Place::new()?, Place::new()?);
        node.commands(format!(
            "ip link add up0 type veth peer name up1 netns {}
             ip link add pod0 type veth peer name pod1 netns {}
             ip link set up0 up
             ip link set pod0 up
             ip address add {NODE}/24 dev up0
             ip address add 10.244.1.1/24 dev pod0
             sysctl -qw net.ipv4.ip_forward=1
             ethtool -K up0 tx off
             ethtool -K pod0 tx off gro on",
            client.path(),
            pod.path()
        ))?;
        client.commands(
            "ip link set up1 up
             ip address add 192.0.2.100/24 dev up1
             ethtool -K up1 tx off",
        )?;
        client.run(|| Ok(std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535")?))?;
        pod.commands(format!(
            "ip link set pod1 up
             ip address add {POD}/24 dev pod1
             ip route add default via 10.244.1.1
             ethtool -K pod1 tx off gro on"
        ))?;
        pod.run(serve)?;
        Ok(Self { client, node, pod })
    }

    /// Native XDP on the far end of the uplink, as a network card has it in effect: it takes what is sent back.
    pub(super) fn client_takes_xdp(&self, object: &Path) -> Result<()> {
        let wire = object.with_file_name("skep-wire");
        self.client.commands(format!("ip link set up1 xdpdrv object {} section xdp", wire.display()))
    }

    /// The pod's link as the network would tell of it.
    pub(super) fn pod_link(&self) -> Result<PodLink> {
        let pod_mac = self.pod.run(|| mac("pod1"))?;
        let (ifindex, host_mac) =
            self.node.run(|| Ok((nix::net::if_::if_nametoindex("pod0")?, mac("pod0")?)))?;
        Ok(PodLink {
            interface: "pod0".into(),
            ifindex,
            host_mac,
            pod_mac,
            addresses: vec![POD.into()],
            xdp_redirect: true,
        })
    }
}

/// The link-layer address of an interface of this namespace.
fn mac(interface: &str) -> Result<[u8; 6]> {
    let all = nix::ifaddrs::getifaddrs()?;
    let found = all.filter(|entry| entry.interface_name == interface).find_map(|entry| {
        let address = entry.address?;
        address.as_link_addr()?.addr()
    });
    found.with_context(|| format!("{interface} has no address"))
}

/// Answers requests, and closes first, so that what is left of a connection for a while is left at the server.
fn serve() -> Result<()> {
    let listener = TcpListener::bind(SocketAddr::new(POD.into(), TARGET_PORT))?;
    for _ in 0..SERVERS {
        let listener = listener.try_clone()?;
        thread::spawn(move || {
            let mut request = [0; REQUEST.len()];
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                if stream.read_exact(&mut request).is_ok() {
                    stream.write_all(ANSWER).ok();
                }
            }
        });
    }
    Ok(())
}
