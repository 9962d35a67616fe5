//! Configuration files that are read again while the server runs. One that is wrong changes nothing.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::bail;
use prometheus::core::Collector;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};
use skep_server::authz::{AuthorizerChain, Authz};
use tokio_util::sync::CancellationToken;

use super::Setup;
use super::setup::Read;

/// How often files are looked at.
const CHECK: Duration = Duration::from_secs(10);

impl Setup {
    /// Follows the files of both configurations until shutdown; returns at once where there are none.
    pub(crate) async fn follow(
        self,
        authorizer: Arc<Authz>,
        registry: &Registry,
        shutdown: CancellationToken,
    ) {
        let mut seen =
            [self.read_authentication(), self.read_authorization()].map(|read| read.ok().flatten());
        if seen.iter().all(Option::is_none) {
            return;
        }
        let reloads = ["authentication", "authorization"].map(|which| Reloads::new(registry, which));
        let mut checks = tokio::time::interval(CHECK);
        loop {
            tokio::select! {
                _ = checks.tick() => {}
                () = shutdown.cancelled() => return,
            }
            let found = [self.read_authentication(), self.read_authorization()];
            for (at, found) in found.into_iter().enumerate() {
                // A file that cannot be read now may be in the middle of being replaced.
                let Ok(Some(found)) = found else { continue };
                if seen[at].as_ref() == Some(&found) {
                    continue;
                }
                let outcome =
                    if at == 0 { self.replace_authentication(&found) } else { replace(&authorizer, &found) };
                reloads[at].count(outcome.is_ok());
                match outcome {
                    Ok(()) => tracing::info!(file = %found.0.display(), "in force as it is now"),
                    Err(error) => {
                        tracing::error!(error = format!("{error:#}"), "the configuration before stays")
                    }
                }
                seen[at] = Some(found);
            }
        }
    }

    pub(super) fn replace_authentication(&self, read: &Read) -> anyhow::Result<()> {
        let configuration = self.authentication(read)?;
        if configuration.anonymous != self.anonymous_of_file {
            bail!("{}: anonymous: Forbidden: changed from initial configuration file", read.0.display());
        }
        Ok(self.tokens.replace(configuration.issuers)?)
    }
}

/// How often a changed file came into force, or did not, under upstream's names.
struct Reloads {
    total: IntCounterVec,
    last: IntGaugeVec,
}

impl Reloads {
    fn new(registry: &Registry, which: &str) -> Self {
        let name = |end: &str| format!("apiserver_{which}_config_controller_automatic_reload{end}");
        let total = Opts::new(name("s_total"), format!("Changes of the {which} configuration, by outcome."));
        let total = IntCounterVec::new(total, &["status"]).expect("the name is valid");
        let last = Opts::new(name("_last_timestamp_seconds"), "When the last of them was.");
        let last = IntGaugeVec::new(last, &["status"]).expect("the name is valid");
        for collector in [Box::new(total.clone()) as Box<dyn Collector>, Box::new(last.clone())] {
            if let Err(error) = registry.register(collector) {
                tracing::debug!(%error, "a metric is registered already");
            }
        }
        Self { total, last }
    }

    fn count(&self, good: bool) {
        let status = if good { "success" } else { "failure" };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.total.with_label_values(&[status]).inc();
        self.last.with_label_values(&[status]).set(i64::try_from(now).unwrap_or(i64::MAX));
    }
}

fn replace(authorizer: &Authz, (path, text): &Read) -> anyhow::Result<()> {
    authorizer.set_chain(AuthorizerChain::of_file(text, path)?);
    Ok(())
}
