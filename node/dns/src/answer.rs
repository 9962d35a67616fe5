//! Questions and answers as plain data. Pure; knows no wire format.

use std::net::IpAddr;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Ports and the names that have them.
    Srv,
    /// The name of an address.
    Ptr,
    /// Text.
    Txt,
    /// The real name.
    Cname,
    /// Everything.
    Any,
    /// A type that no name here has.
    Other,
}

/// One record's data.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    /// An address of either family.
    Address(IpAddr),
    /// A port, and the full name that has it.
    Service {
        /// The port.
        port: u16,
        /// The name, absolute, without the final dot.
        target: String,
    },
    /// A name, absolute, without the final dot.
    Pointer(String),
    /// The real name, absolute, without the final dot.
    Alias(String),
    /// Text.
    Text(String),
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The name is not in this zone: ask elsewhere.
    Elsewhere,
    /// The zone is not complete yet: it cannot say that a name does not exist.
    NotYet,
    /// The name does not exist.
    NoName,
    /// The name exists and has these records of the kind asked for, perhaps none.
    Records(Vec<Data>),
}

/// The records of the kind that was asked for.
pub(crate) fn select(all: Vec<Data>, kind: Kind) -> Answer {
    let wanted = |data: &Data| match (kind, data) {
        (Kind::A, Data::Address(address)) => address.is_ipv4(),
        (Kind::Aaaa, Data::Address(address)) => address.is_ipv6(),
        (Kind::Srv, Data::Service { .. })
        | (Kind::Ptr, Data::Pointer(_))
        | (Kind::Txt, Data::Text(_))
        | (Kind::Cname, Data::Alias(_))
        | (Kind::Any, _) => true,
        _ => false,
    };
    Answer::Records(all.into_iter().filter(wanted).collect())
}
