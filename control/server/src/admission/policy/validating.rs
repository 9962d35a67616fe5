//! Policies that judge. What each validation says becomes of it what the binding wants: refusal, a warning, an entry in
//! the audit log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use skep_api::admissionregistration::Rules;
use skep_api::object::items;
use skep_api::policy::{Decision, ValidatingPolicy, Verdict};
use skep_api::status::Status;

use super::bound::{Invocation, Policies, Policy, with_inputs};
use super::{Attributes, Ingredients, Plugin, is_out_of_reach};
use crate::admission::AdmissionMetrics;
use crate::admission::manifests::Manifests;
use crate::admission::metrics::Matcher;

/// The longest value of an audit annotation (bytes).
const LONGEST: usize = 10 << 10;

pub(super) struct Validating {
    policies: Policies<ValidatingPolicy>,
    metrics: Arc<AdmissionMetrics>,
}

fn compile(policy: &Value) -> Policy<ValidatingPolicy> {
    Policy {
        rules: Rules::of_constraints(&policy["spec"]["matchConstraints"]),
        program: ValidatingPolicy::read(&policy["spec"]),
    }
}

/// A refusal.
struct Denied {
    message: String,
    reason: String,
}

/// What all policies together say of a write.
#[derive(Default)]
struct Said {
    denied: Option<Denied>,
    annotations: BTreeMap<String, Vec<String>>,
}

impl Validating {
    pub(super) fn new(from: &Ingredients, manifests: Option<Arc<Manifests>>) -> Self {
        let (policies, bindings) = ("validatingadmissionpolicies", "validatingadmissionpolicybindings");
        let metrics = from.metrics.clone();
        Self { policies: Policies::new(from, policies, bindings, manifests, compile), metrics }
    }
}

impl Said {
    /// The first refusal is the one that is told.
    fn deny(&mut self, of: &Invocation<'_, ValidatingPolicy>, message: &str, reason: &str) {
        let policy = of.policy_name();
        let start = match of.binding_name() {
            "" => format!("ValidatingAdmissionPolicy '{policy}'"),
            binding => format!("ValidatingAdmissionPolicy '{policy}' with binding '{binding}'"),
        };
        let message = format!("{start} denied request: {message}");
        self.denied.get_or_insert(Denied { message, reason: reason.to_owned() });
    }

    fn take(
        &mut self,
        of: &Invocation<'_, ValidatingPolicy>,
        verdict: &Verdict,
        attributes: &Attributes<'_>,
        metrics: &AdmissionMetrics,
    ) {
        let count = |why: &str, took: Duration, action: &str| {
            metrics.validated(of.policy_name(), of.binding_name(), why, action, took);
        };
        let binding = of.binding.as_deref().unwrap_or(&Value::Null);
        let actions = items(binding, &["spec", "validationActions"]);
        for (index, (decision, took)) in verdict.decisions.iter().zip(&verdict.took).enumerate() {
            let Decision::Deny { message, reason } = decision else { continue };
            for action in actions {
                match action.as_str() {
                    Some("Deny") => {
                        count(message, *took, "deny");
                        self.deny(of, message, reason);
                    }
                    Some("Warn") => {
                        count(message, *took, "warn");
                        attributes.notes.warn(format!(
                            "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {message}",
                            of.policy_name(),
                            of.binding_name()
                        ));
                    }
                    Some("Audit") => {
                        count(message, *took, "audit");
                        let failure = json!([{
                            "message": message, "policy": of.policy_name(), "binding": of.binding_name(),
                            "expressionIndex": index, "validationActions": actions,
                        }]);
                        let key = "validation.policy.admission.k8s.io/validation_failure";
                        attributes.notes.annotate(key, failure.to_string());
                    }
                    _ => {}
                }
            }
        }
        for (why, took) in &verdict.ignored {
            count(why, *took, "allow");
        }
        for (why, took) in &verdict.broken {
            count(why, *took, "deny");
            self.deny(of, why, "");
        }
        for (key, value) in &verdict.annotations {
            let values = self.annotations.entry(format!("{}/{key}", of.policy_name())).or_default();
            let end = value.char_indices().map(|(at, _)| at).take_while(|at| *at <= LONGEST).last();
            let value = if value.len() > LONGEST { &value[..end.unwrap_or(0)] } else { value.as_str() };
            if !values.iter().any(|known| known == value) {
                values.push(value.to_owned());
            }
        }
    }
}

#[async_trait]
impl Plugin for Validating {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        !is_out_of_reach(attributes) && !self.policies.are_idle(attributes)
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let invocations = self.policies.of(attributes, object).await;
        if invocations.is_empty() {
            return Ok(());
        }
        let namespace = self.policies.namespace(attributes).await?;
        let mut said = Said::default();
        for one in &invocations {
            let fails = one.policy.program.fails;
            if let Some(trouble) = &one.trouble {
                if fails {
                    said.deny(one, trouble, "");
                }
                continue;
            }
            let (new, old) = match self.policies.form(attributes, one.form, object).await {
                Ok(form) => form,
                Err(status) => {
                    if fails {
                        let why = format!(
                            "failed to configure binding: failed to convert object version: {status}"
                        );
                        said.deny(one, &why, "");
                    }
                    continue;
                }
            };
            let (objects, given) = ((&new, &old), (&*one.param, &*namespace));
            let verdict =
                with_inputs(attributes, &self.policies.authorizer, one.form, objects, given, |inputs| {
                    one.policy.program.evaluate(inputs)
                })
                .await;
            if let Some((found, took)) = &verdict.conditions {
                let of = Matcher::policy(one.policy_name());
                self.metrics.matched(of, attributes.operation, found, *took);
            }
            said.take(one, &verdict, attributes, &self.metrics);
        }
        for (key, values) in said.annotations {
            attributes.notes.annotate(&key, values.join(", "));
        }
        said.denied.map_or(Ok(()), |denied| Err(refusal(attributes, &denied)))
    }
}

fn refusal(attributes: &Attributes<'_>, denied: &Denied) -> Status {
    let (code, reason) = match denied.reason.as_str() {
        "Forbidden" => (403, "Forbidden"),
        "Unauthorized" => (401, "Unauthorized"),
        "RequestEntityTooLarge" => (413, "RequestEntityTooLarge"),
        _ => (422, "Invalid"),
    };
    let mut status = Status { code, reason, ..attributes.forbid(&denied.message) };
    status.details.get_or_insert_with(|| json!({}))["causes"] = json!([{ "message": denied.message }]);
    status
}
