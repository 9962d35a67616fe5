//! Packet tables on the real kernel: packets to send through a program ([`packet`]), the shipped object as libbpf and aya load it
//! ([`object`]), and a network namespace with one node's interfaces, routes and neighbours for the programs to find
//! ([`world`]). The tests themselves are in `tests/`, of tier `kernel`.

pub mod fixture;
mod flows;
pub mod model;
pub mod object;
pub mod packet;
mod with_aya;
pub mod world;

/// Whether tests of tier `kernel` are to run; says so when not.
pub fn tier_enabled() -> bool {
    let enabled = std::env::var("SKEP_TEST_TIERS")
        .is_ok_and(|tiers| tiers.split(',').any(|tier| tier.trim() == "kernel"));
    if !enabled {
        eprintln!("skipped: needs tier kernel");
    }
    enabled
}
