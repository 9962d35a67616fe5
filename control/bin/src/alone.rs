//! The scheduler or the controllers in a process of their own, as clients of whatever API server a kubeconfig names.

use std::sync::Arc;

use anyhow::Context;
use skep_controllers::ControllersConfig;
use skep_scheduler::SchedulerConfig;
use skep_server::pki::{Authority, read_text};
use skep_server::tokens::Keys;

use crate::election::{self, Candidate};
use crate::flags::{ControllersArguments, SchedulerArguments};
use crate::run::{certificate_signer, signer};
use crate::{metrics, shutdown};

pub(crate) async fn scheduler(arguments: SchedulerArguments) -> anyhow::Result<()> {
    let stop = shutdown::on_signals()?;
    let config = SchedulerConfig::default();
    metrics::serve(arguments.metrics_listen, config.metrics.clone(), &stop).await?;
    let client = skep_client::from_kubeconfig(&arguments.kubeconfig).await?;
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
    if let (Some(certificate), Some(key)) =
        (&arguments.cluster_signing_cert_file, &arguments.cluster_signing_key_file)
    {
        config.certificate_signer = Some(certificate_signer(Authority::read(certificate, key)?));
    }
    metrics::serve(arguments.metrics_listen, config.metrics.clone(), &stop).await?;
    let client = skep_client::from_kubeconfig(&arguments.kubeconfig).await?;
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
