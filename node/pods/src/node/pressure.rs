//! When the node says that it is short of something. Pure.
//!
//! Thresholds are written as kubelet's `--eviction-hard` writes them: `SIGNAL<AMOUNT`, separated by commas, an
//! amount being a quantity (`100Mi`) or a share of the whole (`10%`). Pods are not evicted; the control plane
//! keeps new ones away.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::spec::quantity;

/// The amounts below which the node is under pressure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// `memory.available`, of the node's memory.
    pub memory: Amount,
    /// `nodefs.available`, of the file system that holds the node's state.
    pub disk: Amount,
}

/// An amount to compare what is available with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// Bytes.
    Bytes(u64),
    /// Of the whole, in percent: 0 to 100.
    Percent(f64),
}

impl Default for Thresholds {
    /// Upstream's defaults: 100 Mi of memory, a tenth of the disk.
    fn default() -> Self {
        Self { memory: Amount::Bytes(100 << 20), disk: Amount::Percent(10.0) }
    }
}

impl std::str::FromStr for Thresholds {
    type Err = String;

    /// Signals that the text does not name have no threshold, as upstream's do not.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut found = Self { memory: Amount::Bytes(0), disk: Amount::Bytes(0) };
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let Some((signal, amount)) = part.split_once('<') else {
                return Err(format!("{part:?} is not SIGNAL<AMOUNT"));
            };
            let place = match signal {
                "memory.available" => &mut found.memory,
                "nodefs.available" => &mut found.disk,
                other => {
                    return Err(format!(
                        "the signal {other:?} is not known: memory.available, nodefs.available"
                    ));
                }
            };
            *place = amount.parse()?;
        }
        Ok(found)
    }
}

impl std::str::FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is neither a quantity nor a share such as 10%");
        match text.strip_suffix('%') {
            Some(share) => match share.parse::<f64>() {
                Ok(share) if (0.0..=100.0).contains(&share) => Ok(Self::Percent(share)),
                _ => Err(wrong()),
            },
            None => quantity::units(&Quantity(text.to_owned()))
                .and_then(|bytes| u64::try_from(bytes).ok())
                .map(Self::Bytes)
                .ok_or_else(wrong),
        }
    }
}

impl Amount {
    /// Whether `available` of `total` bytes are less than this.
    pub fn is_short(self, available: u64, total: u64) -> bool {
        match self {
            Self::Bytes(least) => available < least,
            Self::Percent(share) => (available as f64) < total as f64 * share / 100.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read_as_kubelets() {
        let read = |text: &str| text.parse::<Thresholds>();
        assert_eq!(read("memory.available<100Mi,nodefs.available<10%"), Ok(Thresholds::default()));
        let memory_only = Thresholds { memory: Amount::Bytes(1 << 30), disk: Amount::Bytes(0) };
        assert_eq!(read(" memory.available<1Gi, "), Ok(memory_only));
        for wrong in [
            "memory.available",
            "memory.available<much",
            "nodefs.available<101%",
            "pid<3",
            "memory.available<-1",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn amounts_are_short_only_below() {
        assert!(Amount::Percent(10.0).is_short(99, 1000) && !Amount::Percent(10.0).is_short(100, 1000));
        assert!(Amount::Bytes(5).is_short(4, 1000) && !Amount::Bytes(5).is_short(5, 1000));
        assert!(!Amount::Bytes(0).is_short(0, 1000));
    }
}
