//! Does what somebody holds cover what they would hand out, and if not, what is missing.
//!
//! Rules are taken apart to single permissions (one group, resource, verb and name, or one path and verb), each of which
//! one held rule must cover as a whole: rights that only several rules together give do not count, as upstream has it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::rules::Rule;

/// The single permissions of `wanted` that no rule of `held` covers.
pub(super) fn missing(held: &[Arc<Rule>], wanted: &[Arc<Rule>]) -> Vec<Rule> {
    let single = wanted.iter().flat_map(|rule| broken_down(rule));
    single.filter(|one| !held.iter().any(|rule| covers(rule, one))).collect()
}

/// Rules that differ only by verb, made one.
pub(super) fn merged(rules: Vec<Rule>) -> Vec<Rule> {
    let mut simple: BTreeMap<(String, String, Vec<String>), Rule> = BTreeMap::new();
    let mut others = Vec::new();
    for rule in rules {
        match (rule.groups.as_slice(), rule.resources.as_slice()) {
            ([group], [resource]) => {
                let key = (group.clone(), resource.clone(), rule.names.clone());
                match simple.get_mut(&key) {
                    Some(known) => known.verbs.extend(rule.verbs),
                    None => {
                        simple.insert(key, rule);
                    }
                }
            }
            _ => others.push(rule),
        }
    }
    others.into_iter().chain(simple.into_values()).collect()
}

/// The same as lines of a message, sorted.
pub(super) fn compact(rules: Vec<Rule>) -> Vec<String> {
    let mut texts: Vec<String> = merged(rules).iter().map(Rule::to_string).collect();
    texts.sort();
    texts.dedup();
    texts
}

fn broken_down(rule: &Rule) -> Vec<Rule> {
    let one = |text: &String| vec![text.clone()];
    let mut all = Vec::new();
    for group in &rule.groups {
        for resource in &rule.resources {
            for verb in &rule.verbs {
                let plain = Rule {
                    verbs: one(verb),
                    groups: one(group),
                    resources: one(resource),
                    ..Rule::default()
                };
                if rule.names.is_empty() {
                    all.push(plain.clone());
                }
                all.extend(rule.names.iter().map(|name| Rule { names: one(name), ..plain.clone() }));
            }
        }
    }
    for path in &rule.paths {
        for verb in &rule.verbs {
            all.push(Rule { verbs: one(verb), paths: one(path), ..Rule::default() });
        }
    }
    all
}

/// Whether `held` covers a single permission.
fn covers(held: &Rule, one: &Rule) -> bool {
    let all_of = |held: &[String], one: &[String]| {
        held.iter().any(|entry| entry == "*") || one.iter().all(|entry| held.contains(entry))
    };
    let names = match one.names.as_slice() {
        [] => held.names.is_empty(),
        names => held.names.is_empty() || names.iter().all(|name| held.names.contains(name)),
    };
    names
        && all_of(&held.verbs, &one.verbs)
        && all_of(&held.groups, &one.groups)
        && resources(&held.resources, &one.resources)
        && one.paths.iter().all(|path| held.paths.iter().any(|held| covers_path(held, path)))
}

fn resources(held: &[String], one: &[String]) -> bool {
    let has = |wanted: &str| held.iter().any(|entry| entry == wanted);
    has("*")
        || one.iter().all(|resource| {
            has(resource) || resource.split_once('/').is_some_and(|(_, sub)| has(&format!("*/{sub}")))
        })
}

fn covers_path(held: &str, path: &str) -> bool {
    held == path || held.ends_with('*') && path.starts_with(held.trim_end_matches('*'))
}
