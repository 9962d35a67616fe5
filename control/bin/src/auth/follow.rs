//! Configuration files that are read again while the server runs. One that is wrong changes nothing.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::bail;
use prometheus::Registry;
use skep_server::Reloads;
use skep_server::authz::Authz;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Setup;
use super::setup::Read;

/// How often files are looked at.
const CHECK: Duration = Duration::from_secs(10);
/// One that could not be put in force is tried again so often: what it names may have come.
const AGAIN: Duration = Duration::from_secs(60);

impl Setup {
    /// Follows the files of both configurations until shutdown; returns at once where there are none.
    pub(crate) async fn follow(
        self,
        authorizer: Arc<Authz>,
        registry: &Registry,
        shutdown: CancellationToken,
    ) {
        let server = super::server_name();
        let reloads = |which| Reloads::new(registry, which, &server);
        let authentication = follow(
            || self.read_authentication(),
            |found| self.replace_authentication(found),
            || reloads("authentication"),
        );
        let authorization = follow(
            || self.read_authorization(),
            |found| std::future::ready(self.replace_authorization(&authorizer, &found)),
            || reloads("authorization"),
        );
        let both = async { tokio::join!(authentication, authorization) };
        shutdown.run_until_cancelled(both).await;
    }

    pub(super) async fn replace_authentication(&self, read: Read) -> anyhow::Result<()> {
        let configuration = self.authentication(&read)?;
        if configuration.anonymous != self.anonymous_of_file {
            bail!("{}: anonymous: Forbidden: changed from initial configuration file", read.0.display());
        }
        Ok(self.tokens.replace_when_ready(configuration.issuers).await?)
    }

    fn replace_authorization(&self, authorizer: &Authz, (path, text): &Read) -> anyhow::Result<()> {
        authorizer.set_chain(self.authorizers.changed(text, path)?);
        Ok(())
    }
}

/// Follows one file, if there is one.
async fn follow<F: Future<Output = anyhow::Result<()>>>(
    read: impl Fn() -> anyhow::Result<Option<Read>>,
    replace: impl Fn(Read) -> F,
    reloads: impl FnOnce() -> Reloads,
) {
    let Ok(Some(mut in_force)) = read() else { return };
    let reloads = reloads();
    reloads.in_force(&in_force.1);
    let mut refused: Option<(Read, Instant)> = None;
    loop {
        tokio::time::sleep(CHECK).await;
        // A file that cannot be read now may be in the middle of being replaced.
        let Ok(Some(found)) = read() else { continue };
        let known = refused.as_ref().is_some_and(|(one, since)| *one == found && since.elapsed() < AGAIN);
        if known || found == in_force {
            continue;
        }
        let outcome = replace(found.clone()).await;
        reloads.changed(&found.1, outcome.is_ok(), SystemTime::now());
        match outcome {
            Ok(()) => {
                tracing::info!(file = %found.0.display(), "in force as it is now");
                (in_force, refused) = (found, None);
            }
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "the configuration before stays");
                refused = Some((found, Instant::now()));
            }
        }
    }
}
