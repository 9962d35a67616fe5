//! What is to be done about one service network: pure. One step at a time; what it changes brings the next.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use serde::Serialize;

use super::FINALIZER;

/// So long a deletion takes to be known to every API server.
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// The label of addresses that were given to services.
const MANAGED_BY: (&str, &str) = ("ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io");

/// A network: its first address and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    first: IpAddr,
    bits: u32,
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (first, bits) = text.split_once('/')?;
        let one = Self { first: first.parse().ok()?, bits: bits.parse().ok()? };
        (one.bits <= one.width()).then_some(one)
    }

    fn width(&self) -> u32 {
        if self.first.is_ipv4() { 32 } else { 128 }
    }

    /// Whether an address lies in it.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let mask = u128::MAX.checked_shl(self.width() - self.bits).unwrap_or(0);
        self.first.is_ipv4() == address.is_ipv4() && number(self.first) & mask == number(address) & mask
    }

    /// Whether all of another network lies in it.
    fn covers(&self, other: &Self) -> bool {
        self.bits <= other.bits && self.contains(other.first)
    }

    /// Whether the two have addresses in common.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

/// The networks of a ServiceCIDR.
pub(super) fn networks(object: &ServiceCIDR) -> Vec<Network> {
    let cidrs = object.spec.as_ref().and_then(|spec| spec.cidrs.as_deref()).unwrap_or_default();
    cidrs.iter().filter_map(|text| Network::parse(text)).collect()
}

/// The address of a record, if a service was given it.
pub(super) fn address(object: &IPAddress) -> Option<IpAddr> {
    let labels = object.metadata.labels.as_ref()?;
    labels.get(MANAGED_BY.0).filter(|one| *one == MANAGED_BY.1)?;
    object.metadata.name.as_ref()?.parse().ok()
}

/// What is said of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Ready {
    #[serde(rename = "type")]
    kind: &'static str,
    pub(super) status: &'static str,
    reason: &'static str,
    message: &'static str,
}

const READY: Ready =
    Ready { kind: "Ready", status: "True", reason: "", message: "Kubernetes Service CIDR is ready" };
const TERMINATING: Ready = Ready {
    kind: "Ready",
    status: "False",
    reason: "Terminating",
    message: "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
};

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It gets its finalizer.
    Protect,
    /// Its condition becomes this.
    Say(Ready),
    /// It is looked at again after so long.
    Wait(Duration),
    /// It may go.
    Release,
    /// It is as it should be, or waits for addresses to go.
    Nothing,
}

/// The next step for a network, by the other networks that there are and the addresses that services have.
pub(super) fn plan(
    object: &ServiceCIDR,
    others: &[Network],
    addresses: impl Iterator<Item = IpAddr>,
    now: Timestamp,
) -> Step {
    let protected = object.metadata.finalizers.iter().flatten().any(|one| one == FINALIZER);
    let Some(deleted) = &object.metadata.deletion_timestamp else {
        return match (protected, says(object, &READY)) {
            (false, _) => Step::Protect,
            (true, false) => Step::Say(READY),
            (true, true) => Step::Nothing,
        };
    };
    if !protected {
        return Step::Nothing;
    }
    if !may_go(&networks(object), others, addresses) {
        return if says(object, &TERMINATING) { Step::Nothing } else { Step::Say(TERMINATING) };
    }
    let passed = Duration::try_from(now.duration_since(deleted.0)).unwrap_or_default();
    if passed < GRACE { Step::Wait(GRACE - passed) } else { Step::Release }
}

/// Whether the condition is there already. One with another reason and status was written by somebody for a cause.
fn says(object: &ServiceCIDR, wanted: &Ready) -> bool {
    let conditions = object.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let found = conditions.into_iter().find(|one| one.type_ == wanted.kind);
    // The default one says so in words of its own.
    found.is_some_and(|one| one.status == wanted.status && one.reason == wanted.reason)
}

/// Whether no address is left without a network.
fn may_go(own: &[Network], others: &[Network], mut addresses: impl Iterator<Item = IpAddr>) -> bool {
    if own.iter().all(|own| others.iter().any(|other| other.covers(own))) {
        return true;
    }
    let holds = |list: &[Network], address| list.iter().any(|network| network.contains(address));
    !addresses.any(|address| holds(own, address) && !holds(others, address))
}
