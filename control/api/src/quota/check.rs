//! Whether there is room for a write in every quota that it falls under.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Evaluator, Selector};
use crate::object::{items, name, text};
use crate::quantity::Quantity;
use crate::resources::{self, Amounts};

/// A quota as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    /// Its name.
    pub name: String,
    /// What it is about.
    pub selectors: Vec<Selector>,
    /// What is allowed, as of its status.
    pub hard: Amounts,
    /// What is used.
    pub used: Amounts,
}

impl Quota {
    /// Reads a `ResourceQuota`.
    pub fn read(object: &Value) -> Self {
        Self {
            name: name(object).to_owned(),
            selectors: Selector::of_spec(&object["spec"]),
            hard: resources::read(&object["status"]["hard"]),
            used: resources::read(&object["status"]["used"]),
        }
    }

    fn covers(&self, evaluator: &Evaluator, object: &Value) -> bool {
        !evaluator.matching(self.hard.keys()).is_empty()
            && self.selectors.iter().all(|selector| evaluator.in_scope(selector, object))
    }
}

/// Resources that may be used only where a quota says how much of them (`limitedResources` of the configuration).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limited {
    /// The kind that it is about.
    pub group: String,
    /// The kind that it is about.
    pub resource: String,
    /// Parts of names of resources.
    pub contains: Vec<String>,
    /// Scopes.
    pub scopes: Vec<Selector>,
}

impl Limited {
    /// Reads one of `limitedResources`.
    pub fn read(value: &Value) -> Self {
        let contains = items(value, &["matchContains"]).iter().filter_map(Value::as_str);
        Self {
            group: text(value, &["apiGroup"]).to_owned(),
            resource: text(value, &["resource"]).to_owned(),
            contains: contains.map(str::to_owned).collect(),
            scopes: items(value, &["matchScopes"]).iter().map(Selector::read).collect(),
        }
    }
}

/// A write to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// How its kind is measured.
    pub evaluator: &'a Evaluator,
    /// Group and plural name of the kind.
    pub kind: (&'a str, &'a str),
    /// Status updates are charged, but not refused.
    pub is_status: bool,
    /// The object before; nothing when it is created.
    pub old: Option<&'a Value>,
    /// The object that would be written.
    pub new: &'a Value,
    /// The time.
    pub now: &'a str,
}

fn join<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    names.into_iter().map(String::as_str).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(",")
}

fn listed(amounts: &Amounts, names: &[&String]) -> String {
    let of = |name: &&String| {
        let amount = amounts.get(*name)?;
        Some(format!("{name}={amount}"))
    };
    names.iter().filter_map(of).collect::<Vec<_>>().join(",")
}

/// Judges a write by the quotas of its namespace.
///
/// Returns for each of them what would be used afterwards, nothing where that is the same.
///
/// # Errors
///
/// Why there is no room, in upstream's words.
pub fn check(
    request: &Request<'_>,
    quotas: &[Quota],
    limited: &[Limited],
) -> Result<Vec<Option<Amounts>>, String> {
    let Request { evaluator, new, now, .. } = *request;
    let covering = covering(request, quotas)?;
    let usage = evaluator.usage(new, now);
    let negative: Vec<&String> =
        usage.iter().filter(|(_, amount)| amount.is_negative()).map(|(name, _)| name).collect();
    if !negative.is_empty() {
        return Err(format!("quota usage is negative for resource(s): {}", join(negative)));
    }
    let more = request.old.map_or_else(|| usage.clone(), |old| growth(&usage, &evaluator.usage(old, now)));
    let mut deltas: Vec<(usize, Amounts)> = covering
        .iter()
        .map(|at| {
            // What moves into the quota's scope counts in full.
            let moved = request.old.is_some_and(|old| !quotas[*at].covers(evaluator, old));
            (*at, without_zeros(if moved { &usage } else { &more }))
        })
        .collect();
    deltas.retain(|(_, delta)| !delta.is_empty());
    let idle = if covering.is_empty() { without_zeros(&more).is_empty() } else { deltas.is_empty() };
    if idle {
        return Ok(vec![None; quotas.len()]);
    }
    check_limited(request, quotas, &covering, limited, &usage)?;
    let mut after = vec![None; quotas.len()];
    for (at, delta) in deltas {
        let quota = &quotas[at];
        let delta: Amounts = delta.into_iter().filter(|(name, _)| quota.hard.contains_key(name)).collect();
        if delta.is_empty() {
            continue;
        }
        let mut used = quota.used.clone();
        resources::add(&mut used, &delta);
        let exceeded: Vec<&String> =
            delta.keys().filter(|name| used.get(*name) > quota.hard.get(*name)).collect();
        if !exceeded.is_empty() && !request.is_status {
            return Err(format!(
                "exceeded quota: {}, requested: {}, used: {}, limited: {}",
                quota.name,
                listed(&delta, &exceeded),
                listed(&quota.used, &exceeded),
                listed(&quota.hard, &exceeded),
            ));
        }
        after[at] = Some(used);
    }
    Ok(after)
}

/// The quotas that the object falls under, of which each knows what is used and finds in the object what it needs.
fn covering(request: &Request<'_>, quotas: &[Quota]) -> Result<Vec<usize>, String> {
    let mut covering = Vec::new();
    for (at, quota) in quotas.iter().enumerate() {
        if !quota.covers(request.evaluator, request.new) {
            continue;
        }
        let restricted = request.evaluator.matching(quota.hard.keys());
        if let Some(missing) = request.evaluator.missing(&restricted, request.new) {
            return Err(format!("failed quota: {}: {missing}", quota.name));
        }
        if restricted.iter().any(|name| !quota.used.contains_key(name)) {
            return Err(format!(
                "status unknown for quota: {}, resources: {}",
                quota.name,
                join(&restricted)
            ));
        }
        covering.push(at);
    }
    Ok(covering)
}

/// What an object counts for beyond what it counted for before.
fn growth(new: &Amounts, old: &Amounts) -> Amounts {
    let zero = Quantity::of(0);
    let more = |(name, amount): (&String, &Quantity)| {
        let rest = old.get(name).map_or(*amount, |old| *amount - *old);
        (name.clone(), rest.max(zero))
    };
    new.iter().map(more).collect()
}

fn without_zeros(amounts: &Amounts) -> Amounts {
    let some = amounts.iter().filter(|(_, amount)| !amount.is_zero());
    some.map(|(name, amount)| (name.clone(), *amount)).collect()
}

/// What the configuration allows only under a quota must be under one.
fn check_limited(
    request: &Request<'_>,
    quotas: &[Quota],
    covering: &[usize],
    limited: &[Limited],
    usage: &Amounts,
) -> Result<(), String> {
    let Request { evaluator, new, .. } = *request;
    let own = limited.iter().filter(|one| (one.group.as_str(), one.resource.as_str()) == request.kind);
    let restricted: BTreeSet<String> =
        covering.iter().flat_map(|at| evaluator.matching(quotas[*at].hard.keys())).collect();
    let positive = || usage.iter().filter(|(_, amount)| !amount.is_zero() && !amount.is_negative());
    let needed = own.flat_map(|one| {
        positive().filter(|(name, _)| one.contains.iter().any(|part| name.contains(part.as_str())))
    });
    let open: Vec<&String> =
        needed.map(|(name, _)| name).filter(|name| !restricted.contains(*name)).collect();
    if !open.is_empty() {
        return Err(format!("insufficient quota to consume: {}", join(open)));
    }
    let matched = |selectors: &[Selector]| -> Vec<Selector> {
        selectors.iter().filter(|one| evaluator.in_scope(one, new)).cloned().collect()
    };
    let covered: Vec<Selector> = quotas.iter().flat_map(|quota| matched(&quota.selectors)).collect();
    let open: Vec<String> = limited
        .iter()
        .flat_map(|one| matched(&one.scopes))
        .filter(|wanted| !covered.iter().any(|one| one.scope == wanted.scope))
        .map(|wanted| wanted.to_string())
        .collect();
    if open.is_empty() {
        return Ok(());
    }
    Err(format!("insufficient quota to match these scopes: [{}]", open.join(" ")))
}
