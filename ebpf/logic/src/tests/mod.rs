//! Readers of packets on bytes that nobody promised anything about: what they find lies within the bytes, or they find
//! nothing. What programs do with packets is tested on the kernel (`tests/datapath`).

mod assign;

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use skep_abi::flow::Flow;

use crate::fragment::{self, FIRST, Piece};
use crate::parse::{self, ETHERNET};
use crate::quote;
use crate::{Family, Ipv4, Ipv6};

/// Bytes that begin as a packet of this family does often enough to get somewhere.
fn bytes(v4: bool) -> impl Strategy<Value = Vec<u8>> {
    let start = if v4 { 0x45 } else { 0x60 };
    let protocols = proptest::sample::select(vec![1_u8, 6, 17, 44, 58, 60, 132, 0]);
    let errors = proptest::sample::select(vec![1_u8, 2, 3, 4, 11, 12, 8]);
    let content = proptest::collection::vec(any::<u8>(), 0..260);
    (content, protocols.clone(), protocols, errors, proptest::array::uniform5(proptest::bool::weighted(0.9)))
        .prop_map(move |(mut bytes, outer, inner, kind, plain)| {
            let header = if v4 { 20 } else { 40 };
            let protocol = if v4 { 9 } else { 6 };
            let quoted = header + 8;
            put(&mut bytes, 0, start, plain[0]);
            put(&mut bytes, protocol, outer, plain[0]);
            // Behind a fragment header the transport is named.
            put(&mut bytes, header, if outer == 44 { inner } else { kind }, plain[1]);
            put(&mut bytes, quoted, start, plain[2]);
            put(&mut bytes, quoted + protocol, inner, plain[2]);
            // What is quoted was sent by whoever is told.
            let (from, to, length) = if v4 { (12, 16, 4) } else { (8, 24, 16) };
            let (to, quoted_from) = (ETHERNET + to, ETHERNET + quoted + from);
            if plain[2] && bytes.len() >= quoted_from + length {
                bytes.copy_within(to..to + length, quoted_from);
            }
            // A length that is near the truth, and no fragment.
            put(&mut bytes, if v4 { 2 } else { 4 }, 0, plain[3]);
            if v4 {
                put(&mut bytes, 6, 0, plain[4]);
                put(&mut bytes, 7, 0, plain[4]);
                put(&mut bytes, quoted + 6, 0, plain[4]);
                put(&mut bytes, quoted + 7, 0, plain[4]);
            }
            bytes
        })
}

fn put(bytes: &mut [u8], at: usize, value: u8, wanted: bool) {
    if let Some(byte) = bytes.get_mut(ETHERNET + at).filter(|_| wanted) {
        *byte = value;
    }
}

/// Says whether a packet, an error and a fragment were found.
fn check<F: Family>(bytes: &[u8]) -> [bool; 3] {
    let mut found = [false; 3];
    let within =
        |end: usize, what: &str| assert!(end <= bytes.len(), "{what} ends at {end} of {}", bytes.len());
    if let Ok(packet) = parse::packet::<F, _>(bytes, ETHERNET) {
        found[0] = true;
        within(packet.l4 + 8, "a packet");
    }
    if let Some(quote) = quote::read::<F, _>(bytes, ETHERNET) {
        found[1] = true;
        within(quote.packet.l4 + 8, "an error");
        within(quote.inner + F::HEADER, "a quote");
        within(quote.inner_l4 + 4, "a quote's ports");
        assert!(quote.inner_l4 >= quote.inner + F::HEADER && quote.checksum <= quote::WITHIN);
        if quote.checksum != 0 {
            within(quote.checksum + 2, "a quote's checksum");
        }
        let sums = quote::checksums::<F, _>(bytes, &quote, &Flow::default(), false);
        assert!(sums.is_some(), "what was read can be written");
    }
    let zero = F::Address::default();
    let network =
        parse::Network { source: zero, destination: zero, protocol: 0, hops: 0, length: 0, header_length: 0 };
    let none = skep_abi::Be16::new(0);
    let packet = parse::Packet { network, source_port: none, destination_port: none, flags: 0, l3: 0, l4: 0 };
    let key = skep_abi::fragment::FragmentKey { source: zero, destination: zero, id: 0, protocol: 0 };
    let mut whole = Piece { packet, key, place: 0, new_id: 0 };
    if fragment::read_whole::<F, _>(bytes, ETHERNET, &mut whole) {
        within(whole.packet.l4 + 16, "an SCTP packet");
    }
    if let Some(piece) = fragment::read::<F, _>(bytes, ETHERNET) {
        found[2] = true;
        within(piece.packet.l4, "a fragment's network header");
        if piece.place == FIRST {
            within(piece.packet.l4 + 8, "a first fragment");
        }
    }
    found
}

fn run<F: Family>() {
    let counts = [const { Cell::new(0) }; 3];
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let result = runner.run(&bytes(F::IS_V4), |bytes| {
        for (count, found) in counts.iter().zip(check::<F>(&bytes)) {
            count.set(count.get() + u32::from(found));
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let counts = counts.map(|count| count.get());
    assert!(counts.iter().all(|count| *count > 20), "packets, errors, fragments found: {counts:?}");
}

#[test]
fn readers_of_ipv4_stay_within_any_bytes() {
    run::<Ipv4>();
}

#[test]
fn readers_of_ipv6_stay_within_any_bytes() {
    run::<Ipv6>();
}

#[test]
fn error_about_a_short_packet_is_read_and_its_checksums_follow() {
    // From 198.51.100.7 to 192.0.2.1, fragmentation needed, about UDP 192.0.2.1:61000 -> 10.244.2.7:53 of 8 bytes quoted.
    let mut frame = vec![0; ETHERNET];
    frame.extend([0x45, 0, 0, 56, 0, 0, 0, 0, 64, 1, 0, 0, 198, 51, 100, 7, 192, 0, 2, 1]);
    frame.extend([3, 4, 0x12, 0x34, 0, 0, 5, 120]);
    frame.extend([0x45, 0, 5, 220, 0, 1, 0x40, 0, 63, 17, 0xab, 0xcd, 192, 0, 2, 1, 10, 244, 2, 7]);
    frame.extend([0xee, 0x48, 0, 53, 5, 200, 0x56, 0x78]);
    let quote = quote::read::<Ipv4, _>(frame.as_slice(), ETHERNET).expect("an error that quotes enough");
    assert_eq!((quote.inner, quote.inner_l4, quote.checksum), (42, 62, 68));
    let packet = &quote.packet;
    assert_eq!((packet.source_port.get(), packet.destination_port.get()), (53, 61000));
    assert_eq!(
        (packet.network.source.octets(), packet.network.destination.octets()),
        ([10, 244, 2, 7], [192, 0, 2, 1])
    );
    // Nothing changes when everything stays as it is.
    let flow = Flow {
        source: packet.network.source,
        destination: packet.network.destination,
        new_source: packet.network.source,
        new_destination: packet.network.destination,
        new_source_port: packet.source_port,
        new_destination_port: packet.destination_port,
        ..Flow::default()
    };
    let sums = quote::checksums::<Ipv4, _>(frame.as_slice(), &quote, &flow, false).expect("readable");
    assert_eq!(sums.message.to_ne_bytes(), [0x12, 0x34]);
    assert_eq!(sums.inner_header.to_ne_bytes(), [0xab, 0xcd]);
    assert_eq!(sums.inner.to_ne_bytes(), [0x56, 0x78]);
    // A quote of seven bytes is too short (RFC 792).
    frame[17] = 55;
    assert_eq!(quote::read::<Ipv4, _>(frame.as_slice(), ETHERNET), None);
}
