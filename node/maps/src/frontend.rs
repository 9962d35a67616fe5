//! The key of the service table in host terms, and its two forms in the kernel's maps.
//!
//! Owns the conversion both ways, for both families. Which frontends exist is the planner's business.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use skep_abi::fronts::{self, Bit};
use skep_abi::service::{KIND_HOST_PORT, KIND_NODE_PORT, SCOPE_EXTERNAL, SCOPE_INTERNAL, ServiceKey};
use skep_abi::{Be16, SCTP, TCP, UDP, V4, V6};

/// Who a frontend answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Packets that arrive on the uplink.
    External,
    /// This node's pods and processes.
    Internal,
}

impl Scope {
    fn number(self) -> u8 {
        match self {
            Self::External => SCOPE_EXTERNAL,
            Self::Internal => SCOPE_INTERNAL,
        }
    }

    fn from_number(number: u8) -> Self {
        if number == SCOPE_EXTERNAL { Self::External } else { Self::Internal }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::External => "external",
            Self::Internal => "internal",
        })
    }
}

/// One address, port and protocol at which a service port is reached, for one scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frontend {
    /// Address that clients use.
    pub address: IpAddr,
    /// Port that clients use, host byte order.
    pub port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// Whose traffic.
    pub scope: Scope,
}

/// A frontend as the kernel's key of its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontendKey {
    /// For `SERVICES_V4`.
    V4(ServiceKey<V4>),
    /// For `SERVICES_V6`.
    V6(ServiceKey<V6>),
}

impl Frontend {
    /// The key in the map of its family.
    pub fn key(&self) -> FrontendKey {
        let (port, protocol, scope) = (Be16::new(self.port), self.protocol, self.scope.number());
        match self.address {
            IpAddr::V4(address) => {
                FrontendKey::V4(ServiceKey { address: address.into(), port, protocol, scope })
            }
            IpAddr::V6(address) => {
                FrontendKey::V6(ServiceKey { address: address.into(), port, protocol, scope })
            }
        }
    }

    /// The bit that the uplink programs look for before they look this frontend up; none for internal ones.
    pub fn bit(&self) -> Option<Bit> {
        (self.scope == Scope::External).then(|| match self.address {
            IpAddr::V4(address) => fronts::bit_v4(address.into(), Be16::new(self.port), self.protocol),
            IpAddr::V6(address) => fronts::bit_v6(address.into(), Be16::new(self.port), self.protocol),
        })
    }
}

/// The bit that fragments to `address` look for, where only services have it; none for node ports' and host ports', which
/// the node has too.
pub fn address_bit(address: IpAddr, kind: u8) -> Option<Bit> {
    (!matches!(kind, KIND_NODE_PORT | KIND_HOST_PORT)).then(|| match address {
        IpAddr::V4(address) => fronts::address_bit_v4(address.into()),
        IpAddr::V6(address) => fronts::address_bit_v6(address.into()),
    })
}

impl From<ServiceKey<V4>> for Frontend {
    fn from(key: ServiceKey<V4>) -> Self {
        Self {
            address: Ipv4Addr::from(key.address).into(),
            port: key.port.get(),
            protocol: key.protocol,
            scope: Scope::from_number(key.scope),
        }
    }
}

impl From<ServiceKey<V6>> for Frontend {
    fn from(key: ServiceKey<V6>) -> Self {
        Self {
            address: Ipv6Addr::from(key.address).into(),
            port: key.port.get(),
            protocol: key.protocol,
            scope: Scope::from_number(key.scope),
        }
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = std::net::SocketAddr::new(self.address, self.port);
        write!(f, "{address}/{} {}", protocol_name(self.protocol), self.scope)
    }
}

/// Kubernetes' name of a protocol number, or the number.
pub fn protocol_name(number: u8) -> String {
    match number {
        TCP => "TCP".to_owned(),
        UDP => "UDP".to_owned(),
        SCTP => "SCTP".to_owned(),
        other => other.to_string(),
    }
}

/// An address in the 16-byte field that both families share.
pub fn to_shared(address: IpAddr) -> V6 {
    match address {
        IpAddr::V4(address) => V6::from_first(address.into()),
        IpAddr::V6(address) => address.into(),
    }
}

/// Inverse of [`to_shared`]; the family is known from the map that led there.
pub fn from_shared(address: V6, v4: bool) -> IpAddr {
    if v4 { address.first().into() } else { address.into() }
}

#[cfg(test)]
mod tests {
    use skep_abi::service::{KIND_CLUSTER_IP, KIND_LOAD_BALANCER};

    use super::*;

    #[test]
    fn frontend_key_round_trips_in_both_families() {
        for address in ["10.96.0.1", "fd96::1"] {
            for scope in [Scope::External, Scope::Internal] {
                let frontend =
                    Frontend { address: address.parse().unwrap(), port: 443, protocol: TCP, scope };
                let back = match frontend.key() {
                    FrontendKey::V4(key) => Frontend::from(key),
                    FrontendKey::V6(key) => Frontend::from(key),
                };
                assert_eq!(back, frontend);
                assert_eq!(frontend.bit().is_some(), scope == Scope::External);
                let shared = to_shared(frontend.address);
                assert_eq!(from_shared(shared, frontend.address.is_ipv4()), frontend.address);
            }
        }
    }

    #[test]
    fn addresses_that_the_node_has_too_get_no_bit() {
        let address = "192.0.2.1".parse().unwrap();
        let has = |kind| address_bit(address, kind).is_some();
        assert!(has(KIND_CLUSTER_IP) && has(KIND_LOAD_BALANCER));
        assert!(!has(KIND_NODE_PORT) && !has(KIND_HOST_PORT));
    }
}
