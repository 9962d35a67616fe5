//! Pod state machines: sandbox, containers, probes, volumes, status.
