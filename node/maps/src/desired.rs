//! What a planner asks of the service table: the frontends and endpoints of each port of one service.
//!
//! Plain data in host terms; slots, ids and generations are the table's business.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::frontend::Frontend;
use crate::prefix::Prefix;

/// The service that a plan is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// A name, unique among owners ("namespace/name").
    pub name: Arc<str>,
    /// Creation in nanoseconds since 1970; the older of two owners keeps a frontend that both ask for.
    pub created: i64,
}

/// One endpoint, as it stands in a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Address.
    pub address: IpAddr,
    /// Port, host byte order.
    pub port: u16,
    /// It is on this node.
    pub local: bool,
}

/// One frontend and what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DesiredFrontend {
    /// Where.
    pub frontend: Frontend,
    /// `skep_abi::service::KIND_*`.
    pub kind: u8,
    /// `skep_abi::service::FLAG_*`.
    pub flags: u16,
    /// Which of [`DesiredPort::pools`] it draws from.
    pub pool: usize,
}

/// How the endpoints of a pool are laid out in its slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// One slot each: for a random choice, and for any other where no more is needed.
    Each,
    /// A [`crate::maglev`] table, for a choice by hash that changes little when the endpoints do. Where there is no
    /// room for one, one slot each.
    Maglev,
}

/// A set of endpoints that frontends draw from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredPool {
    /// The endpoints. One that is repeated has more weight.
    pub endpoints: Vec<Endpoint>,
    /// How they are laid out.
    pub spread: Spread,
}

impl DesiredPool {
    /// One slot for each of `endpoints`.
    pub fn each(endpoints: Vec<Endpoint>) -> Self {
        Self { endpoints, spread: Spread::Each }
    }
}

/// One port of a service in one address family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredPort {
    /// A name, unique within the owner.
    pub name: Arc<str>,
    /// Affinity time-out in seconds, 0 for none.
    pub affinity_seconds: u32,
    /// Sets of endpoints.
    pub pools: Vec<DesiredPool>,
    /// Endpoints that exist but take no new connections: what they have, they may finish.
    pub draining: Vec<(IpAddr, u16)>,
    /// Frontends.
    pub frontends: Vec<DesiredFrontend>,
    /// Clients that may use the frontends with `skep_abi::service::FLAG_SOURCE_RANGES`.
    pub source_ranges: BTreeSet<Prefix>,
}
