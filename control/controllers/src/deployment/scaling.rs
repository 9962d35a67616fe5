//! How many replicas each ReplicaSet of a Deployment gets: surge, unavailability, proportional scaling.

use k8s_openapi::api::apps::v1::{Deployment, RollingUpdateDeployment};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::annotations;
use super::plan::{Step, is_recreate};

/// The most pods above the desired number.
pub(super) fn max_surge(deployment: &Deployment) -> i32 {
    fences(deployment).0
}

/// The most pods below the desired number that may be unavailable.
pub(super) fn max_unavailable(deployment: &Deployment) -> i32 {
    let desired = desired(deployment);
    if is_recreate(deployment) || desired == 0 { 0 } else { fences(deployment).1.min(desired) }
}

fn desired(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().map_or(0, |spec| spec.replicas.unwrap_or(1))
}

/// Surge and unavailability as numbers. Both zero would allow no progress: then one may be unavailable.
fn fences(deployment: &Deployment) -> (i32, i32) {
    if is_recreate(deployment) {
        return (0, 0);
    }
    let quarter = || IntOrString::String("25%".to_owned());
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    let RollingUpdateDeployment { max_surge, max_unavailable } =
        strategy.and_then(|strategy| strategy.rolling_update.clone()).unwrap_or_default();
    let desired = desired(deployment);
    let surge = resolve(&max_surge.unwrap_or_else(quarter), desired, true);
    let unavailable = resolve(&max_unavailable.unwrap_or_else(quarter), desired, false);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

/// A number, or a percentage of `total`.
fn resolve(value: &IntOrString, total: i32, round_up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => (*number).max(0),
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%').and_then(|number| number.parse().ok()).unwrap_or(0);
            let share = percent.clamp(0, i64::from(i32::MAX)) * i64::from(total.max(0));
            let share = if round_up { (share + 99) / 100 } else { share / 100 };
            i32::try_from(share).unwrap_or(i32::MAX)
        }
    }
}

/// The size that the newest set may have now, given what the others still hold.
pub(super) fn newest_size(step: &Step<'_>) -> i32 {
    let Some(newest) = step.newest else { return 0 };
    let desired = step.desired();
    if is_recreate(step.deployment) {
        return desired;
    }
    let own = step.sets[newest].replicas();
    let room = desired.saturating_add(max_surge(step.deployment)) - step.total();
    if room <= 0 { own } else { own + room.min(desired - own) }
}

/// Follows a change of `spec.replicas` without rolling anything out.
pub(super) fn scale(step: &mut Step<'_>) {
    let desired = step.desired();
    if let Some(only) = active_or_latest(step) {
        // Also at the right size: its annotations follow, or the change would look new for ever.
        step.resize(only, desired);
        return;
    }
    if is_saturated(step) {
        for index in step.old() {
            if step.sets[index].replicas() > 0 {
                step.resize(index, 0);
            }
        }
        return;
    }
    if !is_recreate(step.deployment) {
        proportionally(step);
    }
}

/// The only set with replicas; when none has any, the newest.
fn active_or_latest(step: &Step<'_>) -> Option<usize> {
    let active: Vec<usize> = (0..step.sets.len()).filter(|index| step.sets[*index].replicas() > 0).collect();
    match active.as_slice() {
        [] => step.newest.or_else(|| step.old().last().copied()),
        [only] => Some(*only),
        _ => None,
    }
}

/// The newest set has all the pods, and they are available.
fn is_saturated(step: &Step<'_>) -> bool {
    let Some(newest) = step.newest.map(|index| &step.sets[index]) else { return false };
    let desired = step.desired();
    newest.replicas() == desired
        && annotations::number(&newest.object, annotations::DESIRED_REPLICAS) == Some(desired)
        && newest.available() == desired
}

/// Spreads a change over all active sets in proportion to their sizes; what rounding leaves goes to the largest.
fn proportionally(step: &mut Step<'_>) {
    let desired = step.desired();
    let allowed = if desired > 0 { desired.saturating_add(max_surge(step.deployment)) } else { 0 };
    let to_add = allowed - step.total();
    let mut active: Vec<usize> =
        (0..step.sets.len()).filter(|index| step.sets[*index].replicas() > 0).collect();
    // Largest first; among equals the newer grow first and the older shrink first.
    active.sort_by_key(|index| {
        let age = if to_add > 0 { -(*index as i64) } else { *index as i64 };
        (-i64::from(step.sets[*index].replicas()), age)
    });
    let mut added = 0;
    let mut sizes = Vec::with_capacity(active.len());
    for index in active {
        let share = if to_add == 0 { 0 } else { proportion(step, index, to_add, added) };
        added += share;
        sizes.push((index, step.sets[index].replicas() + share));
    }
    if let Some((_, size)) = sizes.first_mut() {
        *size = (*size + to_add - added).max(0);
    }
    for (index, size) in sizes {
        step.resize(index, size);
    }
}

fn proportion(step: &Step<'_>, index: usize, to_add: i32, added: i32) -> i32 {
    if to_add == added {
        return 0;
    }
    let share = fraction(step, index);
    let left = to_add - added;
    if to_add > 0 { share.min(left) } else { share.max(left) }
}

fn fraction(step: &Step<'_>, index: usize) -> i32 {
    let set = &step.sets[index];
    let own = set.replicas();
    if step.desired() == 0 {
        return -own;
    }
    let noted = annotations::number(&set.object, annotations::MAX_REPLICAS).filter(|max| *max > 0);
    let before =
        noted.or_else(|| step.deployment.status.as_ref().and_then(|status| status.replicas)).unwrap_or(0);
    if before <= 0 {
        return 0;
    }
    let max = i64::from(step.desired()) + i64::from(max_surge(step.deployment));
    // Rounded to the nearest, half up: (2ab + c) / 2c.
    let (numerator, before) = (i64::from(own) * max, i64::from(before));
    let size = (2 * numerator + before) / (2 * before);
    i32::try_from(size).unwrap_or(i32::MAX) - own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolve_percentages_round_up_for_surge_and_down_for_unavailability() {
        let check = |value: IntOrString, total, up, down| {
            assert_eq!(
                (resolve(&value, total, true), resolve(&value, total, false)),
                (up, down),
                "{value:?}"
            );
        };
        check(IntOrString::String("25%".into()), 10, 3, 2);
        check(IntOrString::String("25%".into()), 3, 1, 0);
        check(IntOrString::String("100%".into()), 3, 3, 3);
        check(IntOrString::Int(2), 3, 2, 2);
        check(IntOrString::String("nonsense".into()), 3, 0, 0);
    }
}
