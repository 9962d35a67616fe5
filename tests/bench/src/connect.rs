//! What the socket hooks cost a client: `connect()` through a cluster address beside `connect()` to the backend itself, and
//! an exchange over each of the two connections.
//!
//! The direct one is made outside the cgroup that has the hooks: it is what a client pays where there are no services. A third
//! is direct as well and within the cgroup: what the hooks cost whoever asks for no service. All go to one listener on the
//! loopback interface, in batches that take turns, and one thread does everything, so that nothing else runs meanwhile. Every
//! service has the same ten endpoints in a slice of its own, and each connection asks for another service than the last.
//!
//! How many services there are and how many of them a client uses are two things: the first is the size of the tables, the
//! second how much of them its processor's caches have. So among many services one client asks for another of all of them each
//! time, and one for ten of them, far apart, in turn.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{EndpointPort, EndpointSlice};
use kube::runtime::watcher::Event;
use skep_abi::backend::{BACKEND_STATES, BACKENDS};
use skep_abi::counters::SERVICE_COUNTS;
use skep_dataplane::{DataplaneConfig, KernelDataplane};
use skep_services::NodeView;
use skep_services::engine::Engine;

use crate::objects::{PORT, TARGET_PORT, cluster_ip, service, slice};
use crate::place::Place;
use crate::{Context, Figure};

const SIZES: [u32; 2] = [10, 100_000];
/// The first backend.
const BACKEND: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
/// Backends of every service.
const ENDPOINTS: u32 = 10;
/// Services that a client uses who does not use them all.
const IN_USE: u32 = 10;
/// Room for the endpoints of all ports of all services.
const ROOM: u32 = 1 << 21;
/// Room for the counts of all ports of all services.
const COUNTED: u32 = 1 << 18;
/// Batches of each kind; their median is the figure.
const BATCHES: usize = 41;
/// Connections in a batch: fewer than a listener keeps waiting.
const CONNECTIONS: usize = 100;
/// Datagram sockets' `connect()`s and exchanges in a batch.
const MANY: usize = 2_000;

/// How a client comes to a backend.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// To it, without hooks.
    Direct,
    /// To it, past the hooks.
    Hooked,
    /// Through one of ten services.
    Ten,
    /// Through one of all services.
    Through,
}

const WAYS: [Way; 4] = [Way::Direct, Way::Hooked, Way::Ten, Way::Through];

/// Nanoseconds, each kind in the order of [`WAYS`].
#[derive(Clone, Copy)]
struct Times {
    stream: [f64; WAYS.len()],
    datagram: [f64; WAYS.len()],
    exchange: [f64; WAYS.len()],
}

/// One of the ten.
fn backend(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(BACKEND.to_bits() + number % ENDPOINTS)
}

/// Measures with few and with many services.
pub fn run(context: &Context) -> Result<Vec<Figure>> {
    let object = fs::read(&context.ebpf_object)
        .with_context(|| format!("{}: cargo xtask build-ebpf", context.ebpf_object.display()))?;
    let mut figures = Vec::new();
    let mut figure = |name: String, value, what: &str, baseline| {
        let baseline = Some((what.to_owned(), baseline));
        figures.push(Figure { name: format!("connect/{name}"), value, unit: "ns", baseline });
    };
    let mut before: Option<Times> = None;
    for services in SIZES {
        let times = measure(object.clone(), services)?;
        let kinds = [("tcp", times.stream), ("udp", times.datagram), ("exchange", times.exchange)];
        for (kind, [direct, hooked, ten, through]) in kinds {
            let (bare, within) = ("with the backend, no hooks", "with the backend, hooks");
            figure(format!("{kind}/{services}/direct"), hooked, bare, direct);
            figure(format!("{kind}/{services}"), through, bare, direct);
            figure(format!("{kind}/{services}/hooked"), through, within, hooked);
            if services > IN_USE {
                figure(format!("{kind}/{services}/ten_in_use"), ten, bare, direct);
                figure(format!("{kind}/{services}/ten_in_use/hooked"), ten, within, hooked);
            }
        }
        if let Some(few) = before {
            let what = format!("the same among {} services", SIZES[0]);
            for (kind, [.., ten, through], [.., of_ten, of_few]) in
                [("tcp", times.stream, few.stream), ("udp", times.datagram, few.datagram)]
            {
                figure(format!("{kind}/{services}/flat"), through, &what, of_few);
                figure(format!("{kind}/{services}/ten_in_use/flat"), ten, &what, of_ten);
            }
        }
        before = Some(times);
    }
    Ok(figures)
}

fn measure(object: Vec<u8>, services: u32) -> Result<Times> {
    let place = Place::new()?;
    let cgroup = Cgroup::new()?;
    let root = cgroup.path.clone();
    let agent = place.run(move || program(object, &root, services))?;
    for number in 0..ENDPOINTS {
        place.commands(format!("ip address add {}/32 dev lo", backend(number)))?;
    }
    let times = place.run(move || {
        let mut client = Client::new(cgroup, services)?;
        Ok(Times { stream: client.streams()?, datagram: client.datagrams()?, exchange: client.exchanges()? })
    });
    drop(agent);
    times
}

fn program(object: Vec<u8>, cgroup: &Path, services: u32) -> Result<Arc<KernelDataplane>> {
    let config = DataplaneConfig {
        cgroup_root: Some(cgroup.to_owned()),
        // Twice that many ports.
        capacities: vec![(BACKENDS, ROOM), (BACKEND_STATES, ROOM), (SERVICE_COUNTS, COUNTED)],
        ..DataplaneConfig::new(object, "/sys/fs/bpf/skep", 1)
    };
    let dataplane = Arc::new(KernelDataplane::open(&config)?);
    let mut engine = Engine::new(dataplane.clone(), NodeView::default());
    for number in 0..services {
        let (service, slice) =
            with_datagrams(service(number, None)?, slice(number, (0..ENDPOINTS).map(backend))?);
        engine.on_service(Event::Apply(service));
        engine.on_slice(Event::Apply(slice));
    }
    engine.on_service(Event::InitDone);
    engine.on_slice(Event::InitDone);
    let outcome = engine.sync(Duration::ZERO)?;
    ensure!(outcome.planned.len() == services as usize && outcome.refused == 0, "not all services fit");
    Ok(dataplane)
}

/// The same ports for UDP as well.
fn with_datagrams(mut service: Service, mut slice: EndpointSlice) -> (Service, EndpointSlice) {
    let (name, protocol) = (Some("datagrams".to_owned()), Some("UDP".to_owned()));
    for ports in service.spec.iter_mut().filter_map(|spec| spec.ports.as_mut()) {
        let more = ports.iter().cloned().map(|port| ServicePort {
            name: name.clone(),
            protocol: protocol.clone(),
            ..port
        });
        *ports = ports.iter().cloned().chain(more).collect();
    }
    for ports in slice.ports.iter_mut() {
        let more = ports.iter().cloned().map(|port| EndpointPort {
            name: name.clone(),
            protocol: protocol.clone(),
            ..port
        });
        *ports = ports.iter().cloned().chain(more).collect();
    }
    (service, slice)
}

/// A cgroup with the hooks; this process goes in and out.
struct Cgroup {
    path: PathBuf,
    outside: PathBuf,
}

impl Cgroup {
    fn new() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let root = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .find(|words| words.get(2) == Some(&"cgroup2"))
            .and_then(|words| words.get(1).map(PathBuf::from))
            .context("cgroup v2 is not mounted")?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).context("no cgroup v2")?;
        let path = root.join(format!("skep-bench-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self { path, outside: root.join(own) })
    }

    fn enter(&self, inside: bool) -> Result<()> {
        let path = if inside { &self.path } else { &self.outside };
        Ok(fs::write(path.join("cgroup.procs"), std::process::id().to_string())?)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.enter(false).ok();
        fs::remove_dir(&self.path).ok();
    }
}

struct Client {
    cgroup: Cgroup,
    listener: TcpListener,
    services: u32,
    next: u32,
}

impl Client {
    fn new(cgroup: Cgroup, services: u32) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, TARGET_PORT))?;
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535")?;
        Ok(Self { cgroup, listener, services, next: 0 })
    }

    /// The next backend itself, or the next service: far from the last one, and all of them in the end.
    fn target(&mut self, way: Way) -> SocketAddr {
        self.next = self.next.wrapping_add(7919);
        let service = match way {
            Way::Direct | Way::Hooked => {
                return SocketAddr::new(backend(self.next).into(), TARGET_PORT);
            }
            Way::Ten => self.next % IN_USE * (self.services / IN_USE),
            Way::Through => self.next % self.services,
        };
        SocketAddr::new(IpAddr::V4(cluster_ip(service)), PORT)
    }

    /// The medians of batches of each kind in turn; `batch` gives the time of one and how much it did.
    fn medians(
        &mut self,
        mut batch: impl FnMut(&mut Self, Way) -> Result<(Duration, usize)>,
    ) -> Result<[f64; WAYS.len()]> {
        let mut times = WAYS.map(|_| Vec::new());
        // The first ones warm up.
        for round in 0..=BATCHES {
            for (way, times) in WAYS.into_iter().zip(&mut times) {
                self.cgroup.enter(way != Way::Direct)?;
                let (time, count) = batch(self, way)?;
                if round > 0 {
                    times.push(time.as_nanos() as f64 / count as f64);
                }
            }
        }
        Ok(times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[BATCHES / 2]
        }))
    }

    fn streams(&mut self) -> Result<[f64; WAYS.len()]> {
        self.medians(|client, way| {
            let targets: Vec<_> = (0..CONNECTIONS).map(|_| client.target(way)).collect();
            let mut made = Vec::with_capacity(CONNECTIONS);
            let start = Instant::now();
            for target in targets {
                made.push(TcpStream::connect(target)?);
            }
            let took = start.elapsed();
            for _ in 0..CONNECTIONS {
                // The far end closes first: no port of the client's stays taken.
                drop(client.listener.accept()?);
            }
            for mut stream in made {
                stream.read_to_end(&mut Vec::new())?;
            }
            Ok((took, CONNECTIONS))
        })
    }

    fn datagrams(&mut self) -> Result<[f64; WAYS.len()]> {
        self.medians(|client, way| {
            let targets: Vec<_> = (0..MANY).map(|_| client.target(way)).collect();
            // Made here: a socket belongs to the cgroup in which it was made.
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            let start = Instant::now();
            for target in targets {
                socket.connect(target)?;
            }
            Ok((start.elapsed(), MANY))
        })
    }

    fn exchanges(&mut self) -> Result<[f64; WAYS.len()]> {
        self.medians(|client, way| {
            let mut near = TcpStream::connect(client.target(way))?;
            let (mut far, _) = client.listener.accept()?;
            near.set_nodelay(true)?;
            far.set_nodelay(true)?;
            let mut bytes = [0; 64];
            let start = Instant::now();
            for _ in 0..MANY {
                near.write_all(&[1; 64])?;
                far.read_exact(&mut bytes)?;
                far.write_all(&bytes)?;
                near.read_exact(&mut bytes)?;
            }
            Ok((start.elapsed(), MANY))
        })
    }
}
