//! The dataplane on the real kernel: loading, adopting, attaching, applying, cleaning up.
//!
//! Each test runs on a thread of its own in a fresh network and mount namespace with a private BPF file system, so that
//! nothing of it is left when the thread ends. The object comes from `SKEP_EBPF_OBJECT` or the build's default place.
#![allow(clippy::unwrap_used)] // a test

mod support;

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use skep_abi::config::CONFIG;
use skep_abi::counters::ServiceStats;
use skep_abi::flow::{FLOW_HALF_OPEN, STATE_ESTABLISHED};
use skep_abi::service::SERVICES_V4;
use skep_dataplane::inspect::Inspector;
use skep_dataplane::{AttachChoices, DataplaneConfig, Error, KernelDataplane, XdpState, cleanup};
use skep_maps::suite::{self, owner, port};
use skep_maps::{Dataplane, Difference, MapsError, PodLink, Table};
use support::{Place, ip, isolated, object};

fn config(place: &Place) -> DataplaneConfig {
    DataplaneConfig {
        cgroup_root: Some(place.cgroup.clone()),
        uplinks: vec!["up0".into()],
        node_v4: Some("192.0.2.1".parse().unwrap()),
        attach: AttachChoices { veth: true, ..AttachChoices::default() },
        ..DataplaneConfig::new(object(), &place.pins, 7)
    }
}

fn pod_link() -> PodLink {
    let index = nix::net::if_::if_nametoindex("pod0").unwrap();
    PodLink {
        interface: "pod0".into(),
        ifindex: index,
        host_mac: [2, 0, 0, 0, 0, 1],
        pod_mac: [2, 0, 0, 0, 0, 2],
        addresses: vec!["10.244.1.2".parse().unwrap(), "fd44:1::2".parse().unwrap()],
        xdp_redirect: false,
    }
}

/// Pin and program id of every link.
fn links(place: &Place) -> Vec<(String, u32)> {
    let rows = Inspector::open(&place.pins).unwrap().attachments().unwrap();
    rows.into_iter().map(|row| (row.link, row.program_id)).collect()
}

fn names(links: &[(String, u32)]) -> Vec<&str> {
    links.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn kernel_dataplane_passes_the_suite() {
    isolated(|place| {
        let dataplane = KernelDataplane::open(&config(place)).unwrap();
        suite::services_follow_the_differences(&dataplane);
        suite::source_ranges_follow_the_differences(&dataplane);
        suite::pods_come_and_go(&dataplane, &pod_link());
        assert!(!names(&links(place)).contains(&"pod-pod0-ingress"));
    });
}

#[test]
fn restart_takes_over_maps_and_links_and_replaces_the_programs() {
    isolated(|place| {
        let first = KernelDataplane::open(&config(place)).unwrap();
        assert_eq!(first.uplinks(), [("up0".to_owned(), XdpState::Native)]);
        first.attach_pod(&pod_link()).unwrap();
        let mut table = skep_maps::dataplane::adopt(&first).unwrap();
        table.replace(&owner("default/web"), &[port("10.96.0.7", &["10.244.1.2"], &[])]).unwrap();
        first.apply(&table.take_difference()).unwrap();
        let services = first.services().unwrap();
        drop(first);
        let before = links(place);
        assert_eq!(
            names(&before),
            [
                "cgroup-connect4",
                "cgroup-connect6",
                "cgroup-getpeername4",
                "cgroup-getpeername6",
                "cgroup-recvmsg4",
                "cgroup-recvmsg6",
                "cgroup-sendmsg4",
                "cgroup-sendmsg6",
                "pod-pod0-ingress",
                "uplink-up0-egress",
                "uplink-up0-ingress",
                "uplink-up0-xdp-native",
            ]
        );
        let second = KernelDataplane::open(&config(place)).unwrap();
        assert_eq!(second.services().unwrap(), services);
        assert_eq!(second.local_endpoints().unwrap().len(), 2);
        let after = links(place);
        assert_eq!(names(&after), names(&before));
        assert!(before.iter().zip(&after).all(|(old, new)| old.1 != new.1), "{before:?} {after:?}");
        let programs = Inspector::open(&place.pins).unwrap().programs().unwrap();
        assert_eq!(programs.len(), 12, "{programs:?}");
    });
}

#[test]
fn restart_after_an_interface_was_made_anew_attaches_to_it() {
    isolated(|place| {
        let first = KernelDataplane::open(&config(place)).unwrap();
        first.attach_pod(&pod_link()).unwrap();
        drop(first);
        for interface in ["up", "pod"] {
            ip(&format!("link delete {interface}0"));
            ip(&format!("link add {interface}0 type veth peer name {interface}1"));
        }
        let index = nix::net::if_::if_nametoindex("up0").unwrap();
        let second = KernelDataplane::open(&config(place)).unwrap();
        assert_eq!(second.uplinks()[0].1, XdpState::Native);
        let rows = Inspector::open(&place.pins).unwrap().attachments().unwrap();
        let targets: Vec<&str> =
            rows.iter().filter(|row| row.link.starts_with("uplink")).map(|row| row.target.as_str()).collect();
        assert_eq!(targets, [format!("up0 ({index})").as_str(); 3]);
        assert_eq!(second.local_endpoints().unwrap(), vec![], "the pod's old interface is forgotten");
        assert!(!names(&links(place)).contains(&"pod-pod0-ingress"));
    });
}

#[test]
fn open_native_refused_falls_back_to_generic_then_to_tc() {
    isolated(|place| {
        // The driver refuses XDP when frames do not fit into a page.
        ip("link set up1 mtu 9000");
        ip("link set up0 mtu 9000");
        let first = KernelDataplane::open(&config(place)).unwrap();
        assert_eq!(first.uplinks()[0].1, XdpState::Generic);
        drop(first);
        let attach = AttachChoices { native: false, generic: false, ..AttachChoices::default() };
        let second = KernelDataplane::open(&DataplaneConfig { attach, ..config(place) }).unwrap();
        assert_eq!(second.uplinks()[0].1, XdpState::Off);
        let left = links(place);
        assert!(!names(&left).iter().any(|name| name.contains("xdp")), "{left:?}");
        assert!(names(&left).contains(&"uplink-up0-ingress"));
    });
}

#[test]
fn open_on_a_veth_whose_other_end_is_not_known_to_answer_is_generic() {
    isolated(|place| {
        let first = KernelDataplane::open(&config(place)).unwrap();
        assert_eq!(first.uplinks()[0].1, XdpState::Native);
        drop(first);
        let attach = AttachChoices::default();
        let second = KernelDataplane::open(&DataplaneConfig { attach, ..config(place) }).unwrap();
        assert_eq!(second.uplinks()[0].1, XdpState::Generic);
        let attached: Vec<String> =
            names(&links(place)).into_iter().filter(|name| name.contains("xdp")).map(str::to_owned).collect();
        assert_eq!(attached, ["uplink-up0-xdp-generic"]);
    });
}

#[test]
fn open_without_tcx_uses_filters_that_are_replaced_and_cleaned_up() {
    isolated(|place| {
        // A view of this namespace's interfaces.
        mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>).unwrap();
        mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
        let attach = AttachChoices { tcx: false, ..AttachChoices::default() };
        let config = DataplaneConfig { attach, cgroup_root: None, ..config(place) };
        let filters = |direction: &str| -> Vec<String> {
            let output =
                Command::new("tc").args(["filter", "show", "dev", "up0", direction]).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            text.lines().filter(|line| line.contains("tc_uplink")).map(str::to_owned).collect()
        };
        for _ in 0..2 {
            drop(KernelDataplane::open(&config).unwrap());
            assert_eq!((filters("ingress").len(), filters("egress").len()), (1, 1));
        }
        cleanup(&place.pins).unwrap();
        assert_eq!((filters("ingress").len(), filters("egress").len()), (0, 0));
    });
}

#[test]
fn open_over_maps_of_another_layout_is_refused_and_changes_nothing() {
    isolated(|place| {
        drop(KernelDataplane::open(&config(place)).unwrap());
        let before = links(place);
        let pin = place.pins.join("maps").join(SERVICES_V4);
        fs::remove_file(&pin).unwrap();
        let made = Command::new("bpftool")
            .args(["map", "create", &pin.to_string_lossy(), "type", "hash", "key", "8", "value", "24"])
            .args(["entries", "16", "name", "other", "flags", "1"])
            .status()
            .unwrap();
        assert!(made.success());
        let error = KernelDataplane::open(&config(place)).unwrap_err();
        assert!(matches!(&error, Error::LayoutDiffers { map, .. } if map == SERVICES_V4), "{error}");
        fs::remove_file(&pin).unwrap();
        // The links still run the programs that they ran.
        let pins = skep_dataplane::Pins::new(&place.pins);
        assert_eq!(before.len(), fs::read_dir(pins.links()).unwrap().count());
    });
}

/// Makes a map as an earlier version had it, with one entry.
fn earlier_map(place: &Place, name: &str, kind: &str, [key, value]: [&[u8]; 2]) {
    let pin = place.pins.join("maps").join(name);
    let (pin, sizes) = (pin.to_string_lossy(), [key.len().to_string(), value.len().to_string()]);
    let bpftool = |arguments: &[&str]| {
        let output = Command::new("bpftool").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let entries = if kind == "array" { "1" } else { "64" };
    let made =
        ["map", "create", &pin, "type", kind, "key", &sizes[0], "value", &sizes[1], "entries", entries];
    bpftool(&[&made[..], &["name", "earlier"]].concat());
    let mut update = ["map", "update", "pinned", &pin, "key"].map(str::to_owned).to_vec();
    update.extend(key.iter().map(u8::to_string));
    update.push("value".to_owned());
    update.extend(value.iter().map(u8::to_string));
    bpftool(&update.iter().map(String::as_str).collect::<Vec<_>>());
}

/// An established flow from 192.0.2.9 to 10.96.0.77:80 that leads to 10.244.1.2:8080, as version 5 had it: the offsets are
/// that version's.
fn earlier_flow(place: &Place, map: &str, port: u16, flags: u8) {
    let (client, front, pod) = ([192, 0, 2, 9], [10, 96, 0, 77], [10, 244, 1, 2]);
    let mut key = [client, front].concat();
    key.extend(port.to_be_bytes());
    key.extend(80_u16.to_be_bytes());
    key.extend([6, 0, 0, 0]);
    let mut value = vec![0; 80];
    value[..16].copy_from_slice(&[client, front, client, pod].concat());
    value[16..18].copy_from_slice(&port.to_be_bytes());
    value[18..20].copy_from_slice(&8080_u16.to_be_bytes());
    value[60] = STATE_ESTABLISHED;
    value[61] = flags;
    value[64] = 7;
    earlier_map(place, map, "lru_hash", [&key, &value]);
}

/// Makes the pinned settings those of an earlier version, which had less of them.
fn set_earlier_version(place: &Place, version: u32) {
    let pin = place.pins.join("maps").join(CONFIG);
    let mut value = settings(place);
    value[0] = version.to_string();
    fs::remove_file(pin).unwrap();
    let value: Vec<u8> = value[..56].iter().map(|byte| byte.trim_start_matches("0x")).map(hex).collect();
    earlier_map(place, CONFIG, "array", [&[0; 4], &value]);
}

fn hex(byte: &str) -> u8 {
    u8::from_str_radix(byte, 16).unwrap()
}

/// The bytes of the pinned settings, as bpftool writes them.
fn settings(place: &Place) -> Vec<String> {
    let pin = place.pins.join("maps").join(CONFIG);
    let pin = pin.to_string_lossy();
    let output = Command::new("bpftool").args(["-j", "map", "dump", "pinned", &pin]).output().unwrap();
    let dump: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    serde_json::from_value(dump[0]["value"].clone()).unwrap()
}

/// Overwrites the version in the pinned settings.
fn set_version(place: &Place, version: u32) {
    let pin = place.pins.join("maps").join(CONFIG);
    let pin = pin.to_string_lossy();
    let mut value = settings(place);
    value[0] = version.to_string();
    let update = ["map", "update", "pinned", &pin, "key", "0", "0", "0", "0", "value"];
    let status = Command::new("bpftool").args(update).args(&value).status().unwrap();
    assert!(status.success());
}

#[test]
fn open_over_maps_of_an_earlier_version_takes_over_what_they_hold() {
    isolated(|place| {
        let dataplane = KernelDataplane::open(&config(place)).unwrap();
        suite::services_follow_the_differences(&dataplane);
        let mut table = skep_maps::dataplane::adopt(&dataplane).unwrap();
        table.replace(&owner("default/kept"), &[port("10.96.0.77", &["10.244.1.2"], &[])]).unwrap();
        dataplane.apply(&table.take_difference()).unwrap();
        let (services, states) = (dataplane.services().unwrap(), dataplane.backend_states());
        let before = links(place);
        drop(dataplane);
        // As version 2 left it: without the maps that came later.
        let later = ["FRAGMENTS_V4", "FRAGMENTS_V6", "SOURCE_RANGES_V4", "SOURCE_RANGES_V6"];
        let later = later.into_iter().chain(["CONNECTED_V4", "CONNECTED_V6", "SERVICE_COUNTS"]);
        let tables = ["FLOW_SETS_V4", "FLOW_SETS_V6", "FLOW_ENTRIES_V4", "FLOW_ENTRIES_V6"];
        for name in later.chain(tables) {
            fs::remove_file(place.pins.join("maps").join(name)).unwrap();
        }
        set_earlier_version(place, 2);
        earlier_flow(place, "FLOWS_V4", 40000, 0);
        earlier_flow(place, "HALF_OPEN_V4", 40001, FLOW_HALF_OPEN);
        let counted = [5_u64, 600, 7, 8].map(u64::to_ne_bytes).concat();
        earlier_map(place, "SERVICE_STATS", "percpu_array", [&[1, 0, 0, 0], &counted]);
        let dataplane = KernelDataplane::open(&config(place)).unwrap();
        // The map has that on each processor; later entries than it has were not counted.
        let totals = |id| dataplane.service_totals(id).unwrap().unwrap();
        let processors = totals(1).packets / 5;
        assert!(processors > 0);
        let [packets, bytes, connections, refused] = [5, 600, 7, 8].map(|one| one * processors);
        assert_eq!(totals(1), ServiceStats { packets, bytes, connections, refused });
        assert_eq!([totals(2), totals(64)], [ServiceStats::default(); 2]);
        dataplane.apply(&Difference { counters: vec![1], ..Difference::default() }).unwrap();
        assert_eq!(totals(1), ServiceStats::default());
        assert_eq!((dataplane.services().unwrap(), dataplane.backend_states()), (services, states));
        let mut flows = Inspector::open(&place.pins).unwrap().flows().unwrap();
        flows.sort_by(|one, other| one.source.cmp(&other.source));
        let flows: Vec<_> = flows
            .iter()
            .map(|flow| (flow.source.as_str(), flow.new_destination.as_str(), flow.state, flow.packets))
            .collect();
        let expected = ["192.0.2.9:40000", "192.0.2.9:40001"];
        assert_eq!(flows, expected.map(|source| (source, "10.244.1.2:8080", "established", 7)));
        assert!(!place.pins.join("maps/FLOWS_V4").exists() && !place.pins.join("maps/HALF_OPEN_V4").exists());
        assert_eq!(names(&links(place)), names(&before));
        assert!(!place.pins.join("maps/CONFIG-EARLIER").exists());
        drop(dataplane);

        // What fails on the way leaves the earlier version's settings where they were, and so does an agent's sudden end.
        set_version(place, 3);
        let broken = DataplaneConfig { uplinks: vec!["nowhere".into()], ..config(place) };
        KernelDataplane::open(&broken).unwrap_err();
        let maps = place.pins.join("maps");
        assert!(maps.join(CONFIG).exists() && !maps.join("CONFIG-EARLIER").exists());
        fs::rename(maps.join(CONFIG), maps.join("CONFIG-EARLIER")).unwrap();
        drop(KernelDataplane::open(&config(place)).unwrap());
        assert!(maps.join(CONFIG).exists() && !maps.join("CONFIG-EARLIER").exists());
    });
}

#[test]
fn open_over_maps_of_another_version_is_refused() {
    isolated(|place| {
        drop(KernelDataplane::open(&config(place)).unwrap());
        let pin = place.pins.join("maps").join(CONFIG);
        let mut value = vec!["0"; size_of::<skep_abi::config::Config>()];
        value[0] = "99";
        let status = Command::new("bpftool")
            .args(["map", "update", "pinned", &pin.to_string_lossy(), "key", "0", "0", "0", "0", "value"])
            .args(&value)
            .status()
            .unwrap();
        assert!(status.success());
        let error = KernelDataplane::open(&config(place)).unwrap_err();
        assert!(matches!(error, Error::VersionDiffers { found: 99, .. }), "{error}");
    });
}

#[test]
fn cleanup_removes_every_pin_and_link_and_may_be_repeated() {
    isolated(|place| {
        let dataplane = KernelDataplane::open(&config(place)).unwrap();
        dataplane.attach_pod(&pod_link()).unwrap();
        drop(dataplane);
        assert!(cleanup(&place.pins).unwrap().len() > 25);
        assert!(!place.pins.exists());
        assert_eq!(cleanup(&place.pins).unwrap(), Vec::<PathBuf>::new());
        let shown = Command::new("bpftool").args(["net", "show"]).output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(!shown.contains("uplink") && !shown.contains("tc_from_pod"), "{shown}");
    });
}

#[test]
fn apply_many_services_in_batches_and_refuse_what_does_not_fit() {
    isolated(|place| {
        let config = DataplaneConfig { capacities: vec![(SERVICES_V4, 12_000)], ..config(place) };
        let dataplane = KernelDataplane::open(&config).unwrap();
        let mut table: Table = skep_maps::dataplane::adopt(&dataplane).unwrap();
        let plan = |number: u32| {
            let address = IpAddr::from((0x0a60_0000 + number).to_be_bytes());
            let mut plan = port(&address.to_string(), &["10.244.1.2", "10.244.2.2", "10.244.3.2"], &[]);
            plan.frontends.truncate(1);
            plan
        };
        for number in 0..10_000 {
            table.replace(&owner(&format!("default/s{number}")), &[plan(number)]).unwrap();
        }
        dataplane.apply(&table.take_difference()).unwrap();
        let reachable = suite::reachable(&dataplane);
        assert_eq!(reachable.len(), 10_000);
        assert!(reachable.values().all(|list| list.len() == 3));
        // What does not fit is refused when it is planned, and keeps nothing else from being written.
        for number in 10_000..14_000 {
            let planned = table.replace(&owner(&format!("default/s{number}")), &[plan(number)]);
            let full = matches!(planned, Err(MapsError::TableFull { what: "frontends" }));
            assert_eq!(full, number >= 12_000, "{number}: {planned:?}");
        }
        dataplane.apply(&table.take_difference()).unwrap();
        assert_eq!(suite::reachable(&dataplane).len(), 12_000);
        let mut again = skep_maps::dataplane::adopt(&dataplane).unwrap();
        for number in 0..5_000 {
            again.replace(&owner(&format!("default/s{number}")), &[plan(number)]).unwrap();
        }
        again.finish_adoption();
        dataplane.apply(&again.take_difference()).unwrap();
        assert_eq!(suite::reachable(&dataplane).len(), 5_000);
    });
}

#[test]
fn traffic_on_a_pod_link_is_counted() {
    isolated(|place| {
        let dataplane = KernelDataplane::open(&config(place)).unwrap();
        dataplane.attach_pod(&pod_link()).unwrap();
        // What pod1 sends meets the program on pod0.
        ip("address add 10.244.1.2/24 dev pod1");
        ip("neighbour add 10.244.1.9 lladdr 02:00:00:00:00:09 dev pod1");
        let socket = std::net::UdpSocket::bind("10.244.1.2:0").unwrap();
        socket.send_to(b"hello", "10.244.1.9:9").unwrap();
        let totals = dataplane.totals().unwrap();
        let counted: u64 = totals.programs.iter().flatten().sum::<u64>()
            + totals.reasons.iter().map(|counter| counter.packets).sum::<u64>();
        assert!(counted > 0, "{totals:?}");
        let registry = prometheus::Registry::new();
        skep_dataplane::metrics::register(&registry, std::sync::Arc::new(dataplane)).unwrap();
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for wanted in [
            "skep_datapath_packets_total{class=\"drop\",reason=\"no_route\"}",
            "skep_datapath_uplink_xdp{interface=\"up0\",mode=\"native\"} 1",
            "skep_datapath_flows{family=\"IPv4\"}",
            "skep_datapath_program_verified_instructions{program=\"xdp_uplink\"}",
        ] {
            assert!(text.contains(wanted), "{wanted} is not in\n{text}");
        }
    });
}

#[test]
fn next_hops_changed_raise_the_epoch() {
    isolated(|place| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dataplane = std::sync::Arc::new(KernelDataplane::open(&config(place)).unwrap());
            let (stop, shutdown) = tokio::sync::watch::channel(false);
            let task = tokio::spawn(skep_dataplane::follow_next_hops(dataplane.clone(), shutdown));
            let epoch = || {
                let pin = place.pins.join("maps").join(CONFIG);
                let output = Command::new("bpftool")
                    .args([
                        "-j",
                        "map",
                        "lookup",
                        "pinned",
                        &pin.to_string_lossy(),
                        "key",
                        "0",
                        "0",
                        "0",
                        "0",
                    ])
                    .output()
                    .unwrap();
                String::from_utf8(output.stdout).unwrap()
            };
            let pause = || tokio::time::sleep(std::time::Duration::from_millis(20));
            let noticed = async |before: &str, changes: &[&str]| {
                let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
                let mut changes = changes.iter();
                while epoch() == before {
                    assert!(std::time::Instant::now() < deadline, "the change was not noticed");
                    changes.next().into_iter().for_each(|change| ip(change));
                    pause().await;
                }
            };
            // The subscription may not have started yet: the first change is repeated.
            let (add, delete) = ("route add 203.0.113.0/24 dev lo", "route delete 203.0.113.0/24");
            noticed(&epoch(), &[add, delete].repeat(200)).await;
            ip("address add 192.0.2.1/24 dev up0");
            ip("neighbour add 192.0.2.9 lladdr 02:00:00:00:00:09 dev up0");
            for change in [
                "route add 198.51.100.0/24 via 192.0.2.9",
                "route delete 198.51.100.0/24",
                "neighbour replace 192.0.2.9 lladdr 02:00:00:00:00:0a dev up0",
            ] {
                let mut before = String::new();
                while before != epoch() {
                    before = epoch();
                    pause().await;
                }
                noticed(&before, &[change]).await;
            }
            stop.send(true).unwrap();
            task.await.unwrap().unwrap();
        });
    });
}

#[test]
fn inspect_and_metrics_say_how_full_the_maps_are() {
    isolated(|place| {
        let dataplane = std::sync::Arc::new(KernelDataplane::open(&config(place)).unwrap());
        let mut table = skep_maps::dataplane::adopt(&*dataplane).unwrap();
        let ports = [port("10.96.0.7", &["10.244.1.2", "10.244.2.2"], &[])];
        table.replace(&owner("default/web"), &ports).unwrap();
        dataplane.apply(&table.take_difference()).unwrap();
        let inspector = Inspector::open(&place.pins).unwrap();
        let rows = inspector.maps().unwrap();
        let fill = |name: &str| {
            let row = rows.iter().find(|row| row.map == name).unwrap();
            (row.entries, row.capacity, row.when_full)
        };
        assert_eq!(fill(SERVICES_V4), (2, 1 << 18, "refuses"));
        assert_eq!(fill("SERVICES_V6"), (0, 1 << 18, "refuses"));
        assert_eq!(fill("BACKENDS"), (2, 1 << 20, "refuses"));
        assert_eq!(fill("BACKEND_STATES"), (2, 1 << 20, "refuses"));
        assert_eq!(fill("FLOW_ENTRIES_V4"), (0, 1 << 18, "refuses"));
        assert_eq!(fill("FLOW_ENTRIES_V6"), (0, 1 << 18, "refuses"));
        assert_eq!(fill("AFFINITY"), (0, 1 << 16, "evicts"));
        let ids = inspector.service_ids(|frontend| frontend.port == 80).unwrap();
        assert_eq!(ids.len(), 1);
        assert_eq!(inspector.backends().unwrap().len(), 2);

        let registry = prometheus::Registry::new();
        skep_dataplane::metrics::register(&registry, dataplane).unwrap();
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            r#"skep_datapath_map_entries{map="SERVICES_V4",when_full="refuses"} 2"#,
            r#"skep_datapath_map_capacity{map="AFFINITY",when_full="evicts"} 65536"#,
            r#"skep_datapath_flows{family="IPv6"} 0"#,
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    });
}
