//! `skep-node cleanup`: removes the datapath from the kernel.

use anyhow::{Context, Result};

use crate::flags::CleanupArguments;

/// Removes every pin, and with them every attached program, and says what there was.
pub(crate) fn run(arguments: &CleanupArguments) -> Result<()> {
    let root = &arguments.pins.bpf_root;
    let removed =
        skep_dataplane::cleanup(root).with_context(|| format!("cannot clean up {}", root.display()))?;
    if removed.is_empty() {
        println!("There is no datapath under {}.", root.display());
    }
    for path in removed {
        println!("removed {}", path.display());
    }
    Ok(())
}
