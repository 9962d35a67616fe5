//! The Kubernetes API as data: kinds, schema, defaults, validation, patches, selectors and tables.
//!
//! Everything here is pure: values in, values out. It deliberately knows no HTTP, no store, no clock and no randomness.

pub mod admissionregistration;
#[cfg(test)]
mod arbitrary;
#[cfg(test)]
mod mutated_tests;

pub mod aggregation;
pub mod apply;
mod cel;
pub mod convert;
pub mod custom;
pub mod decode;
pub mod defaults;
pub mod definition;
pub mod discovery;
pub mod disruption;
pub mod expression;
pub mod object;
pub mod openapi;
pub mod patch;
pub mod policy;
pub mod printed;
pub mod protobuf;
pub mod quantity;
pub mod quota;
pub mod registry;
pub mod resources;
pub mod review;
pub mod schema;
pub mod select;
pub mod status;
pub mod strategy;
pub mod table;
pub mod validation;
pub mod yaml;
