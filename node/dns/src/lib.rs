//! Cluster DNS, node-local.
