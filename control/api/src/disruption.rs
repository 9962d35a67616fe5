//! Whether a pod may be evicted (`policy/v1 Eviction`), and what its disruption budget says afterwards.
//!
//! The status of a budget is written by its controller; an eviction takes one from `disruptionsAllowed` and notes the
//! pod in `disruptedPods` until the controller has seen it go.

use serde_json::{Value, json};

use crate::object::{items, number, text};
use crate::select::LabelSelector;
use crate::status::Status;

/// Most evictions that the controller has not confirmed.
const UNCONFIRMED: usize = 2000;
/// Seconds after which to try again when the controller has not seen the budget yet.
const NOT_SEEN: u32 = 10;
const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

/// What stands between a pod and its eviction.
#[derive(Clone, Debug, PartialEq)]
pub enum Ruling {
    /// Nothing.
    Free,
    /// One of the budget's disruptions is spent; this is the budget's status from then on.
    Spend(Value),
}

/// Whether a pod can go whatever the budgets say: it never ran, it has ended, or it is on its way out.
pub fn is_free(pod: &Value) -> bool {
    matches!(text(pod, &["status", "phase"]), "Pending" | "Succeeded" | "Failed")
        || pod["metadata"]["deletionTimestamp"].is_string()
}

/// The budgets of the pod's namespace that cover it.
pub fn covering<'a>(pod: &Value, budgets: &'a [Value]) -> Vec<&'a Value> {
    let covers = |budget: &&Value| {
        let selector = LabelSelector::from_object(&budget["spec"]["selector"]);
        selector.is_some_and(|selector| selector.matches(pod))
    };
    budgets.iter().filter(covers).collect()
}

/// Judges an eviction by the budget that covers the pod. `now` is a time in the API's form.
///
/// # Errors
/// 429 when the budget has nothing left or was not looked at by its controller yet, 403 when its status cannot be.
pub fn judge(pod: &Value, budget: &Value, now: &str) -> Result<Ruling, Status> {
    let status = &budget["status"];
    let count = |name: &str| number(status, &[name]).unwrap_or(0);
    let name = text(budget, &["metadata", "name"]);
    if !is_ready(pod) {
        let always = text(budget, &["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow";
        let healthy = count("desiredHealthy") > 0 && count("currentHealthy") >= count("desiredHealthy");
        if always || healthy {
            return Ok(Ruling::Free);
        }
    }
    if count("observedGeneration") < number(budget, &["metadata", "generation"]).unwrap_or(0) {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(refusal(&why, NOT_SEEN));
    }
    let forbidden = |why: &str| Err(Status::forbidden("policy", "poddisruptionbudget", name, why));
    let allowed = count("disruptionsAllowed");
    if allowed < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    if status["disruptedPods"].as_object().is_some_and(|pods| pods.len() > UNCONFIRMED) {
        return forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
    }
    if allowed == 0 {
        return Err(refusal(&shortage(budget, name), 0));
    }
    let mut status = status.clone();
    status["disruptionsAllowed"] = json!(allowed - 1);
    if allowed == 1 {
        exhaust(&mut status, now);
    }
    if !status["disruptedPods"].is_object() {
        status["disruptedPods"] = json!({});
    }
    let pod = text(pod, &["metadata", "name"]);
    if status["disruptedPods"].get(pod).is_none() {
        status["disruptedPods"][pod] = json!(now);
    }
    Ok(Ruling::Spend(status))
}

/// The pod with the condition that says why it goes.
pub fn condemn(pod: &Value, now: &str) -> Value {
    let mut pod = pod.clone();
    let mut conditions: Vec<Value> = items(&pod, &["status", "conditions"]).to_vec();
    conditions.retain(|condition| condition["type"] != "DisruptionTarget");
    conditions.push(json!({
        "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": now,
    }));
    pod["status"]["conditions"] = json!(conditions);
    pod
}

fn is_ready(pod: &Value) -> bool {
    items(pod, &["status", "conditions"])
        .iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn refusal(why: &str, retry_after: u32) -> Status {
    let mut status = Status::too_many_requests(REFUSED, retry_after);
    if let Some(details) = &mut status.details {
        details["causes"] = json!([{ "reason": "DisruptionBudget", "message": why }]);
    }
    status
}

fn shortage(budget: &Value, name: &str) -> String {
    let conditions = items(budget, &["status", "conditions"]);
    let failed =
        conditions.iter().find(|one| one["type"] == "DisruptionAllowed" && one["reason"] == "SyncFailed");
    match failed {
        Some(failed) => format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed sync: {}",
            text(failed, &["message"])
        ),
        None => format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            number(budget, &["status", "desiredHealthy"]).unwrap_or(0),
            number(budget, &["status", "currentHealthy"]).unwrap_or(0)
        ),
    }
}

/// The condition of a budget with nothing left.
fn exhaust(status: &mut Value, now: &str) {
    let seen = status["observedGeneration"].clone();
    let mut conditions: Vec<Value> = items(status, &["conditions"]).to_vec();
    let before = conditions.iter().find(|one| one["type"] == "DisruptionAllowed" && one["status"] == "False");
    let since = before.map_or_else(|| json!(now), |before| before["lastTransitionTime"].clone());
    conditions.retain(|one| one["type"] != "DisruptionAllowed");
    conditions.push(json!({
        "type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
        "observedGeneration": seen, "lastTransitionTime": since,
    }));
    status["conditions"] = json!(conditions);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(ready: &str) -> Value {
        json!({
            "metadata": { "name": "p", "labels": { "app": "a" } },
            "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": ready }] },
        })
    }

    fn budget(allowed: i64) -> Value {
        json!({
            "metadata": { "name": "b", "generation": 2 },
            "spec": { "selector": { "matchLabels": { "app": "a" } } },
            "status": { "observedGeneration": 2, "disruptionsAllowed": allowed, "desiredHealthy": 2, "currentHealthy": 2 },
        })
    }

    #[test]
    fn eviction_spends_one_disruption_and_the_last_one_shows() {
        let Ok(Ruling::Spend(status)) = judge(&pod("True"), &budget(1), "T") else { panic!("refused") };
        assert_eq!(status["disruptionsAllowed"], 0);
        assert_eq!(status["disruptedPods"], json!({ "p": "T" }));
        assert_eq!(status["conditions"][0]["reason"], "InsufficientPods");
        let Ok(Ruling::Spend(status)) = judge(&pod("True"), &budget(2), "T") else { panic!("refused") };
        assert!(status.get("conditions").is_none());
    }

    #[test]
    fn eviction_is_refused_with_the_budgets_reason() {
        let refused = |budget: &Value| judge(&pod("True"), budget, "T").expect_err("a refusal");
        let status = refused(&budget(0));
        assert_eq!((status.code, status.retry_after), (429, Some(0)));
        let details = status.details.expect("details");
        assert_eq!(
            details["causes"][0]["message"],
            "The disruption budget b needs 2 healthy pods and has 2 currently"
        );
        let mut unseen = budget(1);
        unseen["metadata"]["generation"] = json!(3);
        assert_eq!(refused(&unseen).retry_after, Some(NOT_SEEN));
        assert_eq!(refused(&budget(-1)).code, 403);
    }

    #[test]
    fn unready_pod_goes_when_enough_others_are_healthy_or_its_budget_does_not_mind() {
        assert_eq!(judge(&pod("False"), &budget(0), "T"), Ok(Ruling::Free));
        let mut short = budget(0);
        short["status"]["currentHealthy"] = json!(1);
        assert!(judge(&pod("False"), &short, "T").is_err());
        short["spec"]["unhealthyPodEvictionPolicy"] = json!("AlwaysAllow");
        assert_eq!(judge(&pod("False"), &short, "T"), Ok(Ruling::Free));
    }

    #[test]
    fn budgets_cover_by_selector() {
        let mut all = budget(1);
        all["spec"]["selector"] = json!({});
        let mut none = budget(1);
        none["spec"] = json!({});
        let budgets = [budget(1), all, none];
        assert_eq!(covering(&pod("True"), &budgets).len(), 2);
    }

    #[test]
    fn condemned_pod_says_so_once() {
        let twice = condemn(&condemn(&pod("True"), "T"), "U");
        let conditions = items(&twice, &["status", "conditions"]);
        assert_eq!(conditions.len(), 2);
        assert_eq!(conditions[1]["lastTransitionTime"], "U");
    }
}
