//! A webhook as its configuration says it, and whether it is asked about a write.

use std::time::Duration;

use serde_json::Value;
use skep_api::admissionregistration::Rules;
use skep_api::object::{items, name, number, text};
use skep_api::policy::{Conditions, Inputs, Match};
use skep_api::registry::Resource;
use skep_api::review::ReviewVersion;
use skep_api::status::Status;
use tokio::time::Instant;

use super::{Attributes, Webhooks, shown};
use crate::admission::metrics::Matcher;
use crate::callout::Target;

/// A webhook.
pub(super) struct Hook {
    pub(super) configuration: String,
    pub(super) name: String,
    pub(super) target: Result<Target, String>,
    pub(super) version: ReviewVersion,
    pub(super) patience: Duration,
    /// Whether a write fails when the webhook does.
    pub(super) fails: bool,
    /// Whether it looks again at what others change after it.
    pub(super) again: bool,
    /// Whether asking it changes nothing when nothing is to be changed.
    pub(super) fit_for_dry_run: bool,
    rules: Rules,
    conditions: Conditions,
}

/// The webhooks of a configuration, in order.
pub(super) fn compile(configuration: &Value) -> Vec<Hook> {
    items(configuration, &["webhooks"]).iter().map(|hook| Hook::read(name(configuration), hook)).collect()
}

impl Hook {
    fn read(configuration: &str, hook: &Value) -> Self {
        let seconds = number(hook, &["timeoutSeconds"]).and_then(|seconds| u64::try_from(seconds).ok());
        Self {
            configuration: configuration.to_owned(),
            name: text(hook, &["name"]).to_owned(),
            target: Target::of_webhook(&hook["clientConfig"]),
            version: ReviewVersion::first_of(items(hook, &["admissionReviewVersions"])),
            patience: Duration::from_secs(seconds.unwrap_or(10)),
            fails: text(hook, &["failurePolicy"]) != "Ignore",
            again: text(hook, &["reinvocationPolicy"]) == "IfNeeded",
            fit_for_dry_run: matches!(text(hook, &["sideEffects"]), "None" | "NoneOnDryRun"),
            rules: Rules::of_webhook(hook),
            conditions: Conditions::read(items(hook, &["matchConditions"]), false),
        }
    }

    /// What tells it from all others.
    pub(super) fn id(&self) -> String {
        format!("{}/{}", self.configuration, self.name)
    }
}

/// A write in the form in which a webhook is asked about it.
pub(super) struct Form<'a> {
    pub(super) resource: &'a Resource,
    pub(super) request: Value,
    pub(super) object: Value,
    pub(super) old: Value,
}

impl Webhooks {
    /// The form in which a webhook is to see a write; nothing if it is not asked.
    ///
    /// # Errors
    ///
    /// When that cannot be told, and the webhook must not be passed by.
    pub(super) async fn form<'a>(
        &self,
        hook: &Hook,
        attributes: &Attributes<'a>,
        object: Option<&Value>,
        mutating: bool,
    ) -> Result<Option<Form<'a>>, Status> {
        let matching = shown::matching(&self.cache, &hook.rules, attributes, object).await?;
        let Some(resource) = matching else { return Ok(None) };
        let own = attributes.scope.resource;
        let reform = async |one: Option<&Value>| match one {
            None => Ok(Value::Null),
            Some(one) if shown::is_own_kind(attributes) => {
                shown::reform(&self.converter, own, resource, one).await
            }
            Some(one) => Ok(one.clone()),
        };
        let form = Form {
            resource,
            request: shown::request(attributes, resource),
            object: reform(object).await?,
            old: reform(attributes.old).await?,
        };
        if hook.conditions.are_empty() {
            return Ok(Some(form));
        }
        let began = Instant::now();
        let found = self.conditions_hold(hook, attributes, &form).await;
        self.metrics.matched(
            Matcher::webhook(&hook.name, mutating),
            attributes.operation,
            &found,
            began.elapsed(),
        );
        match found {
            Match::Yes => Ok(Some(form)),
            Match::Unknown(why) if hook.fails => Err(attributes.forbid(&why)),
            Match::No | Match::Unknown(_) => Ok(None),
        }
    }

    async fn conditions_hold(&self, hook: &Hook, attributes: &Attributes<'_>, form: &Form<'_>) -> Match {
        let resource = shown::question(attributes);
        let by = |rights: &shown::Rights<'_>| {
            hook.conditions.hold(&Inputs {
                object: &form.object,
                old: &form.old,
                request: &form.request,
                params: &Value::Null,
                namespace: &Value::Null,
                authority: rights,
                resource: &resource,
            })
        };
        shown::by_rights(&self.authorizer, attributes.user(), by).await
    }
}
