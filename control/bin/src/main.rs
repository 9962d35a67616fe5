//! `skep-control`: the control plane's flags, configuration, wiring and signals.

fn main() {}
