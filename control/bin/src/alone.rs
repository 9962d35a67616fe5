//! The scheduler or the controllers in a process of their own, as clients of whatever API server a kubeconfig names.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use skep_controllers::ControllersConfig;
use skep_scheduler::SchedulerConfig;
use skep_server::pki::read_text;
use skep_server::tokens::Keys;

use crate::election::{self, Candidate};
use crate::flags::{ControllersArguments, SchedulerArguments};
use crate::run::signer;
use crate::{metrics, shutdown};

/// A watch is told something every minute or so. After a longer silence the server is gone without a word: the connection
/// is given up, and the watch goes on over another one.
const SILENCE: Duration = Duration::from_secs(100);

async fn client(path: &Path) -> anyhow::Result<Client> {
    let file = || format!("cannot use the kubeconfig {}", path.display());
    let kubeconfig = Kubeconfig::read_from(path).with_context(file)?;
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.with_context(file)?;
    config.read_timeout = Some(SILENCE);
    Client::try_from(config).with_context(file)
}

pub(crate) async fn scheduler(arguments: SchedulerArguments) -> anyhow::Result<()> {
    let stop = shutdown::on_signals()?;
    let config = SchedulerConfig::default();
    metrics::serve(arguments.metrics_listen, config.metrics.clone(), &stop).await?;
    let client = client(&arguments.kubeconfig).await?;
    let work = |stop| {
        let client = client.clone();
        async move { skep_scheduler::run(client, config, stop).await.context("the scheduler failed") }
    };
    if arguments.leader_elect {
        return Candidate::new(client.clone(), election::SCHEDULER)?.lead(stop, work).await;
    }
    work(stop).await
}

pub(crate) async fn controllers(arguments: ControllersArguments) -> anyhow::Result<()> {
    let stop = shutdown::on_signals()?;
    let networks = arguments.cluster_cidr.iter().map(ToString::to_string).collect();
    let mut config = ControllersConfig::new(read_text(&arguments.root_ca_file)?, networks);
    if let Some(path) = &arguments.service_account_private_key_file {
        config.token_signer = Some(signer(Arc::new(Keys::from_pem(&read_text(path)?, "")?)));
    }
    metrics::serve(arguments.metrics_listen, config.metrics.clone(), &stop).await?;
    let client = client(&arguments.kubeconfig).await?;
    let work = |stop| {
        let client = client.clone();
        async move {
            let run = skep_controllers::run(config, |_| client.clone(), stop);
            run.await.context("the controllers failed")
        }
    };
    if arguments.leader_elect {
        return Candidate::new(client.clone(), election::CONTROLLERS)?.lead(stop, work).await;
    }
    work(stop).await
}
