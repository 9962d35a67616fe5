//! `skep-node`: the node agent's flags, configuration, wiring and signals.

fn main() {}
