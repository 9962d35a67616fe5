//! Scripts of arrivals and ends, in seconds that the tests make up.

use std::time::Duration;

use proptest::prelude::*;

use super::super::config::Schema;
use super::*;

fn schema() -> Arc<Schema> {
    Arc::new(Schema::mandatory(crate::fairness::config::CATCH_ALL))
}

fn queues(limit: u32) -> Queues<&'static str> {
    Queues::new(Response::Queue { queues: 8, hand: 1, length: 4 }, limit, 0.0)
}

/// The flow whose hand is this queue.
fn flow(queue: u64) -> u64 {
    queue
}

struct Test {
    queues: Queues<&'static str>,
    running: Vec<(&'static str, Arc<Running>)>,
    schema: Arc<Schema>,
}

impl Test {
    fn new(limit: u32) -> Self {
        Self { queues: queues(limit), running: Vec::new(), schema: schema() }
    }

    fn take(&mut self, called: Vec<Called<&'static str>>) {
        self.running.extend(called.into_iter().map(|one| (one.call, one.running)));
    }

    fn arrive(&mut self, now: f64, queue: u64, name: &'static str, work: Work) -> Arrived {
        let (schema, asking) = (self.schema.clone(), Asking { user: name.into(), info: Arc::default() });
        let one = Arriving { work, flow: flow(queue), schema, asking };
        let (arrived, called) = self.queues.arrive(now, one, name);
        self.take(called);
        arrived
    }

    fn end(&mut self, now: f64, name: &str) {
        let at = self.running.iter().position(|(one, _)| *one == name).expect("it runs");
        let (_, running) = self.running.remove(at);
        let called = self.queues.finish(now, &running);
        self.take(called);
    }

    fn running(&self) -> Vec<&str> {
        self.running.iter().map(|(name, _)| *name).collect()
    }
}

#[test]
fn requests_run_while_there_are_seats_and_wait_in_order_after_that() {
    let mut test = Test::new(2);
    for name in ["a", "b", "c", "d"] {
        test.arrive(0.0, 0, name, Work::ONE);
    }
    assert_eq!(test.running(), ["a", "b"]);
    test.end(1.0, "a");
    assert_eq!(test.running(), ["b", "c"]);
    test.end(1.0, "c");
    test.end(1.0, "b");
    test.end(1.0, "d");
    assert!(test.queues.is_idle());
}

#[test]
fn flow_that_floods_does_not_hold_up_another() {
    let mut test = Test::new(1);
    for name in ["f1", "f2", "f3", "f4", "f5"] {
        test.arrive(0.0, 0, name, Work::ONE);
    }
    test.arrive(0.01, 1, "quiet", Work::ONE);
    test.end(0.02, "f1");
    assert_eq!(test.running(), ["quiet"], "its queue has used nothing yet");
    test.end(0.03, "quiet");
    test.arrive(0.03, 1, "again", Work::ONE);
    assert_eq!(test.running(), ["f2"]);
    test.end(0.05, "f2");
    assert_eq!(test.running(), ["again"]);
}

#[test]
fn wide_requests_count_as_many() {
    let mut test = Test::new(4);
    let wide = Work { seats: 3, ..Work::ONE };
    test.arrive(0.0, 0, "wide", wide);
    test.arrive(0.0, 1, "one", Work::ONE);
    test.arrive(0.0, 2, "two", wide);
    assert_eq!(test.running(), ["wide", "one"]);
    test.end(0.1, "one");
    assert_eq!(test.running(), ["wide"], "one seat is not enough");
    test.end(0.2, "wide");
    assert_eq!(test.running(), ["two"]);
}

#[test]
fn flow_that_takes_all_it_gets_leaves_seats_for_another() {
    let mut test = Test::new(48);
    let wide = Work { seats: 8, ..Work::ONE };
    for name in ["l1", "l2", "l3", "l4", "l5", "l6", "l7"] {
        test.arrive(0.0, 0, name, wide);
    }
    assert_eq!(test.running(), ["l1", "l2", "l3", "l4", "l5"], "eight seats are kept");
    test.arrive(0.1, 1, "quiet", Work::ONE);
    assert_eq!(test.running().last(), Some(&"quiet"));
    test.end(0.2, "quiet");
    test.arrive(0.3, 1, "list", wide);
    assert_eq!(test.running().last(), Some(&"list"), "even of the widest request");
    test.arrive(0.4, 1, "more", Work::ONE);
    test.end(0.5, "l1");
    assert_eq!(
        test.running(),
        ["l2", "l3", "l4", "l5", "list"],
        "who has seats waits until some are free again"
    );
    test.end(0.6, "l2");
    assert_eq!(test.running().last(), Some(&"more"), "who has used less is first");
}

#[test]
fn narrow_requests_of_who_has_seats_do_not_pass_a_wide_one_that_waits() {
    let mut test = Test::new(12);
    test.arrive(0.0, 0, "a", Work { seats: 4, ..Work::ONE });
    test.arrive(0.0, 1, "b", Work { seats: 4, ..Work::ONE });
    test.arrive(0.1, 0, "wide", Work { seats: 4, ..Work::ONE });
    test.arrive(0.5, 1, "narrow", Work::ONE);
    assert_eq!(test.running(), ["a", "b"]);
    test.end(0.6, "a");
    assert_eq!(test.running(), ["b", "wide", "narrow"]);
}

#[test]
fn long_requests_are_charged_while_they_last() {
    let mut test = Test::new(2);
    for name in ["f1", "f2", "f3"] {
        test.arrive(0.0, 0, name, Work::ONE);
    }
    test.arrive(1.0, 1, "quiet", Work::ONE);
    test.end(1.1, "f2");
    assert_eq!(test.running(), ["f1", "quiet"], "the other one has had two seats for a second");
}

#[test]
fn request_wider_than_the_level_has_it_for_itself() {
    let mut test = Test::new(2);
    test.arrive(0.0, 0, "one", Work::ONE);
    test.arrive(0.0, 1, "huge", Work { seats: 9, ..Work::ONE });
    assert_eq!(test.running(), ["one"]);
    test.end(0.1, "one");
    assert_eq!(test.running(), ["huge"]);
}

#[test]
fn full_queue_refuses_and_others_do_not() {
    let mut test = Test::new(1);
    for name in ["a", "b", "c", "d", "e"] {
        assert!(!matches!(test.arrive(0.0, 0, name, Work::ONE), Arrived::Refused(_)), "{name}");
    }
    assert!(matches!(test.arrive(0.0, 0, "f", Work::ONE), Arrived::Refused(Refused::QueueFull)));
    assert!(matches!(test.arrive(0.0, 1, "g", Work::ONE), Arrived::Waits(_)));
}

#[test]
fn level_without_queues_refuses_what_finds_no_seat() {
    let mut test = Test::new(1);
    test.queues = Queues::new(Response::Reject, 1, 0.0);
    assert!(matches!(test.arrive(0.0, 0, "a", Work::ONE), Arrived::Runs(_)));
    assert!(matches!(test.arrive(0.0, 0, "b", Work::ONE), Arrived::Refused(Refused::ConcurrencyLimit)));
}

#[test]
fn exempt_level_refuses_nothing() {
    let mut test = Test::new(1);
    test.queues = Queues::new(Response::Exempt, 0, 0.0);
    for _ in 0..100 {
        assert!(matches!(test.arrive(0.0, 0, "a", Work::ONE), Arrived::Runs(_)));
    }
    assert_eq!(test.queues.in_use(), (100, 100));
}

#[test]
fn request_that_leaves_its_queue_is_not_called() {
    let mut test = Test::new(1);
    test.arrive(0.0, 0, "a", Work::ONE);
    let Arrived::Waits(place) = test.arrive(0.0, 0, "b", Work::ONE) else { panic!("it waits") };
    test.arrive(0.0, 0, "c", Work::ONE);
    assert!(test.queues.cancel(0.1, place, Left::Cancelled));
    assert!(!test.queues.cancel(0.1, place, Left::Cancelled));
    test.end(0.2, "a");
    assert_eq!(test.running(), ["c"]);
}

#[test]
fn snapshot_shows_who_waits_who_runs_and_what_became_of_others() {
    let mut test = Test::new(1);
    let wide = Work { seats: 1, final_seats: 2, lingering: Duration::from_millis(50) };
    test.arrive(0.0, 3, "a", Work::ONE);
    test.arrive(0.5, 3, "b", wide);
    let Arrived::Waits(place) = test.arrive(0.5, 5, "c", Work::ONE) else { panic!("it waits") };
    assert!(test.queues.cancel(0.6, place, Left::TimedOut));
    let seen = test.queues.snapshot();
    let counts = Counts { dispatched: 1, rejected: 1, timed_out: 1, cancelled: 0 };
    assert_eq!((seen.counts, seen.waiting, seen.executing, seen.is_idle), (counts, 1, 1, false));
    assert!(seen.queueless.is_empty());
    let (at, queue) = seen.queues.iter().find(|(_, queue)| queue.seats > 0).unwrap();
    let who = |one: &[Request]| one.iter().map(|one| one.asking.user.to_string()).collect::<Vec<_>>();
    assert_eq!((*at, who(&queue.waiting), who(&queue.executing)), (3, vec!["b".into()], vec!["a".into()]));
    assert_eq!((queue.waiting[0].arrived, queue.waiting[0].started), (0.5, None));
    assert_eq!((queue.executing[0].arrived, queue.executing[0].started), (0.0, Some(0.0)));
    test.end(1.0, "a");
    let (_, b) = test.running.remove(0);
    test.queues.finish(1.1, &b);
    let seen = test.queues.snapshot();
    assert_eq!((seen.executing, seen.queues[*at].1.seats, seen.is_idle), (0, 2, false), "it lingers");
    test.queues.release(1.2, &b);
    assert!(test.queues.snapshot().is_idle);
}

#[test]
fn seats_of_a_lingering_request_stay_taken() {
    let mut test = Test::new(2);
    let work = Work { seats: 1, final_seats: 2, lingering: Duration::from_millis(50) };
    test.arrive(0.0, 0, "a", work);
    test.arrive(0.0, 1, "b", Work::ONE);
    let (_, running) = test.running.remove(0);
    assert!(test.queues.finish(0.1, &running).is_empty());
    assert_eq!(test.queues.in_use(), (2, 0));
    let called = test.queues.release(0.15, &running);
    test.take(called);
    assert_eq!(test.running(), ["b"]);
}

#[test]
fn more_seats_call_those_that_wait() {
    let mut test = Test::new(1);
    for name in ["a", "b", "c"] {
        test.arrive(0.0, 0, name, Work::ONE);
    }
    let called = test.queues.configure(0.1, Response::Queue { queues: 2, hand: 1, length: 4 }, 3);
    test.take(called);
    assert_eq!(test.running(), ["a", "b", "c"]);
}

#[test]
fn idle_queue_saves_nothing_up() {
    let mut test = Test::new(1);
    // Flow 1 is busy for long, flow 2 was there once and comes back: it gets its share from now on, not more.
    test.arrive(0.0, 2, "early", Work::ONE);
    test.end(0.001, "early");
    test.arrive(1.0, 1, "f1", Work::ONE);
    test.arrive(1.0, 1, "f2", Work::ONE);
    test.arrive(100.0, 2, "q1", Work::ONE);
    test.arrive(100.0, 2, "q2", Work::ONE);
    test.end(100.0, "f1");
    let first = test.running()[0].to_owned();
    test.end(100.1, &first);
    let second = test.running()[0].to_owned();
    assert_ne!(first.starts_with('f'), second.starts_with('f'), "they take turns: {first}, {second}");
}

proptest! {
    /// Whatever comes and goes, seats are never overspent (but by one request that is wider than the level), nobody who
    /// fits is left waiting, and all is over in the end.
    #[test]
    fn seats_are_never_overspent_and_never_wasted(
        steps in proptest::collection::vec((0_u64..8, 1_u32..4, any::<bool>()), 1..200), limit in 1_u32..6
    ) {
        let mut test = Test::new(limit);
        let mut now = 0.0;
        for (queue, seats, ends) in steps {
            now += 0.01;
            if ends && !test.running.is_empty() {
                let name = test.running[0].0;
                test.end(now, name);
            } else {
                test.arrive(now, queue, "x", Work { seats, ..Work::ONE });
            }
            let (taken, executing) = test.queues.in_use();
            prop_assert!(taken <= limit || executing == 1);
            prop_assert_eq!(executing, test.running.len());
            prop_assert!(test.queues.waiting() == 0 || executing > 0);
        }
        while !test.running.is_empty() {
            now += 0.01;
            let name = test.running[0].0;
            test.end(now, name);
        }
        prop_assert!(test.queues.is_idle());
    }
}
