//! A worker against the fake runtime and a fake API, on paused time.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Probe, Service};
use serde_json::{Value, json};
use skep_runtime::FakeRuntime;
use std::path::Path;

use super::*;
use crate::cluster::{Data, Token};
use crate::probes::Target;
use crate::recorder::Note;
use crate::spec::env::Reference;
use crate::volumes::mounter::Mounter;

/// The API with one pod.
#[derive(Default)]
struct FakeCluster {
    status: Mutex<Value>,
    revision: Mutex<u64>,
    deleted: Mutex<bool>,
    config_map: Mutex<Option<Data>>,
}

#[async_trait]
impl Cluster for FakeCluster {
    async fn patch_status(&self, _: &Pod, patch: &Value) -> Result<Option<u64>, Error> {
        *self.status.lock() = patch["status"].clone();
        *self.revision.lock() += 1;
        Ok(Some(*self.revision.lock()))
    }

    async fn delete_pod(&self, _: &Pod) -> Result<(), Error> {
        *self.deleted.lock() = true;
        Ok(())
    }

    async fn contents(&self, _: &Pod, _: &Reference) -> Result<Option<Arc<Data>>, Error> {
        Ok(self.config_map.lock().clone().map(Arc::new))
    }

    async fn token(&self, pod: &Pod, _: Option<&str>, _: Option<i64>) -> Result<Token, Error> {
        Err(Error::Incomplete { what: "token", name: spec::name(pod).to_owned() })
    }

    async fn services(&self) -> Result<Vec<Arc<Service>>, Error> {
        Ok(Vec::new())
    }

    fn forget(&self, _: &Pod) {}
}

struct NoMounts;

impl Mounter for NoMounts {
    fn is_mounted(&self, _: &Path) -> std::io::Result<bool> {
        Ok(false)
    }
    fn mount_tmpfs(&self, _: &Path, _: Option<i64>) -> std::io::Result<()> {
        Ok(())
    }
    fn bind(&self, _: &Path, _: &Path) -> std::io::Result<()> {
        Ok(())
    }
    fn unmount_below(&self, _: &Path) -> std::io::Result<()> {
        Ok(())
    }
}

/// Every probe answers the same, until told otherwise.
struct OneAnswer(Mutex<bool>);

#[async_trait]
impl Prober for OneAnswer {
    async fn probe(&self, _: &Target, _: &Probe) -> Result<(), String> {
        if *self.0.lock() { Ok(()) } else { Err("no".into()) }
    }
}

struct FakeClock(FakeRuntime);

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanosecond(i128::from(self.0.now())).expect("a time")
    }
}

/// A node with one pod.
struct Node {
    runtime: FakeRuntime,
    cluster: Arc<FakeCluster>,
    prober: Arc<OneAnswer>,
    context: Arc<Context>,
    notes: mpsc::Receiver<Note>,
    root: tempfile::TempDir,
    pod: Value,
    sender: Option<mpsc::UnboundedSender<Message>>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Node {
    fn new(spec: Value) -> Self {
        let (runtime, cluster) = (FakeRuntime::default(), Arc::<FakeCluster>::default());
        runtime.add_image("app:1");
        let root = tempfile::tempdir().expect("a folder");
        let prober = Arc::new(OneAnswer(Mutex::new(true)));
        let (recorder, notes) = Recorder::new();
        let mut config = PodsConfig::new("n1", vec!["172.30.0.11".parse().expect("an address")]);
        config.state_dir = root.path().join("state");
        config.log_dir = root.path().join("logs");
        config.link_dir = root.path().join("links");
        let context = Context {
            volumes: Volumes::new(&config.state_dir, Arc::new(NoMounts)),
            cgroups: Cgroups::new(&root.path().join("cgroup")),
            config,
            runtime: Arc::new(runtime.clone()),
            runtime_name: "fake".into(),
            cluster: cluster.clone(),
            prober: prober.clone(),
            recorder,
            clock: Arc::new(FakeClock(runtime.clone())),
            metrics: Metrics::new(&prometheus::Registry::new()).expect("metrics"),
            allocatable: (2000, 1 << 30),
            claims: Claims::new((2000, 1 << 30)),
        };
        let pod = json!({"metadata": {"name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "0"},
            "spec": spec});
        Self {
            runtime,
            cluster,
            prober,
            context: Arc::new(context),
            notes,
            root,
            pod,
            sender: None,
            task: None,
        }
    }

    fn pod(&self) -> Arc<Pod> {
        Arc::new(serde_json::from_value(self.pod.clone()).expect("a pod"))
    }

    /// Starts a worker with the pod as the API has it, status included, and lets it come to rest.
    async fn start(&mut self) {
        if !self.cluster.status.lock().is_null() {
            self.pod["status"] = self.cluster.status.lock().clone();
        }
        let (worker, sender) = Worker::new(self.context.clone(), self.pod());
        self.sender = Some(sender);
        self.task = Some(tokio::spawn(worker.run()));
        self.settle().await;
    }

    /// Ends the worker as a crash of the agent does.
    async fn crash(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }

    async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    async fn wake(&self) {
        self.send(Message::Wake);
        self.settle().await;
    }

    fn send(&self, message: Message) {
        let _ = self.sender.as_ref().expect("a worker").send(message);
    }

    async fn update(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.pod);
        self.send(Message::Update(self.pod()));
        self.settle().await;
    }

    async fn delete(&mut self, grace: i64) {
        self.update(|pod| {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        })
        .await;
    }

    fn status(&self, pointer: &str) -> Value {
        self.cluster.status.lock().pointer(pointer).cloned().unwrap_or(Value::Null)
    }

    fn condition(&self, kind: &str) -> Value {
        let conditions = self.status("/conditions");
        let all = conditions.as_array().cloned().unwrap_or_default();
        all.into_iter()
            .find(|condition| condition["type"] == kind)
            .map_or(Value::Null, |c| c["status"].clone())
    }

    /// Calls of the runtime that match any of the words.
    fn calls(&self, words: &[&str]) -> Vec<String> {
        let matches = |call: &String| words.iter().any(|word| call.starts_with(word));
        self.runtime.calls().into_iter().filter(matches).collect()
    }

    fn reasons(&mut self) -> Vec<&'static str> {
        std::iter::from_fn(|| self.notes.try_recv().ok()).map(|note| note.reason).collect()
    }

    fn is_done(&self) -> bool {
        self.task.as_ref().is_some_and(tokio::task::JoinHandle::is_finished)
    }
}

fn app() -> Value {
    json!({"containers": [{"name": "app", "image": "app:1"}]})
}

#[tokio::test(start_paused = true)]
async fn pod_runs_and_says_so() {
    let mut node = Node::new(app());
    node.start().await;
    let expected = ["RunPodSandbox web", "CreateContainer app", "StartContainer app"];
    assert_eq!(node.runtime.calls(), expected);
    assert_eq!(node.status("/phase"), "Running");
    assert_eq!(node.condition("Ready"), "True");
    assert_eq!(node.status("/hostIP"), "172.30.0.11");
    assert!(node.status("/podIP").as_str().is_some_and(|ip| ip.starts_with("10.244.0.")));
    assert_eq!(node.status("/containerStatuses/0/imageID"), "sha256:sha256:app:1");
    assert_eq!(node.reasons(), ["Pulled", "Created", "Started"]);
    let revision = *node.cluster.revision.lock();
    node.wake().await;
    assert_eq!(*node.cluster.revision.lock(), revision, "nothing new is not written again");
}

#[tokio::test(start_paused = true)]
async fn deleted_pod_ends_in_its_grace_and_leaves_nothing() {
    let mut node = Node::new(app());
    node.start().await;
    node.runtime.ignore_term("app");
    node.delete(20).await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(!*node.cluster.deleted.lock() && !node.is_done());
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(*node.cluster.deleted.lock() && node.is_done());
    assert_eq!(node.status("/phase"), "Failed");
    assert_eq!(node.calls(&["StopContainer"]), ["StopContainer app 20s"]);
    assert!(node.runtime.sandboxes(None).await.expect("sandboxes").is_empty());
    assert!(!node.root.path().join("logs/shop_web_u").exists());
    assert!(!node.root.path().join("state/pods/u").exists());
    assert_eq!(std::fs::read_dir(node.root.path().join("links")).expect("links").count(), 0);
}

#[tokio::test(start_paused = true)]
async fn shorter_grace_hurries_a_deletion_on() {
    let mut node = Node::new(app());
    node.start().await;
    node.runtime.ignore_term("app");
    node.delete(600).await;
    node.delete(1).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(node.is_done());
    assert_eq!(node.calls(&["StopContainer"]), ["StopContainer app 600s", "StopContainer app 1s"]);
}

#[tokio::test(start_paused = true)]
async fn crashing_container_is_restarted_with_growing_delay() {
    let mut node = Node::new(app());
    node.start().await;
    assert!(node.runtime.exit_named("app", 3));
    node.wake().await;
    assert_eq!(node.status("/containerStatuses/0/restartCount"), 1);
    assert!(node.runtime.exit_named("app", 4));
    node.wake().await;
    assert_eq!(node.status("/containerStatuses/0/state/waiting/reason"), "CrashLoopBackOff");
    assert_eq!(node.status("/containerStatuses/0/lastState/terminated/exitCode"), 4);
    assert_eq!(node.condition("Ready"), "False");
    assert!(node.reasons().contains(&"BackOff"));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(node.status("/containerStatuses/0/restartCount"), 2);
    assert!(node.status("/containerStatuses/0/state/running").is_object());
}

#[tokio::test(start_paused = true)]
async fn job_pod_succeeds_and_stays_until_it_is_deleted() {
    let mut node =
        Node::new(json!({"restartPolicy": "Never", "containers": [{"name": "app", "image": "app:1"}]}));
    node.start().await;
    node.runtime.exit_named("app", 0);
    node.wake().await;
    assert_eq!(node.status("/phase"), "Succeeded");
    assert_eq!(node.condition("Ready"), "False");
    assert!(!node.is_done() && !*node.cluster.deleted.lock());
    assert_eq!(node.runtime.containers(None).await.expect("containers").len(), 1, "its log is kept");
    node.delete(30).await;
    assert!(node.is_done() && *node.cluster.deleted.lock());
}

#[tokio::test(start_paused = true)]
async fn restarted_agent_adopts_what_runs() {
    let mut node = Node::new(app());
    node.start().await;
    node.runtime.exit_named("app", 1);
    node.wake().await;
    let calls = node.runtime.calls().len();
    node.crash().await;
    node.start().await;
    assert_eq!(node.runtime.calls().len(), calls, "nothing is started again");
    assert_eq!(node.status("/containerStatuses/0/restartCount"), 1);
    assert_eq!(node.status("/containerStatuses/0/lastState/terminated/exitCode"), 1);
    node.delete(5).await;
    assert!(node.is_done());
}

#[tokio::test(start_paused = true)]
async fn agent_that_was_away_finishes_a_deletion() {
    let mut node = Node::new(app());
    node.start().await;
    node.crash().await;
    node.pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    node.pod["metadata"]["deletionGracePeriodSeconds"] = json!(7);
    node.start().await;
    assert!(node.is_done() && *node.cluster.deleted.lock());
    assert_eq!(node.calls(&["StopContainer"]), ["StopContainer app 7s"]);
}

#[tokio::test(start_paused = true)]
async fn lost_sandbox_is_made_again() {
    let mut node = Node::new(app());
    node.start().await;
    let sandbox = node.runtime.sandboxes(None).await.expect("sandboxes")[0].id.clone();
    node.runtime.kill_sandbox(&sandbox);
    node.wake().await;
    assert_eq!(node.calls(&["RunPodSandbox"]).len(), 2);
    assert_eq!(node.status("/phase"), "Running");
    assert_eq!(node.status("/containerStatuses/0/restartCount"), 1);
}

#[tokio::test(start_paused = true)]
async fn image_that_cannot_be_pulled_is_held_back_and_tried_again() {
    let mut node = Node::new(json!({"containers": [{"name": "app", "image": "other:1"}]}));
    node.start().await;
    assert_eq!(node.status("/containerStatuses/0/state/waiting/reason"), "ErrImagePull");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(node.status("/containerStatuses/0/state/waiting/reason"), "ImagePullBackOff");
    assert_eq!(node.status("/phase"), "Pending");
    node.runtime.offer_image("other:1");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(node.status("/phase"), "Running");
    assert_eq!(node.reasons(), ["Pulling", "Failed", "BackOff", "Pulling", "Pulled", "Created", "Started"]);
}

#[tokio::test(start_paused = true)]
async fn missing_config_map_holds_the_container_until_it_is_there() {
    let env = json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}]);
    let mut node = Node::new(json!({"containers": [{"name": "app", "image": "app:1", "env": env}]}));
    node.start().await;
    let waiting = node.status("/containerStatuses/0/state/waiting");
    assert_eq!(waiting["reason"], "CreateContainerConfigError");
    assert_eq!(waiting["message"], "configmap \"m\" not found");
    *node.cluster.config_map.lock() = Some(Data::from([("k".to_owned(), b"v".to_vec())]));
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(node.status("/phase"), "Running");
    let config = node.runtime.config_of("app").expect("a container");
    assert!(config.envs.iter().any(|env| env.key == "A" && env.value == "v"));
}

#[tokio::test(start_paused = true)]
async fn readiness_and_liveness_follow_their_probes() {
    let probe = json!({"tcpSocket": {"port": 1}, "periodSeconds": 1, "failureThreshold": 3});
    let mut node = Node::new(json!({"terminationGracePeriodSeconds": 3, "containers": [{"name": "app",
        "image": "app:1", "readinessProbe": probe, "livenessProbe": probe}]}));
    *node.prober.0.lock() = true;
    node.start().await;
    assert_eq!(node.condition("Ready"), "True");
    *node.prober.0.lock() = false;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(node.calls(&["StopContainer"]), ["StopContainer app 3s"]);
    assert_eq!(node.status("/containerStatuses/0/restartCount"), 1);
    assert_eq!(node.condition("Ready"), "False");
    *node.prober.0.lock() = true;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(node.condition("Ready"), "True");
    let reasons = node.reasons();
    assert!(reasons.contains(&"Unhealthy") && reasons.contains(&"Killing"));
}

#[tokio::test(start_paused = true)]
async fn pre_stop_hook_runs_once_and_counts_against_the_grace() {
    let lifecycle =
        json!({"preStop": {"sleep": {"seconds": 4}}, "postStart": {"exec": {"command": ["hello"]}}});
    let spec = json!({"containers": [{"name": "app", "image": "app:1", "lifecycle": lifecycle}]});
    let mut node = Node::new(spec);
    node.start().await;
    assert_eq!(node.calls(&["ExecSync"]), ["ExecSync app hello"]);
    node.delete(10).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(node.is_done());
    assert_eq!(node.calls(&["StopContainer"]), ["StopContainer app 6s"]);
}

#[tokio::test(start_paused = true)]
async fn deadline_ends_the_pod_as_failed() {
    let mut spec = app();
    spec["activeDeadlineSeconds"] = json!(30);
    let mut node = Node::new(spec);
    node.start().await;
    assert_eq!(node.status("/phase"), "Running");
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!((node.status("/phase"), node.status("/reason")), (json!("Failed"), json!("DeadlineExceeded")));
}

#[tokio::test(start_paused = true)]
async fn failed_sandbox_is_tried_again() {
    let mut node = Node::new(app());
    node.runtime.fail_next("RunPodSandbox", "no network");
    node.start().await;
    assert_eq!(node.status("/phase"), "Pending");
    assert_eq!(node.reasons(), ["FailedCreatePodSandBox"]);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(node.status("/phase"), "Running");
}

#[tokio::test(start_paused = true)]
async fn pod_gone_from_the_api_is_removed_without_a_word() {
    let mut node = Node::new(app());
    node.start().await;
    let revision = *node.cluster.revision.lock();
    node.send(Message::Gone);
    node.settle().await;
    assert!(node.is_done() && !*node.cluster.deleted.lock());
    assert_eq!(*node.cluster.revision.lock(), revision);
    assert!(node.runtime.sandboxes(None).await.expect("sandboxes").is_empty());
}

#[tokio::test(start_paused = true)]
async fn status_that_somebody_else_overwrote_is_set_right() {
    let mut node = Node::new(app());
    node.start().await;
    let mut foreign = node.cluster.status.lock().clone();
    foreign["phase"] = json!("Pending");
    let revision = *node.cluster.revision.lock();
    node.update(|pod| {
        pod["metadata"]["resourceVersion"] = json!("99");
        pod["status"] = foreign;
    })
    .await;
    assert_eq!(*node.cluster.revision.lock(), revision + 1);
    assert_eq!(node.status("/phase"), "Running");
}

fn sized(cpu: &str, memory: &str) -> Value {
    json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}})
}

fn sized_app(cpu: &str, memory: &str) -> Value {
    json!({"containers": [{"name": "app", "image": "app:1", "resources": sized(cpu, memory)}]})
}

/// A pod that was on the node before.
fn other(resources: Value, ports: Value) -> Pod {
    let container = json!({ "name": "c", "resources": resources, "ports": ports });
    let metadata = json!({ "name": "other", "uid": "other" });
    serde_json::from_value(json!({ "metadata": metadata, "spec": { "containers": [container] } }))
        .expect("a pod")
}

#[tokio::test(start_paused = true)]
async fn pod_whose_port_another_has_fails_and_nothing_of_it_runs() {
    let port = json!([{ "containerPort": 80, "hostPort": 80 }]);
    let mut node = Node::new(json!({"containers": [{"name": "app", "image": "app:1", "ports": port}]}));
    node.context.claims.enter(&other(json!({}), port));
    node.start().await;
    let message = "Pod was rejected: Predicate NodePorts failed: \
                   node(s) didn't have free ports for the requested pod ports";
    assert_eq!((node.status("/phase"), node.status("/reason")), (json!("Failed"), json!("NodePorts")));
    assert_eq!(node.status("/message"), message);
    assert_eq!(node.reasons(), ["NodePorts"]);
    assert_eq!(node.calls(&["RunPodSandbox", "CreateContainer"]), Vec::<String>::new());
    node.delete(0).await;
    assert!(*node.cluster.deleted.lock());
}

#[tokio::test(start_paused = true)]
async fn pod_that_had_begun_is_not_asked_again_where_its_port_is() {
    let port = json!([{ "containerPort": 80, "hostPort": 80 }]);
    let mut node = Node::new(json!({"containers": [{"name": "app", "image": "app:1", "ports": port}]}));
    node.start().await;
    node.crash().await;
    node.context.claims.enter(&other(json!({}), port));
    node.start().await;
    assert_eq!(node.status("/phase"), "Running");
}

impl Node {
    async fn resize(&mut self, cpu: &str, memory: &str) {
        let resources = sized(cpu, memory);
        self.update(|pod| pod["spec"]["containers"][0]["resources"] = resources).await;
    }

    fn updates(&self) -> Vec<String> {
        self.calls(&["UpdateContainerResources"])
    }
}

#[tokio::test(start_paused = true)]
async fn resize_that_fits_is_given_to_the_running_container_and_shown() {
    let mut node = Node::new(sized_app("500m", "64Mi"));
    node.start().await;
    assert_eq!(node.status("/containerStatuses/0/resources"), sized("500m", "64Mi"));
    assert_eq!(node.status("/containerStatuses/0/allocatedResources/cpu"), "500m");
    node.resize("1", "128Mi").await;
    assert_eq!(node.updates(), ["UpdateContainerResources app shares 1024 quota 100000 memory 134217728"]);
    assert_eq!(node.status("/containerStatuses/0/resources"), sized("1", "128Mi"));
    assert_eq!(node.status("/containerStatuses/0/allocatedResources/cpu"), "1");
    assert_eq!(node.status("/containerStatuses/0/restartCount"), 0);
    assert_eq!(
        (node.condition("PodResizeInProgress"), node.condition("PodResizePending")),
        (Value::Null, Value::Null)
    );
    let reasons = node.reasons();
    assert!(reasons.ends_with(&["ResizeStarted", "ResizeCompleted"]), "{reasons:?}");
    node.wake().await;
    assert_eq!(node.updates().len(), 1, "it is done once");
}

#[tokio::test(start_paused = true)]
async fn resize_without_room_waits_over_a_restart_and_is_done_when_another_pod_leaves() {
    let mut node = Node::new(sized_app("500m", "64Mi"));
    let other = other(json!({ "requests": { "cpu": "1" } }), json!([]));
    node.context.claims.enter(&other);
    node.start().await;
    node.resize("1500m", "64Mi").await;
    assert_eq!(node.condition("PodResizePending"), "True");
    let conditions = node.status("/conditions");
    let pending = conditions.as_array().into_iter().flatten().find(|c| c["type"] == "PodResizePending");
    let message = "Node didn't have enough resource: cpu, requested: 1500, used: 1000, capacity: 2000";
    assert_eq!(pending.map(|c| (&c["reason"], &c["message"])), Some((&json!("Deferred"), &json!(message))));
    assert_eq!(node.status("/containerStatuses/0/resources"), sized("500m", "64Mi"));
    node.crash().await;
    node.context.claims.enter(&other);
    node.start().await;
    assert_eq!(node.condition("PodResizePending"), "True");
    assert_eq!(node.updates(), Vec::<String>::new());
    node.context.claims.leave("other");
    node.settle().await;
    assert_eq!(node.updates(), ["UpdateContainerResources app shares 1536 quota 150000 memory 67108864"]);
    assert_eq!(node.condition("PodResizePending"), Value::Null);
    assert_eq!(node.status("/containerStatuses/0/allocatedResources/cpu"), "1500m");
}

#[tokio::test(start_paused = true)]
async fn resize_that_the_runtime_refuses_is_shown_and_tried_again() {
    let mut node = Node::new(sized_app("500m", "64Mi"));
    node.start().await;
    node.runtime.fail_next("UpdateContainerResources", "busy");
    node.resize("1", "64Mi").await;
    assert_eq!(node.condition("PodResizeInProgress"), "True");
    assert_eq!(node.status("/containerStatuses/0/resources"), sized("500m", "64Mi"));
    assert_eq!(node.status("/containerStatuses/0/allocatedResources/cpu"), "1");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(node.condition("PodResizeInProgress"), Value::Null);
    assert_eq!(node.status("/containerStatuses/0/resources"), sized("1", "64Mi"));
}

#[tokio::test(start_paused = true)]
async fn resize_whose_policy_asks_for_it_starts_the_container_anew_with_what_was_promised() {
    let mut spec = sized_app("500m", "64Mi");
    spec["containers"][0]["resizePolicy"] =
        json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    let mut node = Node::new(spec);
    node.start().await;
    node.resize("500m", "128Mi").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(node.updates(), Vec::<String>::new());
    assert_eq!(node.calls(&["StopContainer"]).len(), 1);
    assert_eq!(node.status("/containerStatuses/0/restartCount"), 1);
    assert_eq!(node.status("/containerStatuses/0/resources"), sized("500m", "128Mi"));
    assert_eq!(node.condition("PodResizeInProgress"), Value::Null);
}
