//! Services and records that do not agree.

use serde_json::json;

use super::super::claim::record_of;
use super::*;

#[derive(Default)]
struct Things {
    records: HashMap<IpAddr, Arc<Value>>,
    services: HashMap<(String, String), Arc<Value>>,
}

impl World for Things {
    fn record(&self, address: IpAddr) -> Option<Arc<Value>> {
        self.records.get(&address).cloned()
    }

    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.services.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    fn in_range(&self, address: IpAddr) -> bool {
        address.to_string().starts_with("10.0.")
    }
}

const ADDRESS: &str = "10.0.0.7";

fn one(name: &str, addresses: &[&str]) -> Value {
    json!({
        "metadata": { "namespace": "n", "name": name, "creationTimestamp": "2026-01-01T00:00:00Z" },
        "spec": { "clusterIPs": addresses },
    })
}

fn world(services: &[Value], record_for: Option<&str>) -> Things {
    let mut world = Things::default();
    for service in services {
        let name = text(&service["metadata"], "name").to_owned();
        world.services.insert(("n".into(), name), Arc::new(service.clone()));
    }
    if let Some(name) = record_for {
        let address: IpAddr = ADDRESS.parse().unwrap();
        world.records.insert(address, Arc::new(record_of(address, "n", name)));
    }
    world
}

#[test]
fn service_whose_record_is_missing_or_wrong_gets_one() {
    let address: IpAddr = ADDRESS.parse().unwrap();
    let a = one("a", &[ADDRESS]);
    let reason = |found: &[(Mend, Option<Note>)]| found[0].1.as_ref().map(|note| note.reason);
    for (world, mend, expected) in [
        (world(&[], Some("a")), Mend::Leave, None),
        (world(&[], None), Mend::Create(address), Some("ClusterIPNotAllocated")),
        (world(&[], Some("gone")), Mend::Replace(address), Some("ClusterIPNotAllocated")),
        (world(&[one("b", &[ADDRESS])], Some("b")), Mend::Leave, Some("ClusterIPAlreadyAllocated")),
        (world(&[one("b", &["10.0.0.8"])], Some("b")), Mend::Later(GRACE), None),
    ] {
        let found = service(&a, &world);
        assert_eq!((&found[0].0, reason(&found)), (&mend, expected));
    }
    let mut bare = world(&[], Some("a"));
    Arc::make_mut(bare.records.get_mut(&address).unwrap())["metadata"]["labels"] = json!({});
    assert_eq!(service(&a, &bare), [(Mend::Replace(address), None)]);
    assert_eq!(reason(&service(&one("a", &["10.1.0.1"]), &bare)), Some("ClusterIPOutOfRange"));
    assert_eq!(reason(&service(&one("a", &["x"]), &bare)), Some("ClusterIPNotValid"));
    assert_eq!(service(&one("a", &["None"]), &bare), []);
}

#[test]
fn record_without_its_service_goes_after_its_grace() {
    let mut object = record_of(ADDRESS.parse().unwrap(), "n", "a");
    object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:01:00Z");
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let (soon, late) = (at("2026-01-01T00:01:02Z"), at("2026-01-01T00:02:00Z"));
    let nobody = world(&[], None);
    assert_eq!(record(&object, &nobody, soon), (Mend::Later(Duration::from_secs(58)), None));
    let (mend, note) = record(&object, &nobody, late);
    assert_eq!((mend, note.unwrap().reason), (Mend::Delete, "IPAddressNotAllocated"));
    assert_eq!(record(&object, &world(&[one("a", &[ADDRESS])], None), late), (Mend::Leave, None));
    let other = world(&[one("a", &["10.0.0.9"])], None);
    assert_eq!(record(&object, &other, soon), (Mend::Later(REVERTING), None));
    let (mend, note) = record(&object, &other, late);
    assert_eq!((mend, note.unwrap().reason), (Mend::Delete, "IPAddressWrongReference"));
    object["spec"]["parentRef"]["resource"] = json!("gateways");
    assert_eq!(record(&object, &other, soon).0, Mend::Delete);
    object["metadata"]["labels"] = json!({});
    assert_eq!(record(&object, &other, late), (Mend::Leave, None));
}

#[test]
fn ports_are_rebuilt_from_services_and_leaks_go_after_three_rounds() {
    let range = (30000, 30100);
    let service = |ports: Value| Arc::new(json!({ "metadata": { "name": "a" }, "spec": { "ports": ports } }));
    let both = service(json!([
        { "nodePort": 30001, "protocol": "TCP" }, { "nodePort": 30001, "protocol": "UDP" },
        { "nodePort": 30002, "protocol": "TCP" },
    ]));
    let twice =
        service(json!([{ "nodePort": 30002, "protocol": "TCP" }, { "nodePort": 80, "protocol": "TCP" }]));
    let mut stored = PortSet::none(range);
    stored.insert(30001);
    stored.insert(30050);
    let mut leaks = HashMap::new();
    for round in 0..=ROUNDS {
        let (set, notes) = ports(&stored, range, [&both, &twice].into_iter(), &mut leaks);
        let reasons: Vec<_> = notes.iter().map(|(_, note)| note.reason).collect();
        let kept: Vec<u16> = set.iter().collect();
        if round == 0 {
            assert_eq!(reasons, ["PortNotAllocated", "PortAlreadyAllocated", "PortOutOfRange"]);
        }
        let expected: &[u16] = if round < ROUNDS { &[30001, 30002, 30050] } else { &[30001, 30002] };
        assert_eq!(kept, expected, "round {round}");
        stored = set;
    }
    assert!(leaks.is_empty());
}
