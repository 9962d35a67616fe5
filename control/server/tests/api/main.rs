//! The API server in process, over a store in memory: what clients see, verb by verb.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access;
mod admission;
mod admission_options;
mod aggregation;
mod allocation;
mod apply;
mod as_upstream;
mod audit;
mod bad_input;
mod compared;
mod conversion;
mod counters;
mod custom;
mod definition_rules;
mod definitions;
mod deletion;
mod encryption;
mod fairness;
mod gate_counters;
mod harness;
#[path = "../hooks/mod.rs"]
mod hooks;
mod machinery;
mod manifests;
mod model;
mod paths;
mod pod_operations;
mod pods;
mod policies;
mod protobuf;
mod quota;
mod reads;
mod requests;
mod rules;
mod servers;
mod serving;
mod trouble;
mod turns;
mod watches;
mod webhooks;
mod writes;
mod written_form;
