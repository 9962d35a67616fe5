//! Policies that change objects, one after the other, before the webhooks that do.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use serde_json::{Value, json};
use skep_api::admissionregistration::Rules;
use skep_api::decode::{self, FieldValidation};
use skep_api::object::name;
use skep_api::policy::{Match, MutatingPolicy, Patch, lay};
use skep_api::status::Status;
use skep_api::{defaults, patch};

use super::bound::{Invocation, Policies, Policy, with_inputs};
use super::{Attributes, Ingredients, Plugin, is_out_of_reach, shown};
use crate::admission::manifests::Manifests;
use crate::admission::metrics::Matcher;
use crate::admission::{AdmissionMetrics, Operation};

const NAME: &str = "MutatingAdmissionPolicy";

pub(super) struct Mutating {
    policies: Policies<MutatingPolicy>,
    metrics: Arc<AdmissionMetrics>,
}

fn compile(policy: &Value) -> Policy<MutatingPolicy> {
    Policy {
        rules: Rules::of_constraints(&policy["spec"]["matchConstraints"]),
        program: MutatingPolicy::read(&policy["spec"]),
    }
}

impl Mutating {
    pub(super) fn new(from: &Ingredients, manifests: Option<Arc<Manifests>>) -> Self {
        let (policies, bindings) = ("mutatingadmissionpolicies", "mutatingadmissionpolicybindings");
        let metrics = from.metrics.clone();
        Self { policies: Policies::new(from, policies, bindings, manifests, compile), metrics }
    }

    /// The object as a policy changes it, in its own form; nothing if the policy has nothing to say.
    ///
    /// # Errors
    ///
    /// When it cannot be evaluated.
    async fn change(
        &self,
        one: &Invocation<'_, MutatingPolicy>,
        attributes: &Attributes<'_>,
        object: &Value,
        namespace: &Value,
    ) -> Result<Option<Value>, String> {
        let told = |status: Status| status.message;
        let (mut form, old) = self.policies.form(attributes, one.form, Some(object)).await.map_err(told)?;
        let program = &one.policy.program;
        let began = Instant::now();
        let applies =
            self.with(one, attributes, (&form, &old), namespace, |inputs| program.applies(inputs)).await;
        if program.has_conditions() {
            let found = match &applies {
                Ok(true) => Match::Yes,
                Ok(false) => Match::No,
                Err(why) => Match::Unknown(why.clone()),
            };
            let of = Matcher::policy(one.policy_name());
            self.metrics.matched(of, attributes.operation, &found, began.elapsed());
        }
        if !applies? || (attributes.again.is_second() && !attributes.again.is_wanted(NAME, &id(one))) {
            return Ok(None);
        }
        for index in 0..program.mutations() {
            let patch = |inputs: &skep_api::policy::Inputs<'_>| program.patch(index, inputs);
            let patch = self.with(one, attributes, (&form, &old), namespace, patch).await?;
            form = patched(one, attributes, &form, &patch)?;
        }
        if !shown::is_own_kind(attributes) {
            return Ok(Some(form));
        }
        let own = attributes.scope.resource;
        shown::reform(&self.policies.storage.converter, one.form, own, &form).await.map(Some).map_err(told)
    }

    async fn with<T: Send>(
        &self,
        one: &Invocation<'_, MutatingPolicy>,
        attributes: &Attributes<'_>,
        objects: (&Value, &Value),
        namespace: &Value,
        evaluate: impl Fn(&skep_api::policy::Inputs<'_>) -> T + Send + Sync,
    ) -> T {
        let given = (&*one.param, namespace);
        with_inputs(attributes, &self.policies.authorizer, one.form, objects, given, evaluate).await
    }
}

fn patched(
    one: &Invocation<'_, MutatingPolicy>,
    attributes: &Attributes<'_>,
    object: &Value,
    patch: &Patch,
) -> Result<Value, String> {
    let is_own = shown::is_own_kind(attributes);
    let part = if is_own { None } else { shown::part(attributes) };
    let form = if is_own { Some(one.form) } else { part.as_ref() };
    let mut new = match (patch, form) {
        (Patch::Json(operations), _) => {
            let patched = patch::json_patch_explained(object, operations.to_string().as_bytes());
            patched.map_err(|fault| format!("JSON Patch: {fault}"))?
        }
        (Patch::Apply(configuration), Some(form)) => {
            lay(form, attributes.scope.kinds, object, configuration)?
        }
        (Patch::Apply(_), None) => {
            return Err("an ApplyConfiguration of this kind is not supported".to_owned());
        }
    };
    if let Some(form) = form {
        let checked = decode::check(form, &mut new, FieldValidation::Strict);
        checked.map_err(|status| format!("invalid ApplyConfiguration or JSONPatch: {}", status.message))?;
    }
    if is_own {
        defaults::apply(one.form, &mut new);
    }
    Ok(new)
}

/// What tells an invocation from all others.
fn id(one: &Invocation<'_, MutatingPolicy>) -> String {
    let param = &one.param;
    let namespace = param["metadata"]["namespace"].as_str().unwrap_or_default();
    format!("{}/{}/{namespace}/{}", one.policy_name(), one.binding_name(), name(param))
}

#[async_trait]
impl Plugin for Mutating {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation != Operation::Delete
            && !is_out_of_reach(attributes)
            && !self.policies.are_idle(attributes)
    }

    async fn admit(&self, attributes: &Attributes<'_>, object: Option<&mut Value>) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        let invocations = self.policies.of(attributes, Some(object)).await;
        attributes.again.begin(NAME, Some(object));
        let mut errors: Vec<String> = Vec::new();
        if !invocations.is_empty() {
            let namespace = self.policies.namespace(attributes).await?;
            for one in &invocations {
                let began = Instant::now();
                let outcome = match &one.trouble {
                    Some(why) => Err(why.clone()),
                    None => self.change(one, attributes, object, &namespace).await,
                };
                if !matches!(outcome, Ok(None)) {
                    let (policy, binding) = (one.policy_name(), one.binding_name());
                    let why = outcome.as_ref().err().map(String::as_str);
                    self.metrics.mutated(policy, binding, why, began.elapsed());
                }
                match outcome {
                    Ok(None) => continue,
                    Ok(Some(new)) => {
                        if new != *object {
                            *object = new;
                            attributes.again.require(NAME);
                        }
                        if one.policy.program.again {
                            attributes.again.invoked(NAME, id(one));
                        }
                    }
                    Err(why) if one.policy.program.fails => errors.push(message(one, &why)),
                    Err(why) => {
                        tracing::debug!(policy = one.policy_name(), why, "a policy that may fail failed")
                    }
                }
            }
        }
        attributes.again.end(NAME, Some(object));
        refusal(attributes, errors)
    }
}

fn message(one: &Invocation<'_, MutatingPolicy>, why: &str) -> String {
    match one.binding_name() {
        "" => format!("policy {:?} denied request: {why}", one.policy_name()),
        binding => format!("policy '{}' with binding '{binding}' denied request: {why}", one.policy_name()),
    }
}

fn refusal(attributes: &Attributes<'_>, errors: Vec<String>) -> Result<(), Status> {
    let Some(first) = errors.first() else { return Ok(()) };
    let mut status = attributes.forbid("admission request denied by policy");
    status.message = first.clone();
    status.reason = "Invalid";
    let causes: Vec<Value> = errors.iter().map(|message| json!({ "message": message })).collect();
    status.details.get_or_insert_with(|| json!({}))["causes"] = json!(causes);
    Err(status)
}
