//! What kube-proxy has left in this network namespace's netfilter.
//!
//! Owns the question to the kernel (a dump of nf_tables' chains, which has those of `iptables-nft` too) and which chains are
//! kube-proxy's. Changes nothing. It does not see what the legacy `iptables` wrote, and asking makes the kernel load
//! nf_tables where that is a module.

use std::collections::BTreeSet;
use std::fmt;
use std::io;

use netlink_packet_core::{
    DecodeError, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable, NlasIterator, parse_string,
};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

/// `NFNL_SUBSYS_NFTABLES`, in the high byte of a message's type.
const NF_TABLES: u16 = 10 << 8;
/// `NFT_MSG_NEWCHAIN`: a chain, in a dump.
const NEW_CHAIN: u16 = NF_TABLES | 3;
/// `NFT_MSG_GETCHAIN`.
const GET_CHAIN: u16 = NF_TABLES | 4;
/// `NFTA_CHAIN_TABLE`.
const CHAIN_TABLE: u16 = 1;
/// `NFTA_CHAIN_NAME`.
const CHAIN_NAME: u16 = 3;
/// Length of `struct nfgenmsg`: family (zero is all), version, resource.
const GENERAL: usize = 4;

/// The table of kube-proxy's nftables mode, and one of its many chains.
const TABLE: [&str; 2] = ["kube-proxy", "services"];
/// Chains that kube-proxy's iptables mode always has and nobody else does: the kubelet has some of the same prefix. The first
/// drops what conntrack takes for invalid.
const CHAINS: [&str; 2] = ["KUBE-FORWARD", "KUBE-SERVICES"];

/// A chain of nf_tables.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chain {
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Chain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.table, self.name)
    }
}

/// Chains, some of many, that are there because kube-proxy runs or was not cleaned up. IPv4's and IPv6's of one name are one.
///
/// # Errors
///
/// The kernel's: without nf_tables there is none to ask.
pub fn of_kube_proxy() -> io::Result<BTreeSet<Chain>> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(Message::Ask));
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut found = BTreeSet::new();
    while read(&socket.recv_from_full()?.0, &mut found)? {}
    Ok(found)
}

/// Adds kube-proxy's chains of one part of a dump to `found`. Says whether there is more to come.
fn read(mut bytes: &[u8], found: &mut BTreeSet<Chain>) -> io::Result<bool> {
    while !bytes.is_empty() {
        let message = NetlinkMessage::<Message>::deserialize(bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        match message.payload {
            NetlinkPayload::InnerMessage(Message::Chain(chain)) if is_kube_proxys(&chain) => {
                found.insert(chain);
            }
            NetlinkPayload::Done(_) => return Ok(false),
            NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
            _ => {}
        }
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
        bytes = bytes.get(length.max(1).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(true)
}

fn is_kube_proxys(chain: &Chain) -> bool {
    let (table, name) = (chain.table.as_str(), chain.name.as_str());
    [table, name] == TABLE || CHAINS.contains(&name)
}

/// What is said and answered.
#[derive(Debug)]
enum Message {
    /// Which chains there are, of all families.
    Ask,
    /// One of them.
    Chain(Chain),
    /// Something else.
    Other,
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        GET_CHAIN
    }

    fn buffer_len(&self) -> usize {
        GENERAL
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.fill(0);
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        if header.message_type != NEW_CHAIN {
            return Ok(Self::Other);
        }
        let mut chain = Chain { table: String::new(), name: String::new() };
        for attribute in NlasIterator::new(payload.get(GENERAL..).unwrap_or_default()) {
            let attribute = attribute?;
            match attribute.kind() {
                CHAIN_TABLE => chain.table = parse_string(attribute.value())?,
                CHAIN_NAME => chain.name = parse_string(attribute.value())?,
                _ => {}
            }
        }
        Ok(Self::Chain(chain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message as the kernel sends it.
    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(16 + body.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn chain(table: &str, name: &str) -> Vec<u8> {
        let text = |kind, text: &str| attribute(kind, &[text.as_bytes(), &[0]].concat());
        let handle = attribute(2, &7_u64.to_be_bytes());
        let body = [vec![2, 0, 0, 0], text(CHAIN_TABLE, table), handle, text(CHAIN_NAME, name)].concat();
        message(NEW_CHAIN, &body)
    }

    #[test]
    fn dump_gives_kube_proxys_chains_of_both_modes_once_and_nobody_elses() {
        let part = [
            chain("filter", "FORWARD"),
            chain("filter", "KUBE-FORWARD"),
            chain("filter", "KUBE-FORWARD"),
            chain("filter", "KUBE-FIREWALL"),
            chain("mangle", "KUBE-KUBELET-CANARY"),
            chain("kube-proxy", "services"),
            chain("kube-proxy", "endpoint-AAAA"),
        ]
        .concat();
        let mut found = BTreeSet::new();
        assert!(read(&part, &mut found).unwrap(), "more is to come");
        assert!(!read(&message(3, &[0; 4]), &mut found).unwrap(), "that was all");
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, ["filter KUBE-FORWARD", "kube-proxy services"]);
    }

    #[test]
    fn dump_that_the_kernel_refuses_or_cuts_short_is_an_error() {
        let refused = message(2, &[&(-1_i32).to_ne_bytes()[..], &[0; 16]].concat());
        let error = read(&refused, &mut BTreeSet::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let short = &chain("filter", "KUBE-FORWARD")[..30];
        assert!(read(short, &mut BTreeSet::new()).is_err());
    }
}
