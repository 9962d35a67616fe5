//! What can go wrong with the tables, planned or real.

use std::io;

/// An operation on a dataplane's tables failed.
#[derive(Debug, thiserror::Error)]
pub enum MapsError {
    /// A service does not fit: everything stays as it was.
    #[error("the tables have no room for more {what}")]
    TableFull {
        /// What ran out.
        what: &'static str,
    },
    /// A map could not be read.
    #[error("cannot read map {map}")]
    Read {
        /// Name of the map.
        map: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// A map could not be written; what else the difference had to write may be written or not.
    #[error("cannot write map {map}")]
    Write {
        /// Name of the map.
        map: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// Programs could not be attached to a pod's link, or taken off it.
    #[error("cannot change the programs on {interface}")]
    Link {
        /// The interface.
        interface: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
