//! The benchmarks behind every figure in the README.
//!
//! A benchmark measures what it claims and its baseline in the same run, so that a figure is a ratio that holds on
//! another machine. Each is one file; [`ALL`] lists them.

pub mod api;
pub mod authorization;
pub mod churn;
pub mod cold_start;
pub mod connect;
pub mod datapath;
pub mod node_port;
pub mod objects;
pub mod place;
pub mod services;
pub mod store;

use std::path::PathBuf;

/// What a benchmark is given.
#[derive(Clone, Debug)]
pub struct Context {
    /// The eBPF object.
    pub ebpf_object: PathBuf,
    /// Fewer updates than the churn benchmark makes by itself.
    pub updates: Option<u64>,
    /// The API servers that are measured.
    pub api: ApiServers,
}

/// What the benchmark of the API measures.
#[derive(Clone, Debug, Default)]
pub struct ApiServers {
    /// The `skep-control` that is started where no running server is named.
    pub control: Option<PathBuf>,
    /// A server that runs already.
    pub server: Option<api::Server>,
    /// Another one, as the baseline.
    pub beside: Option<api::Server>,
}

/// One measured value.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What was measured, `datapath/known-flow/ipv4`.
    pub name: String,
    /// The value, in `unit`.
    pub value: f64,
    /// Its unit: `ns`, `1/s`, `ms`.
    pub unit: &'static str,
    /// What it is held against, measured in the same run, in the same unit.
    pub baseline: Option<(String, f64)>,
}

impl Figure {
    /// The value divided by its baseline.
    pub fn ratio(&self) -> Option<f64> {
        self.baseline.as_ref().map(|(_, baseline)| self.value / baseline)
    }
}

/// A benchmark: takes its context, gives its figures.
pub type Benchmark = fn(&Context) -> anyhow::Result<Vec<Figure>>;

/// All benchmarks, by name.
pub const ALL: &[(&str, Benchmark)] = &[
    ("api", api::run),
    ("authorization", authorization::run),
    ("churn", churn::run),
    ("cold-start", cold_start::run),
    ("connect", connect::run),
    ("datapath", datapath::run),
    ("fairness", api::fair),
    ("node-port", node_port::run),
    ("operations", api::operations_alone),
    ("services", services::run),
    ("store", store::run),
    ("watches", api::watches_alone),
];
