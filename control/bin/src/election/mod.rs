//! Leader election: of several schedulers or controller managers, one works.
//!
//! Owns the Lease `kube-system/NAME`, under the names that upstream uses, so that ours and upstream's take turns. States:
//! waiting -> leading -> (stopped) released, or -> (not renewed in time) lost, which ends the process as it does upstream:
//! nothing of the former leader can then still be under way when the next one starts.

mod plan;

use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::plan::Step;

/// The scheduler's Lease.
pub(crate) const SCHEDULER: &str = "kube-scheduler";
/// The controllers' Lease.
pub(crate) const CONTROLLERS: &str = "kube-controller-manager";

/// One who wants to lead.
pub(crate) struct Candidate {
    api: Api<Lease>,
    name: &'static str,
    identity: String,
    /// The Lease as it was last read or written, and when it was first seen so.
    seen: Option<(Lease, Instant)>,
}

impl Candidate {
    /// A candidate for the Lease `name`, with an identity that no other process has.
    ///
    /// # Errors
    /// The kernel does not tell this machine's name.
    pub(crate) fn new(client: Client, name: &'static str) -> anyhow::Result<Self> {
        let kernel = |file: &str| {
            let text = std::fs::read_to_string(format!("/proc/sys/kernel/{file}"));
            text.map(|text| text.trim().to_owned())
                .with_context(|| format!("cannot read the kernel's {file}"))
        };
        let identity = format!("{}_{}", kernel("hostname")?, kernel("random/uuid")?);
        Ok(Self::named(client, name, identity))
    }

    fn named(client: Client, name: &'static str, identity: String) -> Self {
        Self { api: Api::namespaced(client, "kube-system"), name, identity, seen: None }
    }

    /// Waits for the Lease, runs `work` until `stop`, and gives the Lease back.
    ///
    /// # Errors
    /// What `work` says; or the Lease could not be renewed in time, and somebody else may lead by now.
    pub(crate) async fn lead<F>(
        mut self,
        stop: CancellationToken,
        work: impl FnOnce(CancellationToken) -> F,
    ) -> anyhow::Result<()>
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        tokio::select! {
            () = self.acquire() => {}
            () = stop.cancelled() => return Ok(()),
        }
        tracing::info!(lease = self.name, identity = self.identity, "leading");
        let done = tokio::select! {
            done = work(stop.clone()) => done,
            () = self.keep() => bail!("lost the lease {}: it could not be renewed in time", self.name),
        };
        self.release().await;
        done
    }

    async fn acquire(&mut self) {
        let mut waiting = false;
        loop {
            match self.attempt().await {
                Ok(true) => return,
                Ok(false) if !waiting => {
                    let holder = self.record().and_then(|spec| spec.holder_identity.clone());
                    tracing::info!(lease = self.name, holder, "another one leads, waiting");
                    waiting = true;
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, lease = self.name, "cannot take the lease"),
            }
            tokio::time::sleep(plan::RETRY).await;
        }
    }

    /// Renews until that has not succeeded for the deadline.
    async fn keep(&mut self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < plan::DEADLINE {
            tokio::time::sleep(plan::RETRY).await;
            let begun = Instant::now();
            let left = plan::DEADLINE.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left.min(plan::PATIENCE), self.attempt()).await {
                Ok(Ok(true)) => renewed = begun,
                Ok(Ok(false)) if self.others_lead() => return,
                // An attempt that was given up may have written after all.
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::warn!(%error, lease = self.name, "cannot renew the lease"),
                Err(_) => tracing::warn!(lease = self.name, "renewing the lease takes too long"),
            }
        }
    }

    /// Whether the Lease, as it was last seen, is not this candidate's.
    fn others_lead(&self) -> bool {
        self.record().is_none_or(|spec| spec.holder_identity.as_deref() != Some(&self.identity))
    }

    fn record(&self) -> Option<&LeaseSpec> {
        self.seen.as_ref()?.0.spec.as_ref()
    }

    /// Reads the Lease and writes it if that is due; whether this candidate holds it.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let found = self.api.get_opt(self.name).await?;
        let unchanged = self.note(found);
        let now = MicroTime(Timestamp::now());
        match plan::next(&self.identity, self.record(), unchanged, &now) {
            Step::Wait => Ok(false),
            Step::Write(spec) => self.write(spec).await,
        }
    }

    /// Remembers what was read; for how long it has been so.
    fn note(&mut self, found: Option<Lease>) -> Duration {
        let Some(found) = found else {
            self.seen = None;
            return Duration::ZERO;
        };
        match &mut self.seen {
            Some((lease, since)) if lease.spec == found.spec => {
                lease.metadata = found.metadata;
                since.elapsed()
            }
            _ => {
                self.seen = Some((found, Instant::now()));
                Duration::ZERO
            }
        }
    }

    async fn write(&mut self, spec: LeaseSpec) -> Result<bool, kube::Error> {
        let options = PostParams::default();
        let written = match &self.seen {
            // With the version that was read, so that only one of several succeeds.
            Some((lease, _)) => {
                let lease = Lease { metadata: lease.metadata.clone(), spec: Some(spec) };
                self.api.replace(self.name, &options, &lease).await
            }
            None => {
                let metadata = ObjectMeta { name: Some(self.name.to_owned()), ..ObjectMeta::default() };
                self.api.create(&options, &Lease { metadata, spec: Some(spec) }).await
            }
        };
        match written {
            Ok(lease) => {
                self.seen = Some((lease, Instant::now()));
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {
                // Someone was quicker: see who, next time.
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    async fn release(&mut self) {
        let Some(record) = self.record().filter(|_| !self.others_lead()) else { return };
        let free = plan::release(record, &MicroTime(Timestamp::now()));
        match tokio::time::timeout(plan::RETRY, self.write(free)).await {
            Ok(Ok(_)) => tracing::info!(lease = self.name, "gave the lease back"),
            Ok(Err(error)) => tracing::warn!(%error, lease = self.name, "cannot give the lease back"),
            Err(_) => tracing::warn!(lease = self.name, "giving the lease back takes too long"),
        }
    }
}

#[cfg(test)]
mod tests;
