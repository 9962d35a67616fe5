//! `cargo xtask down`: removes every trace of the cluster.

use anyhow::Result;
use skep_harness::cluster::Cluster;
use skep_harness::teardown;

/// Removes the cluster, also one that crashed or was half made, and says what there was.
pub fn run() -> Result<()> {
    crate::need_root("down")?;
    let found = teardown::remove(&Cluster::new().layout)?;
    if found.is_empty() {
        println!("There is no cluster on this machine.");
    } else {
        println!("Removed: {}.", found.join(", "));
    }
    Ok(())
}
