//! Fuzz targets: bytes as a client or the network may send them, through the readers that meet them first. None may panic,
//! hang, or take more memory than the bytes are worth; what a target demands beyond that its module says.
//!
//! Each target is a function of bytes, so that `cargo test` runs all of them over `corpus/TARGET` (seeds, and what fuzzing
//! found worth keeping) and `cases/TARGET` (what once failed) without a fuzzer. `cargo xtask fuzz` runs them with one.

pub mod apply;
pub mod decode;
pub mod definition;
pub mod expression;
mod objects;
pub mod packet;
pub mod patch;
pub mod policy;
#[cfg(feature = "server")]
pub mod request;
pub mod select;

/// A target: its name, which is that of its folders, and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("apply", apply::run),
    ("decode", decode::run),
    ("definition", definition::run),
    ("expression", expression::run),
    ("packet", packet::run),
    ("patch", patch::run),
    ("policy", policy::run),
    #[cfg(feature = "server")]
    ("request", request::run),
    ("select", select::run),
];

/// The first byte, which chooses between the readers of a target, and the rest.
fn chosen(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (*first, rest))
}
