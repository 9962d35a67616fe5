//! Modes, batches and limits, on paused time.

use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus::Registry;
use serde_json::json;
use serde_json::value::to_raw_value;

use super::*;

/// Remembers batches, with the seconds since the start.
#[derive(Default)]
struct Fake {
    batches: Mutex<Vec<(u64, Vec<String>)>>,
    fails: bool,
}

struct Test {
    fake: Arc<Fake>,
    registry: Registry,
    output: Output,
}

fn event(id: &str) -> Arc<Event> {
    Arc::new(Event::new(Level::Request, id.into(), Timestamp::UNIX_EPOCH))
}

const BATCH: BatchOptions = BatchOptions {
    buffer: 10,
    max_size: 3,
    max_wait: Duration::from_secs(30),
    throttle: None,
    in_parallel: false,
};

fn test(mode: Mode, batch: BatchOptions, truncate: Option<TruncateOptions>, fails: bool) -> Test {
    let (fake, registry) = (Arc::new(Fake { fails, ..Fake::default() }), Registry::new());
    let options = OutputOptions { mode, batch, truncate };
    let backend = Arc::new(Timed(fake.clone(), Instant::now()));
    let output = Output::new(backend, options, AuditMetrics::new(&registry));
    Test { fake, registry, output }
}

struct Timed(Arc<Fake>, Instant);

#[async_trait]
impl Backend for Timed {
    fn name(&self) -> &'static str {
        "fake"
    }

    async fn write(&self, events: &[Arc<Event>], metrics: &AuditMetrics) -> bool {
        if self.0.fails {
            metrics.lost("fake", "full", events);
            return false;
        }
        let ids = events.iter().map(|event| event.audit_id.clone()).collect();
        self.0.batches.lock().push((self.1.elapsed().as_secs(), ids));
        true
    }
}

impl Test {
    fn errors(&self, plugin: &str) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == "apiserver_audit_error_total");
        let metrics = family.map(|family| family.get_metric()).unwrap_or_default();
        let ours = metrics.iter().find(|metric| metric.get_label()[0].value() == plugin);
        ours.map_or(0, |metric| metric.get_counter().get_value() as u64)
    }

    fn batches(&self) -> Vec<(u64, String)> {
        self.fake.batches.lock().iter().map(|(at, ids)| (*at, ids.join(","))).collect()
    }
}

#[tokio::test]
async fn failing_backend_fails_requests_in_strict_mode_only() {
    for (mode, goes_on) in [(Mode::Blocking, true), (Mode::BlockingStrict, false)] {
        let test = test(mode, BATCH, None, true);
        assert_eq!(test.output.process(&event("a")).await, goes_on);
        assert_eq!(test.errors("fake"), 1, "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn batch_goes_when_it_is_full_or_old() {
    let test = test(Mode::Batch, BATCH, None, false);
    for id in ["a", "b", "c", "d"] {
        assert!(test.output.process(&event(id)).await);
    }
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert_eq!(test.batches(), [(0, "a,b,c".into())]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(test.batches()[1..], [(30, "d".into())]);
}

#[tokio::test(start_paused = true)]
async fn events_beyond_the_buffer_are_lost_and_counted() {
    let test = test(Mode::Batch, BatchOptions { buffer: 2, ..BATCH }, None, false);
    for id in ["a", "b", "c", "d"] {
        assert!(test.output.process(&event(id)).await);
    }
    assert_eq!(test.errors("buffered"), 2);
}

#[tokio::test(start_paused = true)]
async fn close_writes_what_waits_and_takes_nothing_more() {
    let test = test(Mode::Batch, BATCH, None, false);
    for id in ["a", "b", "c", "d"] {
        test.output.process(&event(id)).await;
    }
    test.output.close().await;
    assert_eq!(test.batches().iter().map(|(_, ids)| &**ids).collect::<Vec<_>>(), ["a,b,c", "d"]);
    assert!(test.output.process(&event("e")).await);
    assert_eq!(test.errors("buffered"), 1);
}

#[tokio::test(start_paused = true)]
async fn throttle_lets_a_burst_pass_and_then_so_many_per_second() {
    let options = BatchOptions { max_size: 1, throttle: Some((0.5, 2)), ..BATCH };
    let test = test(Mode::Batch, options, None, false);
    for id in ["a", "b", "c", "d"] {
        test.output.process(&event(id)).await;
    }
    test.output.close().await;
    assert_eq!(test.batches().iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 0, 2, 4]);
}

#[tokio::test]
async fn event_that_is_too_large_goes_without_objects_or_not_at_all() {
    let limits = TruncateOptions { max_event: 600, max_batch: 1000 };
    let test = test(Mode::Blocking, BATCH, Some(limits), false);
    let mut large = Event::clone(&event("a"));
    large.request_object = Some(to_raw_value(&json!("x".repeat(900))).unwrap().into());
    let cut = test.output.truncated(&Arc::new(large.clone())).unwrap();
    assert!(cut.request_object.is_none());
    assert_eq!(cut.annotations["audit.k8s.io/truncated"], "true");
    large.request_uri = "/".repeat(900);
    assert!(test.output.process(&Arc::new(large)).await);
    assert_eq!((test.errors("truncate"), test.batches().len()), (1, 0));
}

#[test]
fn batch_that_is_too_large_is_split() {
    let size = event("a").json_line().len();
    let parts = split(vec![event("a"), event("b"), event("c")], Some(size * 2));
    assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
}
