//! A client outside, a node and a pod in network namespaces of their own, joined as the real ones are.

use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use skep_abi::counters::Reason;
use skep_dataplane::{DataplaneConfig, KernelDataplane};
use skep_maps::suite::owner;
use skep_maps::{Dataplane, DesiredPort, PodLink, Table};

use crate::support::{Place, ip, object, object_path};

type Job = Box<dyn FnOnce() + Send>;

/// Another network namespace, entered by a thread that does what it is told.
pub struct Namespace {
    path: PathBuf,
    jobs: mpsc::Sender<Job>,
}

impl Namespace {
    /// A new one.
    pub fn new() -> Self {
        let (jobs, work) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ip("link set lo up");
            let me = nix::unistd::gettid();
            tell.send(PathBuf::from(format!("/proc/{}/task/{me}/ns/net", std::process::id()))).unwrap();
            work.into_iter().for_each(|job| job());
        });
        Self { path: told.recv().unwrap(), jobs }
    }

    /// Does `job` there.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        self.jobs.send(Box::new(move || drop(tell.send(job())))).unwrap();
        told.recv().expect("the job ends")
    }

    /// Moves an interface here and gives it addresses; offload of checksums ends at a redirect, so it is off.
    pub fn take(
        &self,
        interface: &'static str,
        addresses: &'static [&'static str],
        gateways: &'static [&'static str],
    ) {
        ip(&format!("link set {interface} netns {}", self.path.display()));
        self.run(move || {
            ip(&format!("link set {interface} up"));
            let off = ["-K", interface, "tx", "off"];
            std::process::Command::new("ethtool").args(off).output().unwrap();
            for address in addresses {
                ip(&format!("address add {address} dev {interface} nodad"));
            }
            for gateway in gateways {
                ip(&format!("route add default via {gateway}"));
            }
        });
    }
}

fn mac(interface: &str) -> [u8; 6] {
    let output = std::process::Command::new("ip").args(["-o", "link", "show", interface]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut words = text.split_whitespace().skip_while(|word| *word != "link/ether").skip(1);
    let parts: Vec<u8> =
        words.next().unwrap().split(':').map(|p| u8::from_str_radix(p, 16).unwrap()).collect();
    parts.try_into().unwrap()
}

/// Everything on, in both families.
pub fn config(place: &Place) -> DataplaneConfig {
    DataplaneConfig {
        cgroup_root: Some(place.cgroup.clone()),
        uplinks: vec!["up0".into()],
        node_v4: Some("192.0.2.1".parse().unwrap()),
        node_v6: Some("2001:db8::1".parse().unwrap()),
        ..DataplaneConfig::new(object(), &place.pins, 7)
    }
}

/// The client on the uplink and the pod on its link, with a node between them that forwards.
pub fn connected() -> (Namespace, Namespace, PodLink) {
    for file in ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"] {
        std::fs::write(file, "1").unwrap();
    }
    let (client, pod) = (Namespace::new(), Namespace::new());
    let pod_mac = mac("pod1");
    client.take("up1", &["192.0.2.100/24", "2001:db8::100/64"], &[]);
    // As a network card would by itself, the far end takes what native XDP sends back.
    let wire = object_path().with_file_name("skep-wire");
    client.run(move || ip(&format!("link set up1 xdpdrv object {} section xdp", wire.display())));
    pod.take("pod1", &["10.244.1.2/24", "fd44::2/64"], &["10.244.1.1", "fd44::1"]);
    ip("address add 192.0.2.1/24 dev up0");
    ip("address add 2001:db8::1/64 dev up0 nodad");
    ip("address add 10.244.1.1/24 dev pod0");
    ip("address add fd44::1/64 dev pod0 nodad");
    let link = PodLink {
        interface: "pod0".into(),
        ifindex: nix::net::if_::if_nametoindex("pod0").unwrap(),
        host_mac: mac("pod0"),
        pod_mac,
        addresses: vec!["10.244.1.2".parse().unwrap(), "fd44::2".parse().unwrap()],
        xdp_redirect: false,
    };
    (client, pod, link)
}

/// How often a reason was counted.
pub fn counted(dataplane: &KernelDataplane, reason: Reason) -> u64 {
    dataplane.totals().unwrap().reasons[reason.index() as usize].packets
}

/// Makes `ports` all that there is.
pub fn program(dataplane: &KernelDataplane, table: &mut Table, ports: &[DesiredPort]) {
    table.replace(&owner("default/web"), ports).unwrap();
    dataplane.apply(&table.take_difference()).unwrap();
    table.applied(Duration::ZERO);
}
