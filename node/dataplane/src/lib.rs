//! Loads, attaches, pins and fills the eBPF programs. The only crate that calls aya.
//!
//! [`KernelDataplane`] is the kernel's implementation of [`skep_maps::Dataplane`]; [`inspect`] reads the same pins
//! without changing them; [`cleanup`] removes them. [`leftovers`] tells what of kube-proxy is in the way. What the maps shall hold is planned elsewhere. With `unsafe` code
//! because system calls and memory shared with the kernel need it: in [`sys`], [`plain`], [`memory`] and [`log`] only.
#![allow(unsafe_code)]

pub mod addresses;
mod attach;
mod connected;
mod counts;
mod error;
mod fill;
mod flows;
mod hops;
pub mod inspect;
mod kernel;
mod layout;
pub mod leftovers;
mod log;
mod maps;
mod memory;
pub mod metrics;
mod migrate;
mod pins;
mod plain;
mod sockets;
mod sys;

pub use attach::{AttachChoices, XdpState};
pub use error::Error;
pub use hops::follow_next_hops;
pub use kernel::{DataplaneConfig, KernelDataplane, cleanup};
pub use pins::Pins;
