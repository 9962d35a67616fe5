//! The API server in process, over a store in memory: what clients see, verb by verb.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access;
mod allocation;
mod apply;
mod bad_input;
mod conversion;
mod custom;
mod definitions;
mod deletion;
mod harness;
#[path = "../hooks/mod.rs"]
mod hooks;
mod paths;
mod pod_operations;
mod pods;
mod protobuf;
mod reads;
mod rules;
mod watches;
mod writes;
