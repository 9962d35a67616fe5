//! The group versions that others answer for, and what they said when they were asked last.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::Value;
use skep_api::aggregation::{self, Remote};
use skep_api::object::{flag, items, name, number, text};
use skep_api::registry::{Registry, Resource, registry};
use tokio_util::sync::CancellationToken;

use super::FrontProxy;
use super::metrics::AggregationMetrics;
use crate::callout::{self, Caller, Target, Trust};
use crate::definitions::Kinds;
use crate::gate::ObjectReader;
use crate::hooks::{Hooks, Names};
use crate::pki::MASTERS;
use crate::storage::Storage;
use crate::user::UserInfo;

/// What this is called in health checks, of which upstream has one for each part.
const HOOKS: Names = &[
    "poststarthook/apiservice-discovery-controller",
    "poststarthook/apiservice-openapi-controller",
    "poststarthook/apiservice-registration-controller",
    "poststarthook/apiservice-status-local-available-controller",
    "poststarthook/apiservice-status-remote-available-controller",
    "poststarthook/kube-apiserver-autoregistration",
];
/// What is true once there is an object for everything that this server serves.
const REGISTERED: Names = &["autoregister-completion"];

/// What a server said when it was asked last.
#[derive(Clone, Default)]
pub(super) struct Answers {
    pub(super) resources: Value,
    pub(super) openapi: Value,
    pub(super) hash: String,
}

/// A server behind this one.
pub(crate) struct Known {
    pub(super) name: String,
    pub(super) group: String,
    pub(super) version: String,
    pub(super) target: Result<Target, String>,
    pub(super) available: bool,
}

/// What requests look servers up in: replaced as a whole.
#[derive(Default)]
struct State {
    generation: u64,
    answered: u64,
    known: Vec<Arc<Known>>,
    remotes: Arc<Vec<Remote>>,
}

/// The servers behind this one.
pub(crate) struct Aggregation {
    pub(super) storage: Storage,
    pub(super) kinds: Arc<Kinds>,
    pub(super) caller: Arc<Caller>,
    pub(super) front_proxy: Option<FrontProxy>,
    pub(super) resource: Arc<Resource>,
    pub(super) user: UserInfo,
    pub(super) metrics: AggregationMetrics,
    /// By name of the object, and a number that grows with every change.
    answers: RwLock<(u64, BTreeMap<String, Answers>)>,
    state: RwLock<Arc<State>>,
}

impl Aggregation {
    /// Follows the objects until `stop`.
    pub(crate) fn start(
        storage: Storage,
        kinds: Arc<Kinds>,
        caller: Arc<Caller>,
        front_proxy: Option<FrontProxy>,
        metrics: &prometheus::Registry,
        hooks: &Hooks,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let found = registry().find(aggregation::GROUP, "v1", aggregation::PLURAL).cloned();
        let one = Arc::new(Self {
            storage,
            kinds,
            caller,
            front_proxy,
            resource: found.expect("APIServices are a built-in kind"),
            user: UserInfo::new("system:apiserver", &[MASTERS]),
            metrics: AggregationMetrics::new(metrics),
            answers: RwLock::default(),
            state: RwLock::new(Arc::new(State { generation: u64::MAX, ..State::default() })),
        });
        let following = one.clone();
        let registered = hooks.begin(REGISTERED);
        hooks.spawn(HOOKS, async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = following.follow(&registered) => {}
            }
        });
        one
    }

    /// All objects of the kind, as the cache has them.
    pub(super) fn objects(&self) -> Vec<Arc<Value>> {
        self.storage.cache.list(aggregation::GROUP, aggregation::PLURAL, "")
    }

    /// Keeps what a server said.
    pub(super) fn keep(&self, name: &str, new: Answers) {
        let mut answers = self.answers.write();
        let same =
            answers.1.get(name).is_some_and(|old| old.hash == new.hash && old.resources == new.resources);
        if !same {
            answers.0 += 1;
            answers.1.insert(name.to_owned(), new);
        }
    }

    pub(super) fn answers(&self, name: &str) -> Answers {
        self.answers.read().1.get(name).cloned().unwrap_or_default()
    }

    fn state(&self) -> Arc<State> {
        let generation = self.storage.cache.generation(aggregation::GROUP, aggregation::PLURAL);
        let answered = self.answers.read().0;
        {
            let state = self.state.read();
            if (state.generation, state.answered) == (generation, answered) {
                return state.clone();
            }
        }
        let mut known = Vec::new();
        let mut remotes = Vec::new();
        for object in self.objects().iter().filter(|object| aggregation::is_remote(object)) {
            let one = known_of(object);
            remotes.push(remote_of(object, &one, self.answers(&one.name)));
            known.push(Arc::new(one));
        }
        let fresh = Arc::new(State { generation, answered, known, remotes: Arc::new(remotes) });
        let mut state = self.state.write();
        *state = fresh.clone();
        fresh
    }

    /// What others serve, for documents.
    pub(crate) fn remotes(&self) -> Arc<Vec<Remote>> {
        self.state().remotes.clone()
    }

    /// The server that a path leads to; nothing if this one answers itself.
    pub(crate) fn route(&self, kinds: &Registry, path: &str) -> Option<Arc<Known>> {
        let path = path.strip_prefix("/openapi/v3").unwrap_or(path);
        let mut parts = path.strip_prefix("/apis/")?.split('/');
        let (group, version) = (parts.next()?, parts.next().filter(|version| !version.is_empty())?);
        let state = self.state();
        let found = state.known.iter().find(|one| one.group == group && one.version == version)?;
        let own = kinds.resources().any(|one| one.group == group && one.version == version);
        (!own).then(|| found.clone())
    }
}

pub(super) fn known_of(object: &Value) -> Known {
    let spec = &object["spec"];
    let trust = match flag(spec, &["insecureSkipTLSVerify"]) {
        true => Ok(Trust::Anyone),
        false => callout::trust(text(spec, &["caBundle"])),
    };
    let (group, version) = aggregation::group_version(object);
    Known {
        name: name(object).to_owned(),
        group: group.to_owned(),
        version: version.to_owned(),
        target: trust.and_then(|trust| Target::of_service(&spec["service"], trust)),
        available: items(object, &["status", "conditions"])
            .iter()
            .any(|one| one["type"] == "Available" && one["status"] == "True"),
    }
}

fn remote_of(object: &Value, known: &Known, answers: Answers) -> Remote {
    let priority = |member: &str| number(object, &["spec", member]).unwrap_or_default();
    Remote {
        group: known.group.clone(),
        version: known.version.clone(),
        group_priority: priority("groupPriorityMinimum"),
        version_priority: priority("versionPriority"),
        available: known.available,
        resources: answers.resources,
        openapi: answers.openapi,
        hash: answers.hash,
    }
}
