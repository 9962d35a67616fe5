//! Loads, attaches, pins and fills the eBPF programs. The only crate that calls aya.
