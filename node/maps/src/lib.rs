//! Desired map contents, their difference from what is there, and decoding for `inspect`.
//!
//! The pure middle between the planners (services, network) and the kernel: [`table`] decides which ids and slots a
//! service gets and what must be written in which order, [`adopt`] continues from an earlier agent's maps, [`dataplane`]
//! is the boundary that a kernel or a [`fake`] stands behind, and [`rows`] turns map contents into what people read. No
//! system call happens here, and it knows neither Kubernetes nor aya.

pub mod adopt;
pub mod claims;
pub mod dataplane;
pub mod desired;
pub mod difference;
mod error;
pub mod extents;
pub mod fake;
pub mod frontend;
pub mod maglev;
pub mod numbers;
pub mod prefix;
pub mod room;
pub mod rows;
pub mod suite;
pub mod table;

pub use dataplane::{Dataplane, PodLink, Totals};
pub use desired::{DesiredFrontend, DesiredPool, DesiredPort, Endpoint, Owner, Spread};
pub use difference::Difference;
pub use error::MapsError;
pub use frontend::{Frontend, FrontendKey, Scope};
pub use prefix::Prefix;
pub use table::Table;
