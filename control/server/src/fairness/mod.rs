//! Priority and fairness: who gets a seat, who waits, who is sent away (`flowcontrol.apiserver.k8s.io/v1`, KEP-1040).
//!
//! The way of a request: [`classify`] finds its flow schema and flow, [`work`] says how many seats it takes, the queues of
//! its level ([`queues`]) give it a [`Permit`] at once, or later, or not at all. The permit is held until the answer is
//! out; of a watch, until what was there at its beginning is. Levels lend seats to each other as demand goes ([`levels`]).
//!
//! Where it is turned off, [`in_flight`] takes its place.
//!
//! Everything that decides is pure and knows time as seconds passed in; this file does the waiting.

mod allocate;
mod classify;
mod config;
mod demand;
mod dropped;
mod in_flight;
mod keep;
mod levels;
mod metrics;
mod permit;
mod queue;
mod queues;
mod shown;
mod shuffle;
mod tables;
#[cfg(test)]
mod tests;
mod uses;
mod wait;
mod work;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use parking_lot::RwLock;
use prometheus::Registry;
use serde_json::Value;
use skep_api::status::Status;
use tokio::sync::oneshot;
use tokio::time::Instant;

pub(crate) use keep::keep;
pub(crate) use permit::Permit;
pub(crate) use tables::Table;
pub(crate) use work::Facts;

use self::config::Response;
use self::in_flight::InFlight;
use self::levels::{Active, Caller, Calls, Levels};
use self::metrics::FairnessMetrics;
use self::permit::Seats;
use self::queues::{Arrived, Arriving, Asking, Called, Refused, Running, Seconds};
use self::wait::Wait;
use crate::metrics::Counted;
use crate::query::Query;
use crate::request::RequestInfo;
use crate::turns::Lane;
use crate::user::UserInfo;

const SCHEMA_HEADER: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_HEADER: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// Fairness. Clones are the same.
#[derive(Clone)]
pub(crate) struct Fairness {
    inner: Arc<Inner>,
}

struct Inner {
    /// Seats that the server has in all.
    seats: u32,
    began: Instant,
    levels: RwLock<Arc<Levels>>,
    metrics: FairnessMetrics,
    /// What counts instead, where fairness is off.
    in_flight: Option<InFlight>,
}

/// How many requests are handled at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concurrency {
    /// So many seats, shared out by priority and fairness.
    Fair(u32),
    /// So many that read, and so many that write; 0 means any number.
    Limited {
        /// Those that read.
        reading: u32,
        /// Those that write.
        writing: u32,
    },
}

/// By what a request was judged: goes into the headers of its answer, whatever becomes of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Classified {
    schema: String,
    level: String,
}

impl Classified {
    /// Tells the client by which objects it was judged; their names are nobody's business.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        for (name, uid) in [(SCHEMA_HEADER, &self.schema), (LEVEL_HEADER, &self.level)] {
            if let Ok(value) = HeaderValue::from_str(uid)
                && !uid.is_empty()
            {
                headers.insert(name, value);
            }
        }
    }
}

impl Fairness {
    /// Fairness among requests that share seats. Until objects are read, all share one level.
    pub(crate) fn new(concurrency: Concurrency, registry: &Registry) -> Self {
        let began = Instant::now();
        let (seats, in_flight) = match concurrency {
            Concurrency::Fair(seats) => (seats, None),
            // Nobody sits there, but its objects are looked after all the same.
            Concurrency::Limited { reading, writing } => (1, Some(InFlight::new(reading, writing))),
        };
        let levels = Levels::new(&[], &[], None, seats, 0.0);
        let metrics = FairnessMetrics::new(registry);
        let inner = Inner { seats, began, levels: RwLock::new(Arc::new(levels)), metrics, in_flight };
        let this = Self { inner: Arc::new(inner) };
        shown::register(registry, &this.inner);
        this.adjust();
        this
    }

    /// Goes by these objects from now on.
    pub(crate) fn configure(&self, schemas: &[Arc<Value>], levels: &[Arc<Value>]) {
        {
            let mut current = self.inner.levels.write();
            let now = self.inner.now();
            *current = Arc::new(Levels::new(schemas, levels, Some(&current), self.inner.seats, now));
        }
        self.adjust();
    }

    /// Whether requests share seats by it.
    pub(crate) fn is_on(&self) -> bool {
        self.inner.in_flight.is_none()
    }

    /// Shows how far every level is, where that is shown.
    pub(crate) fn show(&self) {
        let levels = self.inner.levels.read().clone();
        levels.show(&self.inner.metrics);
    }

    /// Gives seats anew.
    fn adjust(&self) {
        let levels = self.inner.levels.read().clone();
        let calls = levels.adjust(self.inner.now(), &self.inner.metrics);
        self.inner.call_all(calls);
    }

    /// Waits for a seat, at most as long as `patience`. From now on the request waits for its turns in the line of its flow.
    ///
    /// # Errors
    ///
    /// 429 when there is none and no place to wait, or none came free in time.
    pub(crate) async fn enter(
        &self,
        user: &UserInfo,
        info: &Arc<RequestInfo>,
        query: &Query,
        facts: impl FnOnce() -> Facts,
        patience: Duration,
        lane: &Lane,
    ) -> (Classified, Result<Permit, Status>) {
        if let Some(in_flight) = &self.inner.in_flight {
            let place = in_flight.enter(user, info);
            return (Classified::default(), place.map(|place| place.map_or(Permit::Free, Permit::Place)));
        }
        let levels = self.inner.levels.read().clone();
        let schema = classify::find(&levels.schemas, user, info);
        let active = levels.levels[schema.level.as_str()].clone();
        let classified = Classified { schema: schema.uid.clone(), level: active.level.uid.clone() };
        let facts = if active.level.response == Response::Exempt { Facts::default() } else { facts() };
        let work = work::estimate(info, query, facts, active.most_for_one);
        let (level, name) = (&*active.level.name, &*schema.name);
        if work::is_told(info) && active.level.response != Response::Exempt {
            self.inner.metrics.written(level, name, facts.watchers);
        }
        self.inner.metrics.estimated(level, name, work.width());
        let flow = classify::flow(schema, user, info);
        let exempt = active.level.response == Response::Exempt;
        match exempt {
            true => lane.free(),
            false => lane.follow(flow),
        }
        let (caller, called) = oneshot::channel();
        let asking = Asking { user: user.name.as_str().into(), info: info.clone() };
        let one = Arriving { work, flow, schema: schema.clone(), asking };
        let (arrived, calls) = active.state.queues.lock().arrive(self.inner.now(), one, caller);
        let watch = info.verb == "watch";
        let outcome = match arrived {
            Arrived::Runs(running) => Ok(self.inner.permit(&active, running, watch)),
            Arrived::Refused(why) => {
                let reason = match why {
                    Refused::ConcurrencyLimit => "concurrency-limit",
                    Refused::QueueFull => "queue-full",
                };
                self.inner.metrics.refused(level, name, reason);
                Err(self.inner.too_many(&active))
            }
            Arrived::Waits(place) => {
                self.inner.metrics.queued(level, name, work.width(), place.length);
                let waiting = Wait {
                    inner: self.inner.clone(),
                    active: active.clone(),
                    schema: schema.clone(),
                    place,
                    seats: work.width(),
                    since: Instant::now(),
                    called: Some(called),
                    timed_out: false,
                    counted: Counted::new(self.inner.metrics.in_queue(info.writes())),
                };
                self.inner.call(&active, calls);
                return (classified, waiting.until(patience, watch).await);
            }
        };
        (classified, outcome)
    }

    /// Seats of a level that are taken, and requests that wait there.
    #[cfg(test)]
    fn usage(&self, level: &str) -> (u32, usize) {
        let levels = self.inner.levels.read().clone();
        let queues = levels.levels[level].state.queues.lock();
        (queues.in_use().0, queues.waiting())
    }
}

impl Inner {
    fn now(&self) -> Seconds {
        self.began.elapsed().as_secs_f64()
    }

    fn permit(self: &Arc<Self>, active: &Arc<Active>, running: Arc<Running>, watch: bool) -> Permit {
        self.metrics.started(&active.level.name, &running);
        Seats::new(self.clone(), active.clone(), running, watch).into()
    }

    fn call_all(&self, calls: Calls) {
        for (active, called) in calls {
            self.call(&active, called);
        }
    }

    /// Calls requests whose turn it is. Those that have left in the meantime make room for others.
    fn call(&self, active: &Active, mut called: Vec<Called<Caller>>) {
        while let Some(one) = called.pop() {
            let running = one.running;
            self.metrics.left(&active.level.name, &running.schema.name, running.work.width());
            self.metrics.started(&active.level.name, &running);
            if let Err(running) = one.call.send(running) {
                called.extend(self.finish(active, &running, 0.0, false));
            }
        }
    }

    fn finish(&self, active: &Active, running: &Running, after: f64, watch: bool) -> Vec<Called<Caller>> {
        let called = active.state.queues.lock().finish(self.now(), running);
        self.metrics.finished(&active.level.name, running, after, watch);
        if running.work.lingering.is_zero() {
            self.metrics.released(&active.level.name, running);
        }
        called
    }

    fn too_many(&self, active: &Active) -> Status {
        let seconds = self.began.elapsed().as_secs();
        let retry = active.state.dropped.lock().refuse(seconds);
        Status::too_many_requests("Too many requests, please try again later.", retry)
    }
}
