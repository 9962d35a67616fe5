//! Probes against fakes, on paused time.

use std::sync::Mutex;

use serde_json::{Value, json};

use super::*;

/// Answers from a list, the last one for ever.
struct Script(Mutex<Vec<bool>>);

#[async_trait]
impl Prober for Script {
    async fn probe(&self, _: &Target, _: &Probe) -> Result<(), String> {
        let mut answers = self.0.lock().expect("no panic");
        let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0] };
        if answer { Ok(()) } else { Err("no".into()) }
    }
}

/// Runs the probes over the answers for `seconds` and gives the changes with their times, without single failures.
async fn run(container: Value, answers: &[bool], seconds: u64, begin: Begin) -> Vec<(u64, Change)> {
    let container: Container = serde_json::from_value(container).expect("a container");
    let target = Target { id: "c".into(), ip: String::new(), container: Arc::new(container) };
    let prober = Arc::new(Script(Mutex::new(answers.to_vec())));
    let started = Instant::now();
    let seen = Mutex::new(Vec::new());
    let report = |report: Report| {
        if !matches!(report.change, Change::Unhealthy(_)) {
            seen.lock().expect("no panic").push((started.elapsed().as_secs(), report.change));
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(seconds), follow(prober, target, begin, report)).await;
    seen.into_inner().expect("no panic")
}

const FRESH: Begin = Begin { age: Duration::ZERO, started: false, ready: false };

#[tokio::test(start_paused = true)]
async fn readiness_turns_only_after_its_thresholds() {
    let container = json!({"name": "a", "readinessProbe": {"periodSeconds": 5, "initialDelaySeconds": 2,
        "successThreshold": 2, "failureThreshold": 2}});
    let answers = [false, true, true, false, true, false, false, true];
    let changes = run(container, &answers, 60, FRESH).await;
    assert_eq!(changes[..2], [(12, Change::Ready(true)), (32, Change::Ready(false))]);
}

#[tokio::test(start_paused = true)]
async fn liveness_failure_in_a_row_kills() {
    let container = json!({"name": "a", "livenessProbe": {"periodSeconds": 1, "failureThreshold": 3}});
    let changes = run(container, &[true, false, false, true, false], 60, FRESH).await;
    let message = "Container a failed liveness probe, will be restarted".to_owned();
    assert_eq!(changes, [(6, Change::Failed(message))]);
}

#[tokio::test(start_paused = true)]
async fn startup_must_succeed_before_the_others_count() {
    let container = json!({"name": "a", "startupProbe": {"periodSeconds": 10, "failureThreshold": 5},
        "readinessProbe": {"periodSeconds": 10}});
    let changes = run(container.clone(), &[false, false, true], 60, FRESH).await;
    assert_eq!(changes[..2], [(20, Change::Started), (20, Change::Ready(true))]);
    let changes = run(container, &[false], 100, FRESH).await;
    let message = "Container a failed startup probe, will be restarted".to_owned();
    assert_eq!(changes, [(40, Change::Failed(message))]);
}

#[tokio::test(start_paused = true)]
async fn adopted_container_stays_ready_until_a_probe_fails() {
    let container = json!({"name": "a", "startupProbe": {"periodSeconds": 10},
        "readinessProbe": {"periodSeconds": 10, "failureThreshold": 1}});
    let begin = Begin { age: Duration::from_secs(500), started: true, ready: true };
    let changes = run(container, &[true, false], 30, begin).await;
    assert_eq!(changes, [(10, Change::Ready(false))]);
}

#[tokio::test(start_paused = true)]
async fn probe_without_answer_fails_after_its_timeout() {
    struct Silent;
    #[async_trait]
    impl Prober for Silent {
        async fn probe(&self, _: &Target, _: &Probe) -> Result<(), String> {
            std::future::pending().await
        }
    }
    let container = json!({"name": "a", "livenessProbe": {"timeoutSeconds": 2, "failureThreshold": 1}});
    let container = serde_json::from_value(container).expect("a container");
    let target = Target { id: "c".into(), ip: String::new(), container: Arc::new(container) };
    let seen = Mutex::new(Vec::new());
    let report = |report: Report| seen.lock().expect("no panic").push(report.change);
    follow(Arc::new(Silent), target, FRESH, report).await;
    let seen = seen.into_inner().expect("no panic");
    assert_eq!(seen[0], Change::Unhealthy("Liveness probe failed: no answer within 2 s".into()));
    assert!(matches!(seen[1], Change::Failed(_)));
}
