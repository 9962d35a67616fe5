//! Builders that the tests of several modules share.

use jiff::Timestamp;

use crate::observe::{Instance, Observed, Sandbox, State};

/// A run in the sandbox `s`, made from whatever spec.
pub(crate) fn run(name: &str, attempt: u32, state: State) -> Instance {
    Instance::for_test(name, attempt, state)
}

/// A running run.
pub(crate) fn running(name: &str, attempt: u32) -> Instance {
    run(name, attempt, State::Running { started_at: Timestamp::UNIX_EPOCH })
}

/// A run that ended at the epoch.
pub(crate) fn exited(name: &str, attempt: u32, code: i32) -> Instance {
    let (started_at, finished_at) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
    run(
        name,
        attempt,
        State::Exited { started_at, finished_at, code, reason: "Error".into(), message: "".into() },
    )
}

/// A ready sandbox `s` with these runs, newest first.
pub(crate) fn observed(instances: Vec<Instance>) -> Observed {
    let sandbox = Sandbox { id: "s".into(), attempt: 0, ready: true, ips: vec!["10.244.0.5".into()] };
    Observed { sandboxes: vec![sandbox], instances }
}
