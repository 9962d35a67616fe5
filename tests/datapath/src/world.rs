//! One node's surroundings in a network namespace of the calling thread: an uplink with a client and another node as
//! resolved neighbours, and a veth with a pod behind it. Owns the addresses that the tables use.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, unshare};
use skep_abi::backend::{BACKEND_LOCAL, BACKEND_STATES, BACKENDS, Backend, BackendState, STATE_ACTIVE};
use skep_abi::config::{CONFIG, Config};
use skep_abi::counters::{SERVICE_COUNTS, ServiceStats, place};
use skep_abi::fronts::{FRONTS, bit_v4, bit_v6};
use skep_abi::local::{LOCAL_V4, LOCAL_V6, LOCAL_XDP_REDIRECT, LocalEndpoint};
use skep_abi::service::{SCOPE_EXTERNAL, SERVICES_V4, SERVICES_V6, ServiceKey, ServiceValue};
use skep_abi::sets::{FLOW_SETS_V4, FLOW_SETS_V6};
use skep_abi::{ABI_VERSION, Be16, Plain, V4, V6};

use crate::object::Loaded;

/// MAC address of the node's uplink.
pub const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// MAC address of the client outside.
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 100];
/// MAC address of the other node.
pub const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// MAC address of the pod.
pub const POD_MAC: [u8; 6] = [2, 0, 0, 0, 1, 5];
/// MAC address of the node's end of the pod's veth.
pub const POD_HOST_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];

/// Which family a table is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    fn pick(self, v4: &str, v6: &str) -> IpAddr {
        let text = if self == Self::V4 { v4 } else { v6 };
        text.parse().expect("the constants are addresses")
    }

    /// The node.
    pub fn node(self) -> IpAddr {
        self.pick("192.0.2.1", "2001:db8::1")
    }

    /// A client outside the cluster.
    pub fn client(self) -> IpAddr {
        self.pick("192.0.2.100", "2001:db8::100")
    }

    /// A pod on this node.
    pub fn local_pod(self) -> IpAddr {
        self.pick("10.244.1.5", "fd44:0:0:1::5")
    }

    /// A pod on the other node.
    pub fn remote_pod(self) -> IpAddr {
        self.pick("10.244.2.7", "fd44:0:0:2::7")
    }

    /// An address that only services have.
    pub fn cluster_ip(self) -> IpAddr {
        self.pick("10.96.0.20", "fd96::20")
    }

    /// Length of the network header.
    pub fn header(self) -> usize {
        if self == Self::V4 { 20 } else { 40 }
    }
}

/// Interfaces of the namespace.
#[derive(Clone, Copy, Debug)]
pub struct World {
    /// The uplink.
    pub uplink: u32,
    /// The node's end of the pod's veth.
    pub pod: u32,
}

/// What `ip -batch` makes of a fresh namespace.
const LINKS: &str = "link set lo up
link add eth0 address 02:00:00:00:00:01 type veth peer name wire
link add pod0 address 02:00:00:00:01:01 type veth peer name podeth address 02:00:00:00:01:05
link set eth0 up
link set wire up
link set pod0 up
link set podeth up
addr add 192.0.2.1/24 dev eth0
addr add 2001:db8::1/64 dev eth0 nodad
neigh add 192.0.2.100 lladdr 02:00:00:00:00:64 dev eth0 nud permanent
neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev eth0 nud permanent
neigh add 2001:db8::100 lladdr 02:00:00:00:00:64 dev eth0 nud permanent
neigh add 2001:db8::2 lladdr 02:00:00:00:00:02 dev eth0 nud permanent
route add 10.244.2.0/24 via 192.0.2.2
route add fd44:0:0:2::/64 via 2001:db8::2
route add 10.244.1.5 dev pod0
route add fd44:0:0:1::5 dev pod0
route add 10.244.3.0/24 via 192.0.2.3
route add fd44:0:0:3::/64 via 2001:db8::3
route add unreachable 10.244.4.0/24
route add unreachable fd44:0:0:4::/64
";

impl World {
    /// Puts the calling thread into a network namespace of its own and fills that.
    ///
    /// # Errors
    ///
    /// Not root, or `ip` failed.
    pub fn enter() -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET).context("unshare: needs root")?;
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")?;
        let file = std::env::temp_dir().join(format!(
            "skep-world-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::write(&file, LINKS)?;
        let output = std::process::Command::new("ip").arg("-batch").arg(&file).output().context("ip")?;
        std::fs::remove_file(&file)?;
        if !output.status.success() {
            bail!("ip: {}", String::from_utf8_lossy(&output.stderr));
        }
        settle()?;
        Ok(Self { uplink: index("eth0")?, pod: index("pod0")? })
    }

    /// Writes this node's settings and its pod. Returns the settings.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn configure(&self, loaded: &Loaded) -> Result<Config> {
        let config = Config {
            version: ABI_VERSION,
            epoch: 1,
            seed: 0x1234_5678_9abc_def0,
            uplink: self.uplink,
            node_v4: v4(Family::V4.node()),
            node_v6: v6(Family::V6.node()),
            snat_first: Be16::new(61000),
            snat_last: Be16::new(65535),
            flow_sets_v4: loaded.capacity(FLOW_SETS_V4)?,
            flow_sets_v6: loaded.capacity(FLOW_SETS_V6)?,
            counted_services: counted_services(loaded)?,
            ..Config::default()
        };
        loaded.set(CONFIG, &0_u32, &config)?;
        self.set_local(loaded, LOCAL_XDP_REDIRECT)?;
        Ok(config)
    }

    /// Writes the pod's entry with these flags.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn set_local(&self, loaded: &Loaded, flags: u32) -> Result<()> {
        let local = LocalEndpoint { ifindex: self.pod, flags, pod_mac: POD_MAC, host_mac: POD_HOST_MAC };
        loaded.set(LOCAL_V4, &v4(Family::V4.local_pod()), &local)?;
        loaded.set(LOCAL_V6, &v6(Family::V6.local_pod()), &local)
    }
}

/// How many services there is room for in a row of each processor's.
///
/// # Errors
///
/// The kernel's.
pub fn counted_services(loaded: &Loaded) -> Result<u32> {
    Ok(loaded.capacity(SERVICE_COUNTS)? / u32::try_from(libbpf_rs::num_possible_cpus()?)?)
}

/// What was counted for a service, on all processors.
///
/// # Errors
///
/// The kernel's.
pub fn service_counts(loaded: &Loaded, id: u32) -> Result<ServiceStats> {
    let services = counted_services(loaded)?;
    let mut sum = ServiceStats::default();
    for cpu in 0..loaded.capacity(SERVICE_COUNTS)? / services {
        let one: ServiceStats = loaded.get(SERVICE_COUNTS, &place(id, cpu, services))?.unwrap_or_default();
        sum.packets += one.packets;
        sum.bytes += one.bytes;
        sum.connections += one.connections;
        sum.refused += one.refused;
    }
    Ok(sum)
}

/// Waits until the kernel has seen that the links are up: only then are all routes of their addresses there.
fn settle() -> Result<()> {
    let end = Instant::now() + Duration::from_secs(10);
    let says = |arguments: &[&str], wanted: &str| -> Result<bool> {
        let output = std::process::Command::new("ip").args(arguments).output().context("ip")?;
        Ok(String::from_utf8_lossy(&output.stdout).contains(wanted))
    };
    loop {
        let ready = says(&["-oneline", "link", "show", "eth0"], "state UP")?
            && says(&["-oneline", "link", "show", "pod0"], "state UP")?
            && says(&["-6", "route", "show", "table", "local"], "local 2001:db8::1 ")?;
        if ready {
            return Ok(());
        }
        if Instant::now() >= end {
            bail!("the links did not come up");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn index(name: &str) -> Result<u32> {
    nix::net::if_::if_nametoindex(name).with_context(|| format!("interface {name}"))
}

/// An IPv4 address for a map.
pub fn v4(address: IpAddr) -> V4 {
    match address {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(_) => panic!("an IPv4 address is wanted"),
    }
}

/// An IPv6 address for a map.
pub fn v6(address: IpAddr) -> V6 {
    match address {
        IpAddr::V6(address) => address.into(),
        IpAddr::V4(_) => panic!("an IPv6 address is wanted"),
    }
}

/// A service for a table: its frontend and backends.
#[derive(Clone, Debug)]
pub struct Service {
    /// Number.
    pub id: u32,
    /// Address and port that clients use.
    pub frontend: SocketAddr,
    /// Protocol.
    pub protocol: u8,
    /// `SCOPE_*`.
    pub scope: u8,
    /// `FLAG_*`.
    pub flags: u16,
    /// Affinity time-out.
    pub affinity_seconds: u32,
    /// First slot, and id of the first backend.
    pub slice: u32,
    /// Backends; each gets the id `slice` plus its place.
    pub backends: Vec<SocketAddr>,
}

impl Service {
    /// A service that is reached from outside.
    pub fn external(frontend: SocketAddr, protocol: u8, backends: &[SocketAddr]) -> Self {
        Self {
            id: 1,
            frontend,
            protocol,
            scope: SCOPE_EXTERNAL,
            flags: 0,
            affinity_seconds: 0,
            slice: 1000,
            backends: backends.to_vec(),
        }
    }

    /// Writes it in the order that the ABI asks for.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn write(&self, loaded: &Loaded) -> Result<()> {
        let slice = self.slice;
        for (at, backend) in self.backends.iter().enumerate() {
            let id = slice + at as u32;
            set_state(loaded, id, STATE_ACTIVE, 1)?;
            let address = match backend.ip() {
                IpAddr::V4(address) => V6::from_first(address.into()),
                IpAddr::V6(address) => address.into(),
            };
            let local =
                [Family::V4.local_pod(), Family::V6.local_pod(), Family::V4.node(), Family::V6.node()];
            let flags = if local.contains(&backend.ip()) { BACKEND_LOCAL } else { 0 };
            loaded.set(BACKENDS, &id, &Backend { address, port: Be16::new(backend.port()), flags, id })?;
        }
        let value = ServiceValue {
            id: self.id,
            slice,
            count: self.backends.len() as u32,
            flags: self.flags,
            affinity_seconds: self.affinity_seconds,
            ..ServiceValue::default()
        };
        set_service(loaded, self.frontend, self.protocol, self.scope, Some(&value))
    }
}

/// Writes what is to be done with traffic to a frontend, or takes it out.
///
/// # Errors
///
/// The kernel's.
pub fn set_service(
    loaded: &Loaded,
    frontend: SocketAddr,
    protocol: u8,
    scope: u8,
    value: Option<&ServiceValue>,
) -> Result<()> {
    let port = Be16::new(frontend.port());
    if scope == SCOPE_EXTERNAL {
        let bit = match frontend.ip() {
            IpAddr::V4(address) => bit_v4(address.into(), port, protocol),
            IpAddr::V6(address) => bit_v6(address.into(), port, protocol),
        };
        let word: u64 = loaded.get(FRONTS, &bit.word)?.unwrap_or(0);
        loaded.set(FRONTS, &bit.word, &(word | bit.mask))?;
    }
    match frontend.ip() {
        IpAddr::V4(address) => set_or_remove(
            loaded,
            SERVICES_V4,
            &ServiceKey { address: V4::from(address), port, protocol, scope },
            value,
        ),
        IpAddr::V6(address) => set_or_remove(
            loaded,
            SERVICES_V6,
            &ServiceKey { address: V6::from(address), port, protocol, scope },
            value,
        ),
    }
}

fn set_or_remove<K: Plain>(loaded: &Loaded, map: &str, key: &K, value: Option<&ServiceValue>) -> Result<()> {
    match value {
        Some(value) => loaded.set(map, key, value),
        None if loaded.get::<K, ServiceValue>(map, key)?.is_some() => loaded.remove(map, key),
        None => Ok(()),
    }
}

/// Writes the state of a backend id.
///
/// # Errors
///
/// The kernel's.
pub fn set_state(loaded: &Loaded, id: u32, state: u32, generation: u32) -> Result<()> {
    loaded.set(BACKEND_STATES, &id, &BackendState { state, generation })
}
