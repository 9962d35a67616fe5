//! Packets of both families through the parsers of the datapath.

use skep_logic::family::{Ipv4, Ipv6};
use skep_logic::parse::{self, Packet};
use skep_logic::{announce, fragment, quote};

/// Parses.
pub fn run(data: &[u8]) {
    let Some(_) = parse::link(data) else { return };
    for l3 in [parse::ETHERNET, parse::ETHERNET + parse::VLAN] {
        if let Ok(packet) = parse::packet::<Ipv4, _>(data, l3) {
            let _ = parse::numbers(data, &packet);
            assert!(packet.l4 >= packet.l3);
        }
        if let Ok(packet) = parse::packet::<Ipv6, _>(data, l3) {
            let _ = parse::numbers(data, &packet);
            assert!(packet.l4 >= packet.l3);
        }
        let _ = parse::plain::<Ipv4, _>(data, l3, &mut Packet::default());
        let _ = parse::plain::<Ipv6, _>(data, l3, &mut Packet::default());
        let _ = (quote::read::<Ipv4, _>(data, l3), quote::read::<Ipv6, _>(data, l3));
        let _ = (fragment::read::<Ipv4, _>(data, l3), fragment::read::<Ipv6, _>(data, l3));
        let _ = (announce::read::<Ipv4, _>(data, l3), announce::read::<Ipv6, _>(data, l3));
    }
}
