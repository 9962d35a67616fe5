//! Configuration files that are read again while the server runs. One that is wrong changes nothing.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::bail;
use prometheus::Registry;
use skep_server::Reloads;
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
        // It is only for telling servers apart.
        let server = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let reloads =
            ["authentication", "authorization"].map(|which| Reloads::new(registry, which, server.trim()));
        for (reloads, (_, text)) in
            reloads.iter().zip(&seen).filter_map(|(one, seen)| Some((one, seen.as_ref()?)))
        {
            reloads.in_force(text);
        }
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
                reloads[at].changed(&found.1, outcome.is_ok(), SystemTime::now());
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

fn replace(authorizer: &Authz, (path, text): &Read) -> anyhow::Result<()> {
    authorizer.set_chain(AuthorizerChain::of_file(text, path)?);
    Ok(())
}
