//! What to do next for one pod: a pure function from its spec and its observed state to actions with reasons.
//!
//! States of a pod here, and what leads from one to the next:
//!
//! ```text
//! no sandbox ──create sandbox──▶ init containers, one after the other ──all done──▶ containers run
//!     ▲                                   │ failed for good                          │   ▲
//!     └──────────sandbox lost─────────────┼──────────────────────────────────────────┤   └─ restart, after back-off
//!                                         ▼                                          │
//!                                      finished ◀──all ended, none to restart────────┘
//! ```
//!
//! Finished and deleted pods are taken down by the worker. Owns no I/O, no clock and no delays of its own:
//! what must wait is said in [`Plan::wake_at`].

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::backoff::Backoff;
use crate::observe::{Instance, Observed, Sandbox, State};
use crate::spec::{self, Member, RestartPolicy, Role};

/// What probes say of a running container, by its id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The startup probe succeeded, or there is none.
    pub started: bool,
    /// The readiness probe succeeds, or there is none.
    pub ready: bool,
    /// Why the container must be killed, once a probe says so.
    pub failed: Option<String>,
}

/// Why a container is not started now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// One word for the status, such as `ImagePullBackOff`.
    pub reason: String,
    /// A sentence for the status.
    pub message: String,
    /// When to try again.
    pub until: Timestamp,
}

/// Everything that planning looks at.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The pod as the API has it.
    pub pod: &'a Pod,
    /// Its ephemeral containers in the form of ordinary ones.
    pub ephemeral: &'a [Container],
    /// What the runtime has.
    pub observed: &'a Observed,
    /// What probes say, by container id.
    pub health: &'a HashMap<String, Health>,
    /// Failures to start, by container name.
    pub holds: &'a HashMap<String, Hold>,
    /// Delays after crashes, by container name.
    pub backoff: &'a Backoff,
    /// Now.
    pub now: Timestamp,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// End a container's process.
    Kill {
        /// Container id.
        id: String,
        /// Container name.
        name: String,
    },
    /// Take a sandbox's network down and end what runs in it.
    StopSandbox {
        /// Sandbox id.
        id: String,
    },
    /// Remove a sandbox in which nothing is kept.
    RemoveSandbox {
        /// Sandbox id.
        id: String,
    },
    /// Make a sandbox.
    CreateSandbox {
        /// Number of sandboxes before it.
        attempt: u32,
    },
    /// Make and start a container.
    Start {
        /// Container name.
        name: String,
        /// Number of runs before it.
        attempt: u32,
        /// When the run before it ended.
        after: Option<Timestamp>,
    },
    /// Remove what is left of an old run.
    Remove {
        /// Container id.
        id: String,
        /// Container name.
        name: String,
    },
}

/// An action and why it is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What to do.
    pub action: Action,
    /// Why.
    pub why: String,
}

/// What to do, and what the status should say of containers that wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub steps: Vec<Step>,
    /// Containers that are held back.
    pub waiting: BTreeMap<String, Hold>,
    /// When to plan again if nothing happens before.
    pub wake_at: Option<Timestamp>,
    /// The pod came to its end: take it down, and let its status say so.
    pub finished: bool,
}

impl Plan {
    fn step(&mut self, action: Action, why: impl Into<String>) {
        self.steps.push(Step { action, why: why.into() });
    }

    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
    }

    fn hold(&mut self, name: &str, hold: Hold) {
        self.wake(hold.until);
        self.waiting.insert(name.to_owned(), hold);
    }
}

/// Plans the next steps. The worker applies them, observes again and plans again until nothing is left to do.
pub fn plan(inputs: &Inputs<'_>) -> Plan {
    let mut plan = Plan::default();
    if is_finished(inputs) {
        plan.finished = true;
        return plan;
    }
    let Some(sandbox) = inputs.observed.sandbox() else {
        renew_sandbox(inputs, &mut plan);
        return plan;
    };
    remove_leftovers(inputs, sandbox, &mut plan);
    let initialized = plan_init(inputs, sandbox, &mut plan);
    if initialized {
        for member in spec::members(inputs.pod).into_iter().filter(|member| member.role == Role::App) {
            plan_running(inputs, sandbox, member, &mut plan);
        }
    }
    for container in inputs.ephemeral {
        if inputs.observed.newest(&container.name).is_none() {
            let member = Member { container, role: Role::Ephemeral };
            start(inputs, member, None, "the ephemeral container was added", &mut plan);
        }
    }
    plan
}

/// Whether every container has ended for good, or one that all others wait for failed for good.
fn is_finished(inputs: &Inputs<'_>) -> bool {
    let members = spec::members(inputs.pod);
    let ended = |member: &Member<'_>| match inputs.observed.newest(member.name()).map(|run| &run.state) {
        Some(State::Exited { code, .. }) => !spec::restart_policy(inputs.pod, *member).wants_restart(*code),
        _ => false,
    };
    let mut app = members.iter().filter(|member| member.role == Role::App).peekable();
    if app.peek().is_some() && app.all(ended) {
        return true;
    }
    let started = app_started(inputs, None);
    let failed = |member: &Member<'_>| {
        let run = inputs.observed.newest(member.name());
        let failed = run.is_some_and(|run| matches!(run.state, State::Exited { code, .. } if code != 0));
        member.role == Role::Init && failed && ended(member)
    };
    !started && members.iter().any(failed)
}

/// Whether a container of the pod proper was ever made, in the sandbox given or in any.
fn app_started(inputs: &Inputs<'_>, sandbox: Option<&str>) -> bool {
    spec::members(inputs.pod).iter().filter(|member| member.role == Role::App).any(|member| {
        inputs.observed.runs(member.name()).any(|run| sandbox.is_none_or(|sandbox| run.sandbox == sandbox))
    })
}

fn renew_sandbox(inputs: &Inputs<'_>, plan: &mut Plan) {
    let observed = inputs.observed;
    for run in observed.instances.iter().filter(|run| run.is_running()) {
        let action = Action::Kill { id: run.id.clone(), name: run.name.clone() };
        plan.step(action, "its sandbox is gone");
    }
    // The worker lists again after this; only the newest can still hold anything.
    if let Some(lost) = observed.sandboxes.first() {
        plan.step(Action::StopSandbox { id: lost.id.clone() }, "it does not run any more");
    }
    let never = spec::members(inputs.pod)
        .iter()
        .filter(|member| member.role == Role::App)
        .all(|member| spec::restart_policy(inputs.pod, *member) == RestartPolicy::Never);
    if never && app_started(inputs, None) {
        plan.finished = true;
        return;
    }
    if let Some(hold) = inputs.holds.get(SANDBOX).filter(|hold| hold.until > inputs.now) {
        plan.wake(hold.until);
        return;
    }
    let attempt = observed.sandboxes.first().map_or(0, |sandbox| sandbox.attempt + 1);
    let why = if attempt == 0 { "the pod has none" } else { "the one before it is gone" };
    plan.step(Action::CreateSandbox { attempt }, why);
}

/// Key in [`Inputs::holds`] for failures to make the sandbox. No container can have this name.
pub const SANDBOX: &str = "/sandbox";

/// Runs before the last one that ended, and sandboxes that hold nothing which the status still shows.
fn remove_leftovers(inputs: &Inputs<'_>, sandbox: &Sandbox, plan: &mut Plan) {
    let observed = inputs.observed;
    let mut kept: HashMap<&str, usize> = HashMap::new();
    let mut removed: Vec<&str> = Vec::new();
    for run in &observed.instances {
        let stale = matches!(run.state, State::Created | State::Unknown);
        let seen = kept.entry(run.name.as_str()).or_default();
        if (stale && run.sandbox != sandbox.id) || (*seen >= 2 && !run.is_running()) {
            removed.push(run.id.as_str());
            plan.step(
                Action::Remove { id: run.id.clone(), name: run.name.clone() },
                "a newer run replaced it",
            );
        } else {
            *seen += 1;
        }
    }
    for old in observed.sandboxes.iter().filter(|old| old.id != sandbox.id) {
        let mut inside = observed.instances.iter().filter(|run| run.sandbox == old.id);
        if inside.all(|run| removed.contains(&run.id.as_str())) {
            plan.step(Action::RemoveSandbox { id: old.id.clone() }, "nothing in it is needed");
        }
    }
}

/// Plans the init containers. Returns whether the containers proper may run.
fn plan_init(inputs: &Inputs<'_>, sandbox: &Sandbox, plan: &mut Plan) -> bool {
    let passed = app_started(inputs, Some(&sandbox.id));
    for member in spec::members(inputs.pod) {
        let run = inputs.observed.newest_in(&sandbox.id, member.name());
        let done = match member.role {
            Role::App | Role::Ephemeral => continue,
            Role::Init => match run.map(|run| &run.state) {
                Some(State::Exited { code: 0, .. }) => true,
                _ if passed => true,
                Some(State::Running { .. }) => false,
                _ => {
                    plan_running(inputs, sandbox, member, plan);
                    false
                }
            },
            Role::Sidecar => {
                plan_running(inputs, sandbox, member, plan);
                let health = run.filter(|run| run.is_running()).and_then(|run| inputs.health.get(&run.id));
                passed || health.is_some_and(|health| health.started)
            }
        };
        if !done {
            return false;
        }
    }
    true
}

/// Keeps a container running as its policy asks.
fn plan_running(inputs: &Inputs<'_>, sandbox: &Sandbox, member: Member<'_>, plan: &mut Plan) {
    let newest = inputs.observed.newest(member.name());
    let Some(run) = inputs.observed.newest_in(&sandbox.id, member.name()) else {
        // A run in a sandbox that was lost counts as a failure only if its policy has it run again.
        if let Some(State::Exited { code, .. }) = newest.map(|run| &run.state)
            && member.role == Role::App
            && !spec::restart_policy(inputs.pod, member).wants_restart(*code)
        {
            return;
        }
        return start(inputs, member, newest, "it was not started yet", plan);
    };
    let changed = run.hash.is_some_and(|hash| hash != spec::container::hash(member));
    match &run.state {
        State::Running { .. } => {
            let failed = inputs.health.get(&run.id).and_then(|health| health.failed.clone());
            let why = match failed {
                Some(message) => message,
                None if changed => format!("Container {} definition changed, will be restarted", run.name),
                None => return,
            };
            plan.step(Action::Kill { id: run.id.clone(), name: run.name.clone() }, why);
        }
        State::Created | State::Unknown => {
            let remove = Action::Remove { id: run.id.clone(), name: run.name.clone() };
            plan.step(remove, "it was made and never started");
            start(inputs, member, Some(run), "it was made and never started", plan);
        }
        State::Exited { .. } if changed => start(inputs, member, Some(run), "its definition changed", plan),
        State::Exited { code, finished_at, .. } => {
            if !spec::restart_policy(inputs.pod, member).wants_restart(*code) {
                return;
            }
            match inputs.backoff.until(member.name(), *finished_at) {
                Some((until, delay)) if until > inputs.now => {
                    let pod = inputs.pod;
                    let message = format!(
                        "back-off {} restarting failed container={} pod={}_{}({})",
                        minutes(delay.as_secs()),
                        run.name,
                        spec::name(pod),
                        spec::namespace(pod),
                        spec::uid(pod)
                    );
                    plan.hold(member.name(), Hold { reason: "CrashLoopBackOff".into(), message, until });
                }
                _ => start(inputs, member, Some(run), format!("it ended with code {code}"), plan),
            }
        }
    }
}

fn start(
    inputs: &Inputs<'_>,
    member: Member<'_>,
    last: Option<&Instance>,
    why: impl Into<String>,
    plan: &mut Plan,
) {
    if let Some(hold) = inputs.holds.get(member.name()).filter(|hold| hold.until > inputs.now) {
        plan.hold(member.name(), hold.clone());
        return;
    }
    let counted = reported_restarts(inputs.pod, member.name());
    let attempt = last.map_or(counted, |run| (run.attempt + 1).max(counted));
    let after = match last.map(|run| &run.state) {
        Some(State::Exited { finished_at, .. }) => Some(*finished_at),
        _ => None,
    };
    plan.step(Action::Start { name: member.name().to_owned(), attempt, after }, why);
}

/// Restarts by the API's count, which outlives a runtime that lost its containers.
fn reported_restarts(pod: &Pod, name: &str) -> u32 {
    let Some(status) = &pod.status else { return 0 };
    let lists = [&status.init_container_statuses, &status.container_statuses];
    let reported = lists.into_iter().flatten().flatten().find(|status| status.name == name);
    reported.map_or(0, |status| {
        let ran =
            status.state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some());
        u32::try_from(status.restart_count).unwrap_or(0) + u32::from(ran)
    })
}

/// Seconds as `10s`, `1m20s`, `5m0s`.
fn minutes(seconds: i64) -> String {
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

#[cfg(test)]
mod tests;
