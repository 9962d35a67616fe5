//! Policies that judge and policies that change: the object of either kind as a client sends it, on its way to the store, and
//! what it then makes of a pod. It decides, or says why it cannot.
//!
//! The first byte chooses the kind; the rest is the `spec` in JSON.

use serde_json::{Value, json};
use skep_api::admissionregistration::{GROUP, Rules};
use skep_api::decode::{self, Encoding, FieldValidation};
use skep_api::patch;
use skep_api::policy::{
    Authority, Inputs, MutatingPolicy, Patch, Question, Ruling, ValidatingPolicy, lay, warnings,
};
use skep_api::registry::registry;

use crate::{chosen, objects};

/// Nobody may do anything.
struct Nobody;

impl Authority for Nobody {
    fn rule(&self, _: &Question) -> Ruling {
        Ruling::default()
    }
}

/// Decides, or changes.
pub fn run(data: &[u8]) {
    let (choice, spec) = chosen(data);
    let Ok(spec) = decode::parse(spec, Encoding::Json) else { return };
    let (kind, plural) = match choice % 2 {
        0 => ("ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
        _ => ("MutatingAdmissionPolicy", "mutatingadmissionpolicies"),
    };
    let resource = registry().find(GROUP, "v1", plural).expect("policies are built in");
    let group_version = format!("{GROUP}/v1");
    let mut policy = json!({ "apiVersion": group_version, "kind": kind, "metadata": { "name": "p" } });
    policy["spec"] = spec.value;
    objects::through(resource, policy.clone());
    if decode::check(resource, &mut policy, FieldValidation::Ignore).is_err() {
        return;
    }
    decode::omit_zeros(resource, &mut policy);
    skep_api::defaults::apply(resource, &mut policy);
    let _ = warnings(&policy, registry());
    let _ = Rules::of_constraints(&policy["spec"]["matchConstraints"]).selects(Some(&objects::pod()), None);
    let (object, old, request) =
        (objects::pod(), objects::pod(), json!({ "operation": "UPDATE", "name": "p" }));
    let namespace = json!({ "metadata": { "name": "n", "labels": { "a": "b" } } });
    let question = Question::default();
    let inputs = Inputs {
        object: &object,
        old: &old,
        request: &request,
        params: &namespace,
        namespace: &namespace,
        authority: &Nobody,
        resource: &question,
    };
    match kind {
        "ValidatingAdmissionPolicy" => judged(&policy["spec"], &inputs),
        _ => changed(&policy["spec"], &inputs),
    }
}

fn judged(spec: &Value, inputs: &Inputs<'_>) {
    let policy = ValidatingPolicy::read(spec);
    let verdict = policy.evaluate(inputs);
    assert!(
        policy.fails || verdict.broken.is_empty(),
        "a policy that may fail refused: {:?}",
        verdict.broken
    );
}

fn changed(spec: &Value, inputs: &Inputs<'_>) {
    let policy = MutatingPolicy::read(spec);
    if policy.applies(inputs) != Ok(true) {
        return;
    }
    for index in 0..policy.mutations() {
        let new = match policy.patch(index, inputs) {
            Ok(Patch::Json(operations)) => {
                patch::json_patch_explained(inputs.object, operations.to_string().as_bytes()).ok()
            }
            Ok(Patch::Apply(configuration)) => {
                lay(objects::pods(), registry(), inputs.object, &configuration).ok()
            }
            Err(_) => None,
        };
        if let Some(new) = new {
            objects::through(objects::pods(), new);
        }
    }
}
