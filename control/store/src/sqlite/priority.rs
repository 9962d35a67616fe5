//! How the scheduler weighs the threads of the store.

/// Weighs this thread like a process of this niceness (nice(2)).
pub(super) fn set(niceness: i32) {
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), niceness) {
        // Only the superuser may have more than others; it works without.
        tracing::debug!(niceness, %error, "a thread of the store has the weight of any other");
    }
}
