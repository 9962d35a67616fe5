//! A client outside, a node and a pod in network namespaces of their own, joined as the real ones are.

use std::time::Duration;

use skep_abi::counters::Reason;
use skep_dataplane::{AttachChoices, DataplaneConfig, KernelDataplane};
use skep_maps::suite::owner;
use skep_maps::{Dataplane, DesiredPort, PodLink, Table};

use crate::namespaces::{Namespace, mac};
use crate::support::{Place, ip, object, object_path};

/// Everything on, in both families.
pub fn config(place: &Place) -> DataplaneConfig {
    DataplaneConfig {
        cgroup_root: Some(place.cgroup.clone()),
        uplinks: vec!["up0".into()],
        node_v4: Some("192.0.2.1".parse().unwrap()),
        node_v6: Some("2001:db8::1".parse().unwrap()),
        attach: AttachChoices { veth: true, ..AttachChoices::default() },
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
