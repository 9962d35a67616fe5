//! What every controller stands on: shared caches of the API's objects, the work queue, expectations,
//! ownership, events and metrics.
//!
//! Knows no kind in particular. The order of things: an [`informer::Informer`] watches one kind and keeps
//! its cache; its handlers put keys into a controller's [`queue::Queue`]; [`worker`] takes keys out, one
//! at a time per key, and calls the controller's reconcile function, which reads the caches, plans, and
//! applies the plan through a client of its own identity.

pub mod cache;
pub mod clock;
pub mod events;
pub mod expectations;
pub mod informer;
pub mod key;
pub mod metrics;
pub mod ownership;
pub mod queue;
pub mod worker;
