//! kubectl and client libraries against a running cluster.
