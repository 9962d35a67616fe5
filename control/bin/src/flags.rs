//! The command line. Flags that belong together are in files of their own below this one.

mod audit;
mod encryption;
mod serving;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, Parser, Subcommand, ValueEnum};
use skep_server::allocation::Cidr;

use crate::admission::AdmissionArguments;
use crate::auth::{AuthenticationArguments, AuthorizationArguments};
pub(crate) use serving::TlsArguments;

/// The control plane of a Skep cluster.
#[derive(Debug, Parser)]
#[command(name = "skep-control", version)]
pub(crate) struct Arguments {
    /// What to log: a level, or levels by target such as `info,skep_server=debug`.
    #[arg(long, env = "SKEP_LOG", default_value = "info", global = true)]
    pub(crate) log: String,
    /// How to log.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, global = true)]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the API server, the scheduler and the controllers in one process.
    Run(RunArguments),
    /// Run the API server alone.
    Apiserver(ServerArguments),
    /// Run the scheduler alone, as a client of some API server.
    Scheduler(SchedulerArguments),
    /// Run the controllers alone, as a client of some API server.
    ControllerManager(ControllersArguments),
    /// Copy the embedded store to a file, also while the control plane runs.
    Backup(BackupArguments),
    /// Put a backup in place as the embedded store of a control plane that does not run.
    Restore(RestoreArguments),
    /// Move the state from the embedded store to etcd, or back, while no control plane runs.
    Migrate(MigrateArguments),
    /// Issue the certificates and the kubeconfig of one node.
    NodeCredentials(CredentialsArguments),
}

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    pub(crate) server: ServerArguments,
    /// Networks of pod addresses, of which every node gets a part; at most one of each family.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', default_value = "10.244.0.0/16")]
    pub(crate) cluster_cidr: Vec<Cidr>,
    /// Work only while holding the Leases of scheduler and controllers; the default is to do so on etcd, where others
    /// may run beside this one.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) leader_elect: Option<bool>,
}

impl RunArguments {
    /// Whether scheduler and controllers wait for their Leases.
    pub(crate) fn elects(&self) -> bool {
        self.leader_elect.unwrap_or(!self.server.etcd.etcd_endpoints.is_empty())
    }
}

#[derive(Debug, Args)]
pub(crate) struct ServerArguments {
    /// Where keys, certificates and the embedded store are kept; made if it is not there.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/skep")]
    pub(crate) data_dir: PathBuf,
    /// Where the API is served.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:6443")]
    pub(crate) listen: SocketAddr,
    /// Where nodes and pods reach the API; the listening address if that is one.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) advertise_address: Option<IpAddr>,
    /// Networks of service addresses; at most one of each family.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', default_value = "10.96.0.0/16")]
    pub(crate) service_cidr: Vec<Cidr>,
    /// A further name or address for the serving certificate; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub(crate) tls_san: Vec<String>,
    #[command(flatten)]
    pub(crate) etcd: EtcdArguments,
    #[command(flatten)]
    pub(crate) admission: AdmissionArguments,
    /// A file of tokens that never expire: `token,user,uid[,"group,..."]` per line.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_auth_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) authentication: AuthenticationArguments,
    #[command(flatten)]
    pub(crate) authorization: AuthorizationArguments,
    /// Serve metrics without TLS here, too (`/metrics`, `/healthz`).
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) metrics_listen: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) audit: audit::AuditArguments,
    #[command(flatten)]
    pub(crate) encryption: encryption::EncryptionArguments,
    #[command(flatten)]
    pub(crate) serving: serving::ServingArguments,
}

#[derive(Debug, Args)]
pub(crate) struct EtcdArguments {
    /// Keep the state in this etcd instead of the embedded store; several members, separated by commas.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub(crate) etcd_endpoints: Vec<String>,
    /// The authority of etcd's certificates.
    #[arg(long = "etcd-cafile", alias = "etcd-ca", value_name = "FILE", requires = "etcd_endpoints")]
    pub(crate) etcd_ca: Option<PathBuf>,
    /// The certificate that etcd is shown.
    #[arg(
        long = "etcd-certfile",
        alias = "etcd-certificate",
        value_name = "FILE",
        requires = "etcd_key",
        requires = "etcd_ca"
    )]
    pub(crate) etcd_certificate: Option<PathBuf>,
    /// The key of that certificate.
    #[arg(long = "etcd-keyfile", alias = "etcd-key", value_name = "FILE", requires = "etcd_certificate")]
    pub(crate) etcd_key: Option<PathBuf>,
    /// The user that etcd knows.
    #[arg(long, value_name = "NAME", requires = "etcd_password_file", requires = "etcd_endpoints")]
    pub(crate) etcd_user: Option<String>,
    /// A file with that user's password.
    #[arg(long, value_name = "FILE", requires = "etcd_user")]
    pub(crate) etcd_password_file: Option<PathBuf>,
}

impl ServerArguments {
    /// Where others reach the API.
    pub(crate) fn advertised(&self) -> anyhow::Result<IpAddr> {
        let address = self.advertise_address.unwrap_or(self.listen.ip());
        if address.is_unspecified() {
            bail!("say where nodes reach the API: --advertise-address ADDRESS");
        }
        if address.is_loopback() {
            bail!("nodes and pods cannot reach the API at {address}: pass --advertise-address ADDRESS");
        }
        Ok(address)
    }
}

#[derive(Debug, Args)]
pub(crate) struct SchedulerArguments {
    /// How to reach the API.
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: PathBuf,
    /// Serve metrics here (`/metrics`, `/healthz`).
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Work only while holding the Lease, so that several can run beside each other.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true,
        default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) leader_elect: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ControllersArguments {
    /// How to reach the API; all controllers act under this one identity.
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: PathBuf,
    /// The authority that every namespace publishes to its pods.
    #[arg(long, value_name = "FILE")]
    pub(crate) root_ca_file: PathBuf,
    /// The key that signs the tokens in Secrets of service accounts; without it they get none.
    #[arg(long, value_name = "FILE")]
    pub(crate) service_account_private_key_file: Option<PathBuf>,
    /// The authority that signs certificates which were asked for and approved; without it nobody does.
    #[arg(long, value_name = "FILE", requires = "cluster_signing_key_file")]
    pub(crate) cluster_signing_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE", requires = "cluster_signing_cert_file")]
    pub(crate) cluster_signing_key_file: Option<PathBuf>,
    /// Networks of pod addresses, of which every node gets a part; at most one of each family.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', default_value = "10.244.0.0/16")]
    pub(crate) cluster_cidr: Vec<Cidr>,
    /// Serve metrics here (`/metrics`, `/healthz`).
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Work only while holding the Lease, so that several can run beside each other.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true,
        default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) leader_elect: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArguments {
    /// The data directory of the control plane.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/skep")]
    pub(crate) data_dir: PathBuf,
    /// The file to make.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArguments {
    /// The data directory of the control plane; it holds no store yet.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/skep")]
    pub(crate) data_dir: PathBuf,
    /// The backup.
    #[arg(long, value_name = "FILE")]
    pub(crate) from: PathBuf,
}

/// Where the state goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Direction {
    /// From the embedded store to etcd.
    Etcd,
    /// From etcd to a new embedded store.
    Embedded,
}

#[derive(Debug, Args)]
pub(crate) struct MigrateArguments {
    /// Where the state goes.
    #[arg(long, value_enum)]
    pub(crate) to: Direction,
    /// The data directory of the control plane.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/skep")]
    pub(crate) data_dir: PathBuf,
    #[command(flatten)]
    pub(crate) etcd: EtcdArguments,
}

#[derive(Debug, Args)]
pub(crate) struct CredentialsArguments {
    /// The data directory of a control plane that has run.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/skep")]
    pub(crate) data_dir: PathBuf,
    /// The node's name.
    #[arg(long, value_name = "NAME")]
    pub(crate) node: String,
    /// An address of the node; may be given several times.
    #[arg(long, value_name = "ADDRESS", required = true)]
    pub(crate) ip: Vec<IpAddr>,
    /// Where the files go; made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Where the node reaches the API, such as `https://192.0.2.1:6443`.
    #[arg(long, value_name = "URL")]
    pub(crate) server: String,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn server(arguments: &[&str]) -> ServerArguments {
        let all = ["skep-control", "apiserver"].iter().chain(arguments);
        match Arguments::try_parse_from(all).unwrap().command {
            Command::Apiserver(server) => server,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn advertised_address_is_the_listening_one_unless_that_is_any() {
        assert!(server(&[]).advertised().is_err());
        assert!(server(&["--listen", "127.0.0.1:6443"]).advertised().is_err());
        assert_eq!(server(&["--listen", "192.0.2.1:6443"]).advertised().unwrap().to_string(), "192.0.2.1");
        let both = server(&["--listen", "192.0.2.1:6443", "--advertise-address", "2001:db8::1"]);
        assert_eq!(both.advertised().unwrap().to_string(), "2001:db8::1");
    }

    #[test]
    fn flags_of_etcd_are_given_together_or_refused() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' '));
        let refused = [
            "skep-control apiserver --etcd-cafile ca.crt",
            "skep-control apiserver --etcd-endpoints http://a:1 --etcd-user root",
            "skep-control apiserver --etcd-endpoints http://a:1 --etcd-password-file p",
            "skep-control apiserver --etcd-endpoints http://a:1 --etcd-certfile c --etcd-keyfile k",
            "skep-control apiserver --etcd-endpoints http://a:1 --etcd-cafile ca --etcd-certfile c",
            "skep-control apiserver --etcd-endpoints http://a:1 --etcd-cafile ca --etcd-keyfile k",
        ];
        for line in refused {
            assert!(parse(line).is_err(), "{line}");
        }
        let both =
            ["--etcd-endpoints", "http://a:1,http://b:1", "--etcd-user", "u", "--etcd-password-file", "p"];
        assert_eq!(server(&both).etcd.etcd_endpoints, ["http://a:1", "http://b:1"]);
        for [ca, certificate, key] in [["cafile", "certfile", "keyfile"], ["ca", "certificate", "key"]] {
            let names = [format!("--etcd-{ca}"), format!("--etcd-{certificate}"), format!("--etcd-{key}")];
            let tls = ["--etcd-endpoints", "https://a:1", &names[0], "a", &names[1], "b", &names[2], "c"];
            let etcd = server(&tls).etcd;
            let files = [etcd.etcd_ca, etcd.etcd_certificate, etcd.etcd_key].map(Option::unwrap);
            assert_eq!(files, ["a", "b", "c"].map(PathBuf::from), "upstream's names, and those of before");
        }
    }

    #[test]
    fn leader_is_elected_on_etcd_unless_told_otherwise() {
        let elects = |line: &str| match Arguments::try_parse_from(line.split(' ')).unwrap().command {
            Command::Run(run) => run.elects(),
            Command::Scheduler(scheduler) => scheduler.leader_elect,
            other => panic!("{other:?}"),
        };
        assert!(!elects("skep-control run"));
        assert!(elects("skep-control run --leader-elect"));
        assert!(elects("skep-control run --etcd-endpoints http://a:1"));
        assert!(!elects("skep-control run --etcd-endpoints http://a:1 --leader-elect=false"));
        assert!(elects("skep-control scheduler --kubeconfig k"));
        assert!(!elects("skep-control scheduler --kubeconfig k --leader-elect=false"));
    }

    #[test]
    fn networks_are_checked_on_the_command_line() {
        assert_eq!(server(&["--service-cidr", "10.96.0.0/16,fd96::/112"]).service_cidr.len(), 2);
        for bad in ["10.96.0.0", "x/16", "10.96.0.0/33"] {
            assert!(
                Arguments::try_parse_from(["skep-control", "apiserver", "--service-cidr", bad]).is_err(),
                "{bad}"
            );
        }
    }
}
