//! What a server does beside answering requests, under upstream's names for it, and whether it is done, or goes on, as it
//! should: what the health checks tell.
//!
//! Each goes through: begun -> good -> ended. What is done once stays good. What goes on is good for as long as its task
//! lives; a task that failed is an ended one. Does not own what any of them does.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// Names that stand for one thing that this server does: upstream has more parts.
pub(crate) type Names = &'static [&'static str];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Begun,
    Good,
    Ended,
}

/// All of a server. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hooks(Arc<Mutex<BTreeMap<&'static str, State>>>);

/// One of them, in the hands of who does it. It has ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Hook {
    all: Hooks,
    names: Names,
}

impl Hooks {
    fn set(&self, names: Names, state: State) {
        self.0.lock().extend(names.iter().map(|name| (*name, state)));
    }

    /// Something was done that is to be done once.
    pub(crate) fn done(&self, names: Names) {
        self.set(names, State::Good);
    }

    /// Something begins that goes on; it is not good yet.
    pub(crate) fn begin(&self, names: Names) -> Hook {
        self.set(names, State::Begun);
        Hook { all: self.clone(), names }
    }

    /// Does something that goes on, in a task of its own.
    pub(crate) fn spawn(&self, names: Names, task: impl Future<Output = ()> + Send + 'static) {
        let hook = self.begin(names);
        hook.is_good();
        tokio::spawn(async move {
            let _hook = hook;
            task.await;
        });
    }

    /// All of them by name, and whether each is as it should be.
    pub(crate) fn all(&self) -> Vec<(&'static str, bool)> {
        self.0.lock().iter().map(|(name, state)| (*name, *state == State::Good)).collect()
    }
}

impl Hook {
    /// It is as it should be from now on.
    pub(crate) fn is_good(&self) {
        self.all.set(self.names, State::Good);
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.all.set(self.names, State::Ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn task_is_good_as_long_as_it_lives() {
        let (hooks, (end, ended)) = (Hooks::default(), tokio::sync::oneshot::channel::<()>());
        hooks.done(&["once"]);
        hooks.spawn(&["a", "b"], async { ended.await.expect("the test ends it") });
        assert_eq!(hooks.all(), [("a", true), ("b", true), ("once", true)]);
        drop(end);
        tokio::task::yield_now().await;
        assert_eq!(hooks.all(), [("a", false), ("b", false), ("once", true)], "it panicked");
    }

    #[test]
    fn what_has_begun_is_not_good_until_it_says_so() {
        let hooks = Hooks::default();
        let hook = hooks.begin(&["a"]);
        assert_eq!(hooks.all(), [("a", false)]);
        hook.is_good();
        assert_eq!(hooks.all(), [("a", true)]);
    }
}
