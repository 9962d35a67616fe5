//! MutatingAdmissionWebhook and ValidatingAdmissionWebhook: servers of users that have a say in writes.
//!
//! - [`config`]: what webhooks are shown of this server.
//! - [`hook`]: a webhook as its configuration says it, and whether it is asked about a write.
//! - [`review`]: the question and what of the answer counts; pure.
//! - [`mutating`] asks one after the other, each seeing what those before it made of the object; [`validating`] asks all
//!   at once.
//!
//! Configurations of webhooks and policies are shown only to those that are out of files: one of the API that refuses
//! everything could not be removed.

mod config;
mod hook;
mod mutating;
mod review;
mod validating;

use std::sync::Arc;

use serde_json::Value;
use skep_api::status::Status;
use tokio::time::Instant;

use super::manifests::{Family, MUTATING_WEBHOOKS, Manifests, VALIDATING_WEBHOOKS};
use super::metrics::Called;
use super::{AdmissionMetrics, Attributes, ConfigError, Ingredients, Plugin, shown};
use crate::authz::Authz;
use crate::cache::Cache;
use crate::callout::{Caller, Credentials};
use crate::conversion::Converter;
use crate::ids::Ids;

use hook::Hook;

/// The largest answer (bytes): a patch may hold a whole object, as base64.
const ANSWER: usize = 8 << 20;

/// What both plug-ins have.
struct Webhooks {
    cache: Arc<Cache>,
    caller: Arc<Caller>,
    credentials: Credentials,
    converter: Converter,
    authorizer: Arc<Authz>,
    ids: Ids,
    metrics: Arc<AdmissionMetrics>,
}

impl Webhooks {
    fn new(from: &Ingredients, credentials: Credentials) -> Self {
        Self {
            cache: from.cache.clone(),
            caller: from.caller.clone(),
            credentials,
            converter: from.storage.converter.clone(),
            authorizer: from.authorizer.clone(),
            ids: from.ids.clone(),
            metrics: from.metrics.clone(),
        }
    }
}

/// How asking a webhook ended, other than with its consent.
enum Trouble {
    /// It refuses, or it was not to be asked this way at all.
    Refused(Status),
    /// It did not answer, or with nonsense: the failure policy decides.
    Failed(String),
}

impl Webhooks {
    /// Asks a webhook about an object in the form that it wants; returns its answer.
    async fn ask(
        &self,
        hook: &Hook,
        attributes: &Attributes<'_>,
        question: &Asked<'_>,
        mutating: bool,
    ) -> Result<review::Answer, Trouble> {
        let failed = |why: String| Trouble::Failed(format!("failed calling webhook {:?}: {why}", hook.name));
        if attributes.is_dry_run() && !hook.fit_for_dry_run {
            let why = format!("admission webhook {:?} does not support dry run", hook.name);
            return Err(Trouble::Refused(Status::bad_request(why)));
        }
        let target =
            hook.target.as_ref().map_err(|why| failed(format!("could not get REST client: {why}")))?;
        let id = self.ids.uid();
        let review = review::question(hook.version, &id, question.request, question.object, question.old);
        let query = format!("timeout={}s", hook.patience.as_secs());
        let (credential, review) = (self.credentials.of(target), review.to_string().into());
        let answer = self.caller.post(target, credential, &query, review, hook.patience, ANSWER).await;
        let answer = answer.map_err(|error| failed(format!("failed to call webhook: {error}")))?;
        let answer = review::read(hook.version, &id, mutating, &answer)
            .map_err(|why| failed(format!("received invalid webhook response: {why}")))?;
        for (key, value) in &answer.annotations {
            attributes.notes.annotate(&format!("{}/{key}", hook.name), value.as_str());
        }
        for warning in &answer.warnings {
            attributes.notes.warn(warning.as_str());
        }
        match &answer.denied {
            Some(result) => Err(Trouble::Refused(review::denial(&hook.name, result.clone()))),
            None => Ok(answer),
        }
    }
}

impl Webhooks {
    /// Counts how a webhook ended that was asked at `started`.
    fn count<T>(
        &self,
        hook: &Hook,
        attributes: &Attributes<'_>,
        mutating: bool,
        outcome: &Result<T, Trouble>,
        started: Instant,
    ) {
        let how = match outcome {
            Ok(_) => Called::Consent,
            Err(Trouble::Refused(status)) => Called::Refusal(status.code),
            Err(Trouble::Failed(_)) => Called::Failure { ignored: !hook.fails },
        };
        self.metrics.called(&hook.name, mutating, attributes.operation, how, started.elapsed());
    }
}

/// What a webhook is asked.
struct Asked<'q> {
    request: &'q Value,
    object: &'q Value,
    old: &'q Value,
}

/// Makes the first of the two plug-ins.
pub(super) fn make_mutating(
    from: &Ingredients,
    configuration: Option<&Value>,
) -> Result<Box<dyn Plugin>, ConfigError> {
    let (webhooks, manifests) = configured(from, &MUTATING_WEBHOOKS, configuration)?;
    Ok(Box::new(mutating::Mutating::new(from, webhooks, manifests)))
}

/// Makes the second.
pub(super) fn make_validating(
    from: &Ingredients,
    configuration: Option<&Value>,
) -> Result<Box<dyn Plugin>, ConfigError> {
    let (webhooks, manifests) = configured(from, &VALIDATING_WEBHOOKS, configuration)?;
    Ok(Box::new(validating::Validating::new(from, webhooks, manifests)))
}

fn configured(
    from: &Ingredients,
    family: &'static Family,
    configuration: Option<&Value>,
) -> Result<(Webhooks, Option<Arc<Manifests>>), ConfigError> {
    let read = config::read(configuration, from.manifests.enabled);
    let (credentials, directory) =
        read.map_err(|reason| ConfigError::Plugin { name: family.plugin, reason })?;
    let manifests = directory.map(|directory| Manifests::follow(from, family, directory)).transpose()?;
    Ok((Webhooks::new(from, credentials), manifests))
}
