//! The levels as a whole: their seats by shares, and lending and borrowing among them as demand goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::oneshot;

use super::allocate::{Claim, allocate};
use super::classify;
use super::config::{CATCH_ALL, EXEMPT, Level, Response, Schema};
use super::demand::Smoothed;
use super::dropped::Dropped;
use super::metrics::FairnessMetrics;
use super::queues::{Called, Queues, Running, Seconds};

/// At most so much of a level's seats go to one request.
const ONE_REQUEST: f64 = 0.15;

/// How a request that waits is called.
pub(super) type Caller = oneshot::Sender<Arc<Running>>;

/// The seats of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Its own.
    pub(super) nominal: u32,
    /// What it never lends.
    pub(super) least: u32,
    /// What it may have with all that it borrows.
    pub(super) most: u32,
}

/// What stays of a level when its object changes.
pub(super) struct Shared {
    pub(super) queues: Mutex<Queues<Caller>>,
    pub(super) demand: Mutex<Smoothed>,
    pub(super) dropped: Mutex<Dropped>,
}

/// A level in use.
pub(super) struct Active {
    pub(super) level: Level,
    pub(super) limits: Limits,
    /// The most seats that one request is taken to need.
    pub(super) most_for_one: u32,
    pub(super) state: Arc<Shared>,
}

/// Everything that requests are classified and limited by.
pub(super) struct Levels {
    pub(super) schemas: Vec<Arc<Schema>>,
    pub(super) levels: BTreeMap<Arc<str>, Arc<Active>>,
    /// Levels whose objects are gone, but not their requests.
    pub(super) leaving: Vec<Arc<Active>>,
    nominal_sum: u32,
}

/// Requests to be called, with the level that they belong to.
pub(super) type Calls = Vec<(Arc<Active>, Vec<Called<Caller>>)>;

impl Levels {
    /// Levels by these objects; what is under way goes on. `seats` is what the server has.
    pub(super) fn new(
        schemas: &[Arc<Value>],
        levels: &[Arc<Value>],
        former: Option<&Self>,
        seats: u32,
        now: Seconds,
    ) -> Self {
        let mut read: Vec<Level> = levels.iter().filter_map(|object| Level::read(object)).collect();
        let mut found: Vec<Arc<Schema>> =
            schemas.iter().map(|object| Arc::new(Schema::read(object))).collect();
        for name in [EXEMPT, CATCH_ALL] {
            if read.iter().all(|level| &*level.name != name) {
                read.push(Level::mandatory(name));
            }
            if found.iter().all(|schema| &*schema.name != name) {
                found.push(Arc::new(Schema::mandatory(name)));
            }
        }
        found.retain(|schema| read.iter().any(|level| *level.name == *schema.level));
        classify::sort(&mut found);
        let shares: f64 = read.iter().map(|level| level.shares).sum();
        let active = |level: Level| {
            let limits = limits(&level, seats, shares);
            let state = former.and_then(|former| former.levels.get(&level.name)).map(|one| one.state.clone());
            let initial = limits.nominal - (limits.nominal - limits.least) / 2;
            let fresh = || {
                Arc::new(Shared {
                    queues: Mutex::new(Queues::new(level.response, initial, now)),
                    demand: Mutex::default(),
                    dropped: Mutex::new(Dropped::new()),
                })
            };
            let state = state.unwrap_or_else(fresh);
            let most_for_one = most_for_one(&level, limits);
            (level.name.clone(), Arc::new(Active { level, limits, most_for_one, state }))
        };
        let levels: BTreeMap<_, _> = read.into_iter().map(active).collect();
        let nominal_sum = levels.values().map(|one| one.limits.nominal).sum();
        let leaving = former.map(|former| former.left_by(&levels)).unwrap_or_default();
        Self { schemas: found, levels, leaving, nominal_sum }
    }

    /// The levels that are not among these, and have requests.
    fn left_by(&self, levels: &BTreeMap<Arc<str>, Arc<Active>>) -> Vec<Arc<Active>> {
        let gone = self.levels.values().filter(|one| !levels.contains_key(&one.level.name));
        let all = gone.chain(&self.leaving);
        all.filter(|one| !one.state.queues.lock().is_idle()).cloned().collect()
    }

    /// Gives seats anew by what was wanted since the last time.
    pub(super) fn adjust(&self, now: Seconds, metrics: &FairnessMetrics) -> Calls {
        let (mut claims, mut names) = (Vec::new(), Vec::new());
        let mut left = i64::from(self.nominal_sum);
        let mut given: BTreeMap<&Arc<str>, (f64, f64)> = BTreeMap::new();
        for (name, active) in &self.levels {
            let observed = active.state.queues.lock().take_demand(now);
            let mut demand = active.state.demand.lock();
            demand.update(observed);
            let limits = active.limits;
            let wanted = demand.last.most.round();
            if active.level.response == Response::Exempt {
                let current = f64::from(limits.least).max(wanted);
                left -= current as i64;
                given.insert(name, (current, current));
                continue;
            }
            let least = f64::from(limits.least).max(f64::from(limits.nominal).min(wanted));
            let target = least.max(demand.value);
            claims.push(Claim { target, least, most: f64::from(limits.most).max(least) });
            names.push(name);
        }
        let floor: i64 = names.iter().map(|name| i64::from(self.levels[*name].limits.least)).sum();
        let wanted: f64 = claims.iter().map(|claim| claim.least).sum();
        let shares = if left <= floor {
            names.iter().map(|name| f64::from(self.levels[*name].limits.least)).collect()
        } else if (left as f64) <= wanted {
            // Not even what was in use is there: everybody gets the same part of it above what is never lent.
            let part = (left - floor) as f64 / (wanted - floor as f64).max(1.0);
            let one = |(name, claim): (&&Arc<str>, &Claim)| {
                let least = f64::from(self.levels[*name].limits.least);
                least + (claim.least - least) * part
            };
            names.iter().zip(&claims).map(one).collect()
        } else {
            let (shares, fair) = allocate(f64::from(self.nominal_sum), &claims);
            metrics.fair_fraction(fair);
            shares
        };
        for ((name, claim), share) in names.iter().zip(&claims).zip(shares) {
            given.insert(name, (share, claim.target));
        }
        self.apply(now, &given, metrics)
    }

    /// Shows how far every level is.
    pub(super) fn show(&self, metrics: &FairnessMetrics) {
        for (name, active) in &self.levels {
            metrics.meters(name, &active.state.queues.lock().meters());
        }
    }

    fn apply(
        &self,
        now: Seconds,
        given: &BTreeMap<&Arc<str>, (f64, f64)>,
        metrics: &FairnessMetrics,
    ) -> Calls {
        let mut calls = Vec::new();
        for (name, active) in &self.levels {
            let Some((seats, target)) = given.get(name) else { continue };
            // A level that lends everything still finds out by one request that it is wanted.
            let current = seats.round().max(1.0) as u32;
            let called = {
                let mut queues = active.state.queues.lock();
                queues.own(now, active.limits.nominal);
                let called = queues.configure(now, active.level.response, current);
                metrics.meters(name, &queues.meters());
                called
            };
            let Limits { nominal, least, most } = active.limits;
            metrics.limits(name, nominal, least, most);
            metrics.adjusted(name, &active.state.demand.lock(), *target, current);
            calls.push((active.clone(), called));
        }
        calls
    }
}

fn limits(level: &Level, seats: u32, shares: f64) -> Limits {
    let total = f64::from(seats);
    let nominal = if shares > 0.0 { (total * level.shares / shares).ceil() } else { 0.0 };
    let lendable = (nominal * level.lendable / 100.0).round().min(nominal);
    let borrowed = level.borrowing.map_or(total, |percent| (nominal * percent / 100.0).round());
    Limits { nominal: nominal as u32, least: (nominal - lendable) as u32, most: (nominal + borrowed) as u32 }
}

fn most_for_one(level: &Level, limits: Limits) -> u32 {
    match level.response {
        Response::Queue { hand, .. } => {
            let part = (f64::from(limits.nominal) * ONE_REQUEST).ceil() as u32;
            part.min(limits.nominal / hand as u32).max(1)
        }
        _ => 0,
    }
}
