//! Packets by description: builds Ethernet frames with right checksums and reads frames back into descriptions, checksums
//! checked. Independent of the datapath's own parser on purpose.

use std::net::{IpAddr, SocketAddr};

/// TCP flag bits.
pub const FIN: u8 = 1;
/// See [`FIN`].
pub const SYN: u8 = 2;
/// See [`FIN`].
pub const RST: u8 = 4;
/// See [`FIN`].
pub const ACK: u8 = 16;

/// IANA protocol numbers.
pub const TCP: u8 = 6;
/// See [`TCP`].
pub const UDP: u8 = 17;
/// See [`TCP`].
pub const SCTP: u8 = 132;

/// SCTP chunk types.
pub const INIT: u8 = 1;
/// See [`INIT`].
pub const INIT_ACK: u8 = 2;
/// See [`INIT`].
pub const ABORT: u8 = 6;
/// See [`INIT`].
pub const SHUTDOWN: u8 = 7;
/// See [`INIT`].
pub const DATA: u8 = 0;

/// A TCP, UDP or SCTP packet, or what a frame was found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Ethernet destination.
    pub destination_mac: [u8; 6],
    /// Ethernet source.
    pub source_mac: [u8; 6],
    /// VLAN, if tagged.
    pub vlan: Option<u16>,
    /// Source address and port.
    pub source: SocketAddr,
    /// Destination address and port.
    pub destination: SocketAddr,
    /// [`TCP`], [`UDP`] or [`SCTP`].
    pub protocol: u8,
    /// Time to live or hop limit.
    pub hops: u8,
    /// TCP flags, or the type of the one SCTP chunk.
    pub flags: u8,
    /// TCP sequence number, or SCTP verification tag.
    pub sequence: u32,
    /// TCP acknowledgment number, or the SCTP chunk's flags.
    pub acknowledgment: u32,
    /// What is carried.
    pub payload: Vec<u8>,
    /// IPv4 options or IPv6 extension headers, as they lie in the packet; the first extension header's number comes first.
    pub options: Vec<u8>,
}

impl Packet {
    /// A SYN.
    pub fn tcp(source: SocketAddr, destination: SocketAddr, flags: u8) -> Self {
        Self {
            destination_mac: [2, 0, 0, 0, 0, 1],
            source_mac: [2, 0, 0, 0, 0, 100],
            vlan: None,
            source,
            destination,
            protocol: TCP,
            hops: 64,
            flags,
            sequence: 1000,
            // What answers a SYN with the sequence number above, as the other side's has it.
            acknowledgment: 1001,
            payload: Vec::new(),
            options: Vec::new(),
        }
    }

    /// A datagram with a short payload.
    pub fn udp(source: SocketAddr, destination: SocketAddr) -> Self {
        Self {
            protocol: UDP,
            flags: 0,
            sequence: 0,
            acknowledgment: 0,
            payload: b"hello".to_vec(),
            ..Self::tcp(source, destination, 0)
        }
    }

    /// An SCTP packet of one chunk.
    pub fn sctp(source: SocketAddr, destination: SocketAddr, chunk: u8) -> Self {
        Self {
            protocol: SCTP,
            flags: chunk,
            sequence: if chunk == INIT { 0 } else { 0x1122_3344 },
            acknowledgment: 0,
            payload: (0..16).collect(),
            ..Self::tcp(source, destination, 0)
        }
    }

    /// The frame.
    pub fn build(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.extend(self.destination_mac);
        frame.extend(self.source_mac);
        if let Some(vlan) = self.vlan {
            frame.extend([0x81, 0x00]);
            frame.extend(vlan.to_be_bytes());
        }
        let transport = self.transport();
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend([0x08, 0x00]);
                let length = 20 + self.options.len();
                let mut header = vec![0x40 | (length / 4) as u8, 0];
                header.extend(((length + transport.len()) as u16).to_be_bytes());
                header.extend([0x12, 0x34, 0x40, 0, self.hops, self.protocol, 0, 0]);
                header.extend(source.octets());
                header.extend(destination.octets());
                header.extend(&self.options);
                let sum = checksum(&[&header]);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                frame.extend(header);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                let (next, extensions) = match self.options.split_first() {
                    Some((next, extensions)) => (*next, extensions),
                    None => (self.protocol, &[][..]),
                };
                frame.extend(((extensions.len() + transport.len()) as u16).to_be_bytes());
                frame.extend([next, self.hops]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
                frame.extend(extensions);
            }
            _ => panic!("source and destination of two families"),
        }
        frame.extend(transport);
        frame
    }

    fn transport(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.source.port().to_be_bytes());
        bytes.extend(self.destination.port().to_be_bytes());
        if self.protocol == SCTP {
            bytes.extend(self.sequence.to_be_bytes());
            bytes.extend([0; 4]);
            bytes.extend([self.flags, self.acknowledgment as u8]);
            bytes.extend(((4 + self.payload.len()) as u16).to_be_bytes());
            bytes.extend(&self.payload);
            let sum = crc32c(&bytes);
            bytes[8..12].copy_from_slice(&sum.to_le_bytes());
            return bytes;
        }
        let at = if self.protocol == TCP {
            bytes.extend(self.sequence.to_be_bytes());
            bytes.extend(self.acknowledgment.to_be_bytes());
            bytes.extend([5 << 4, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
            16
        } else {
            bytes.extend(((8 + self.payload.len()) as u16).to_be_bytes());
            bytes.extend([0, 0]);
            6
        };
        bytes.extend(&self.payload);
        let sum = checksum(&[&self.pseudo_header(bytes.len()), &bytes]);
        let sum = if sum == 0 && self.protocol == UDP { 0xffff } else { sum };
        bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    fn pseudo_header(&self, length: usize) -> Vec<u8> {
        let mut bytes = octets(self.source.ip());
        bytes.extend(octets(self.destination.ip()));
        bytes.extend((length as u32).to_be_bytes());
        bytes.extend([0, 0, 0, self.protocol]);
        bytes
    }

    /// Reads a frame of TCP, UDP or SCTP (of one chunk) without options.
    ///
    /// # Errors
    ///
    /// What is wrong with it, a wrong checksum among other things.
    pub fn read(frame: &[u8]) -> Result<Self, String> {
        let take = |from: usize, length: usize| {
            frame
                .get(from..from + length)
                .ok_or_else(|| format!("{} bytes end before {from}+{length}", frame.len()))
        };
        let word = |at: usize| take(at, 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
        let (vlan, l3) = if word(12)? == 0x8100 { (Some(word(14)?), 18) } else { (None, 14) };
        let (source, destination, protocol, hops, l4, length): (IpAddr, IpAddr, u8, u8, usize, usize) =
            match word(l3 - 2)? {
                0x0800 => {
                    let header = usize::from(take(l3, 1)?[0] & 15) * 4;
                    if checksum(&[take(l3, header)?]) != 0 {
                        return Err("wrong header checksum".into());
                    }
                    let address = |at| take(at, 4).map(|b| IpAddr::from([b[0], b[1], b[2], b[3]]));
                    let length =
                        usize::from(word(l3 + 2)?).checked_sub(header).ok_or("shorter than its header")?;
                    (
                        address(l3 + 12)?,
                        address(l3 + 16)?,
                        take(l3 + 9, 1)?[0],
                        take(l3 + 8, 1)?[0],
                        l3 + header,
                        length,
                    )
                }
                0x86dd => {
                    let address = |at| {
                        take(at, 16)
                            .map(|b| IpAddr::from(<[u8; 16]>::try_from(b).expect("16 bytes were taken")))
                    };
                    let length = usize::from(word(l3 + 4)?);
                    (
                        address(l3 + 8)?,
                        address(l3 + 24)?,
                        take(l3 + 6, 1)?[0],
                        take(l3 + 7, 1)?[0],
                        l3 + 40,
                        length,
                    )
                }
                other => return Err(format!("EtherType {other:#06x}")),
            };
        let bytes = take(l4, length)?;
        let tcp = protocol == TCP;
        let sctp = protocol == SCTP;
        if !tcp && !sctp && protocol != UDP {
            return Err(format!("protocol {protocol}: {bytes:02x?}"));
        }
        let least = match protocol {
            TCP => 20,
            SCTP => 16,
            _ => 8,
        };
        if bytes.len() < least {
            return Err(format!("{} bytes of protocol {protocol}", bytes.len()));
        }
        let number = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let packet = Self {
            destination_mac: take(0, 6)?.try_into().expect("6 bytes were taken"),
            source_mac: take(6, 6)?.try_into().expect("6 bytes were taken"),
            vlan,
            source: SocketAddr::new(source, u16::from_be_bytes([bytes[0], bytes[1]])),
            destination: SocketAddr::new(destination, u16::from_be_bytes([bytes[2], bytes[3]])),
            protocol,
            hops,
            flags: match protocol {
                TCP => bytes[13],
                SCTP => bytes[12],
                _ => 0,
            },
            sequence: if tcp || sctp { number(4) } else { 0 },
            acknowledgment: match protocol {
                TCP => number(8),
                SCTP => u32::from(bytes[13]),
                _ => 0,
            },
            payload: bytes[match protocol {
                TCP => 20,
                SCTP => 16,
                _ => 8,
            }..]
                .to_vec(),
            options: Vec::new(),
        };
        if sctp {
            let mut zeroed = bytes.to_vec();
            zeroed[8..12].fill(0);
            if crc32c(&zeroed).to_le_bytes() != bytes[8..12] {
                return Err(format!("wrong SCTP checksum: {packet:?}"));
            }
        } else if checksum(&[&packet.pseudo_header(length), bytes]) != 0 {
            return Err(format!("wrong transport checksum: {packet:?}"));
        }
        Ok(packet)
    }
}

/// Gives a frame without VLAN tag, IP options and TCP payload, as [`Packet::build`] makes it, another source, and the
/// checksums that follow from it: in place, for many packets.
///
/// # Panics
///
/// The frame is shorter than its headers.
pub fn set_source(frame: &mut [u8], source: SocketAddr) {
    let (address, l4) = match source.ip() {
        IpAddr::V4(address) => {
            frame[26..30].copy_from_slice(&address.octets());
            frame[24..26].fill(0);
            let sum = checksum(&[&frame[14..34]]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
            (26..34, 34)
        }
        IpAddr::V6(address) => {
            frame[22..38].copy_from_slice(&address.octets());
            (22..54, 54)
        }
    };
    frame[l4..l4 + 2].copy_from_slice(&source.port().to_be_bytes());
    frame[l4 + 16..l4 + 18].fill(0);
    let length = (frame.len() - l4) as u16;
    let rest = [0, TCP, (length >> 8) as u8, length as u8];
    let sum = checksum(&[&frame[address], &rest, &frame[l4..]]);
    frame[l4 + 16..l4 + 18].copy_from_slice(&sum.to_be_bytes());
}

/// CRC32c (RFC 9260 appendix A), bit by bit.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 };
        }
    }
    !sum
}

/// The bytes of an address.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The internet checksum over parts that are each of even length but the last.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_source_makes_the_packet_that_would_have_been_built() {
        for (one, other, to) in
            [("1.2.3.4:5", "9.8.7.6:54", "6.7.8.9:10"), ("[2001:db8::1]:5", "[fe80::9]:1", "[2001:db8::2]:6")]
        {
            let [one, other, to] = [one, other, to].map(|text| text.parse().unwrap());
            let mut frame = Packet::tcp(one, to, SYN).build();
            set_source(&mut frame, other);
            assert_eq!(frame, Packet::tcp(other, to, SYN).build());
        }
    }

    #[test]
    fn packet_built_and_read_is_the_same() {
        for (source, destination) in [("1.2.3.4:5", "6.7.8.9:10"), ("[2001:db8::1]:5", "[2001:db8::2]:6")] {
            let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
            let mut packet = Packet::tcp(source, destination, SYN | ACK);
            packet.payload = b"odd".to_vec();
            assert_eq!(Packet::read(&packet.build()), Ok(packet));
            let mut packet = Packet::udp(source, destination);
            packet.vlan = Some(7);
            assert_eq!(Packet::read(&packet.build()), Ok(packet));
            let packet = Packet::sctp(source, destination, INIT);
            assert_eq!(Packet::read(&packet.build()), Ok(packet));
        }
    }
}
