//! Runs benchmarks and prints their figures: `cargo xtask bench --help`.

use std::path::PathBuf;

use clap::Parser;
use skep_bench::api::{Server, bare, fairness::noise};
use skep_bench::{ALL, ApiServers, Context, Figure};

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
    /// The `skep-control` that the benchmark of the API starts.
    #[arg(long)]
    control: Option<PathBuf>,
    /// Measure the API server that this file names instead.
    #[arg(long, requires = "processes")]
    kubeconfig: Option<PathBuf>,
    /// The processes of that server and of its store.
    #[arg(long, value_name = "PID", value_delimiter = ',', requires = "kubeconfig")]
    processes: Vec<u32>,
    /// Hold it against the API server that this file names.
    #[arg(long, requires = "beside_processes")]
    beside_kubeconfig: Option<PathBuf>,
    /// The processes of that one.
    #[arg(long, value_name = "PID", value_delimiter = ',', requires = "beside_kubeconfig")]
    beside_processes: Vec<u32>,
}

impl Arguments {
    fn api(&self) -> ApiServers {
        let server = |kubeconfig: &Option<PathBuf>, processes: &[u32]| {
            kubeconfig.clone().map(|kubeconfig| Server { kubeconfig, processes: processes.to_vec() })
        };
        ApiServers {
            control: self.control.clone(),
            server: server(&self.kubeconfig, &self.processes),
            beside: server(&self.beside_kubeconfig, &self.beside_processes),
        }
    }
}

fn main() -> anyhow::Result<()> {
    if let [_, command, port, folder] = std::env::args().collect::<Vec<_>>().as_slice()
        && command == bare::COMMAND
    {
        return bare::serve(port, folder.as_ref());
    }
    if let [_, command, kubeconfig, kind, connections, collection] =
        std::env::args().collect::<Vec<_>>().as_slice()
        && command == noise::COMMAND
    {
        return noise::make(kubeconfig.as_ref(), kind, connections, collection);
    }
    let arguments = Arguments::parse();
    let api = arguments.api();
    let context = Context { ebpf_object: arguments.ebpf_object, updates: arguments.updates, api };
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
