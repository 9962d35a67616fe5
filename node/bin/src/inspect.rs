//! `skep-node inspect`: the kernel's tables, decoded. Reads only; works with and without a running agent.

use anyhow::{Context, Result};
use clap::ValueEnum;
use skep_dataplane::inspect::Inspector;
use skep_maps::rows::{self, Row};

use crate::flags::InspectArguments;

/// What can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// Frontends and what they lead to.
    Services,
    /// Backends of every service.
    Backends,
    /// Connections, the most recently used first.
    Flows,
    /// Counters by reason.
    Stats,
    /// Counters by program and verdict.
    Verdicts,
    /// Counters by service.
    Totals,
    /// Programs in the kernel.
    Programs,
    /// Where they are attached.
    Attachments,
}

/// Prints one subject.
pub(crate) fn run(arguments: &InspectArguments) -> Result<()> {
    let root = &arguments.pins.bpf_root;
    let inspector = Inspector::open(root)
        .with_context(|| format!("there is no datapath under {} (--bpf-root)", root.display()))?;
    let json = arguments.output == "json";
    match arguments.subject {
        Subject::Services => print(&inspector.services()?, json),
        Subject::Backends => print(&inspector.backends()?, json),
        Subject::Flows => print(&inspector.flows()?, json),
        Subject::Stats => print(&inspector.stats()?.reasons, json),
        Subject::Verdicts => print(&inspector.stats()?.verdicts, json),
        Subject::Totals => print(&inspector.stats()?.services, json),
        Subject::Programs => print(&inspector.programs()?, json),
        Subject::Attachments => print(&inspector.attachments()?, json),
    }
    Ok(())
}

fn print<R: Row>(all: &[R], json: bool) {
    if json {
        println!("{}", rows::json(all));
    } else {
        print!("{}", rows::table(all));
    }
}
