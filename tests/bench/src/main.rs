//! Runs benchmarks and prints their figures: `cargo xtask bench --help`.

use std::path::PathBuf;

use clap::Parser;
use skep_bench::{ALL, Context, Figure};

/// Runs benchmarks and prints each figure beside its baseline.
#[derive(Parser)]
struct Arguments {
    /// Only benchmarks whose name contains this.
    name: Option<String>,
    /// One JSON object per figure.
    #[arg(long)]
    json: bool,
    /// The eBPF object.
    #[arg(long)]
    ebpf_object: PathBuf,
    /// So many updates in the churn benchmark, for a quick look.
    #[arg(long)]
    updates: Option<u64>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let context = Context { ebpf_object: arguments.ebpf_object, updates: arguments.updates };
    let wanted = arguments.name.as_deref().unwrap_or_default();
    let chosen: Vec<_> = ALL.iter().filter(|(name, _)| name.contains(wanted)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
        anyhow::bail!("no benchmark is called `{wanted}`; there are: {}", names.join(", "));
    }
    if !arguments.json {
        println!("{:<44} {:>12} {:<5} {:>8}  baseline", "figure", "value", "unit", "ratio");
    }
    for (_, benchmark) in chosen {
        for figure in benchmark(&context)? {
            if arguments.json { println!("{}", json(&figure)) } else { println!("{}", row(&figure)) }
        }
    }
    Ok(())
}

fn json(figure: &Figure) -> serde_json::Value {
    serde_json::json!({
        "name": figure.name,
        "value": figure.value,
        "unit": figure.unit,
        "baseline": figure.baseline.as_ref().map(|(name, value)| serde_json::json!({ "name": name, "value": value })),
        "ratio": figure.ratio(),
    })
}

fn row(figure: &Figure) -> String {
    let ratio = figure.ratio().map_or(String::new(), |ratio| format!("{ratio:.2}x"));
    let baseline = figure
        .baseline
        .as_ref()
        .map_or(String::new(), |(name, value)| format!("{name} {value:.1} {}", figure.unit));
    format!("{:<44} {:>12.1} {:<5} {ratio:>8}  {baseline}", figure.name, figure.value, figure.unit)
}
