//! The scheduler and the controllers as clients of the API server in the same process.

use anyhow::Context;
use kube::Client;
use skep_controllers::{ControllersConfig, SHARED_IDENTITY};
use skep_scheduler::SchedulerConfig;
use skep_server::user::UserInfo;
use skep_server::{ApiServer, in_process};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::election::{self, Candidate};

/// A client that acts as `user` without leaving the process, under the name that upstream's program has.
fn client(server: &ApiServer, user: UserInfo) -> Client {
    let agent = if user.name == SCHEDULER { "kube-scheduler" } else { SHARED_IDENTITY };
    Client::new(in_process::service(server, user).named(agent), "default")
}

/// The scheduler's user.
const SCHEDULER: &str = "system:kube-scheduler";

/// The identity of a controller: upstream's names, to which the bootstrap roles are bound.
fn identity(name: &str) -> UserInfo {
    if name == SHARED_IDENTITY {
        UserInfo::new(format!("system:{name}"), &[])
    } else {
        UserInfo::service_account("kube-system", name)
    }
}

/// Starts both; the tasks end after `shutdown`, or with the reason why they cannot go on. With `elect`, each works only
/// while it holds its Lease.
pub(crate) fn start(
    server: &ApiServer,
    controllers: ControllersConfig,
    scheduler: SchedulerConfig,
    elect: bool,
    shutdown: &CancellationToken,
) -> JoinSet<anyhow::Result<()>> {
    let mut tasks = JoinSet::new();
    let binding = client(server, UserInfo::new(SCHEDULER, &[]));
    let (candidate, stop) = (binding.clone(), shutdown.clone());
    tasks.spawn(async move {
        let work = |stop| async move {
            skep_scheduler::run(binding, scheduler, stop).await.context("the scheduler failed")
        };
        match elect {
            true => Candidate::new(candidate, election::SCHEDULER)?.lead(stop, work).await,
            false => work(stop).await,
        }
    });
    let (server, stop) = (server.clone(), shutdown.clone());
    tasks.spawn(async move {
        let candidate = client(&server, identity(SHARED_IDENTITY));
        let work = |stop| async move {
            let clients = |name: &str| client(&server, identity(name));
            skep_controllers::run(controllers, clients, stop).await.context("the controllers failed")
        };
        match elect {
            true => Candidate::new(candidate, election::CONTROLLERS)?.lead(stop, work).await,
            false => work(stop).await,
        }
    });
    tasks
}
