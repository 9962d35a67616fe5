//! One suite for every runtime. The fake always passes it; a real one does where `SKEP_TEST_TIERS` contains
//! `cluster`, `SKEP_TEST_CONTAINERD` names a socket and `SKEP_TEST_IMAGE` an image on it that runs until stopped.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt;
use skep_runtime::cri;
use skep_runtime::{CriRuntime, EventKind, FakeRuntime, Runtime};

fn sandbox_config(uid: &str) -> cri::PodSandboxConfig {
    let host = cri::NamespaceMode::Node as i32;
    let options = cri::NamespaceOption { network: host, ..Default::default() };
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: "suite".into(),
            uid: uid.into(),
            namespace: "default".into(),
            attempt: 0,
        }),
        log_directory: std::env::temp_dir().join(format!("skep-suite-{uid}")).display().to_string(),
        labels: HashMap::from([("io.kubernetes.pod.uid".to_owned(), uid.to_owned())]),
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent: "/skep-suite".into(),
            security_context: Some(cri::LinuxSandboxSecurityContext {
                namespace_options: Some(options),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn container_config(uid: &str, image: &str) -> cri::ContainerConfig {
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: "app".into(), attempt: 0 }),
        image: Some(cri::ImageSpec { image: image.into(), ..Default::default() }),
        labels: HashMap::from([("io.kubernetes.pod.uid".to_owned(), uid.to_owned())]),
        log_path: "0.log".into(),
        linux: Some(cri::LinuxContainerConfig::default()),
        ..Default::default()
    }
}

async fn images_are_found(runtime: &dyn Runtime, image: &str) {
    assert!(runtime.image_status(image).await.expect("image status").is_some());
    let missing = runtime.image_status("localhost/skep/no-such-image:1").await.expect("image status");
    assert!(missing.is_none());
    assert!(!runtime.images().await.expect("images").is_empty());
}

async fn container_lives_and_ends(runtime: &dyn Runtime, image: &str) {
    let uid = format!("suite-{}", std::process::id());
    let mut events = runtime.events().await.expect("events");
    let config = sandbox_config(&uid);
    let sandbox = runtime.run_sandbox(config.clone(), "").await.expect("run sandbox");
    let status = runtime.sandbox_status(&sandbox).await.expect("sandbox status");
    assert_eq!(status.state, cri::PodSandboxState::SandboxReady as i32);

    let created = runtime.create_container(&sandbox, container_config(&uid, image), config).await;
    let id = created.expect("create container");
    let state = async || runtime.container_status(&id).await.expect("container status");
    assert_eq!(state().await.state, cri::ContainerState::ContainerCreated as i32);
    runtime.start_container(&id).await.expect("start container");
    assert_eq!(state().await.state, cri::ContainerState::ContainerRunning as i32);

    let label_selector = HashMap::from([("io.kubernetes.pod.uid".to_owned(), uid.clone())]);
    let filter = cri::ContainerFilter { label_selector, ..Default::default() };
    assert_eq!(runtime.containers(Some(filter.clone())).await.expect("containers").len(), 1);

    runtime.stop_container(&id, Duration::from_secs(2)).await.expect("stop container");
    let ended = state().await;
    assert_eq!(ended.state, cri::ContainerState::ContainerExited as i32);
    assert!(ended.finished_at >= ended.started_at && ended.started_at > 0);
    let exited = async {
        while let Some(event) = events.next().await {
            if event.id == id && event.kind == EventKind::Exited {
                return true;
            }
        }
        false
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), exited).await.expect("an event of the exit"));

    for _ in 0..2 {
        runtime.stop_sandbox(&sandbox).await.expect("stop sandbox");
        runtime.remove_container(&id).await.expect("remove container");
        runtime.remove_sandbox(&sandbox).await.expect("remove sandbox");
    }
    assert!(runtime.containers(Some(filter)).await.expect("containers").is_empty());
    assert!(runtime.container_status(&id).await.expect_err("it is gone").is_not_found());
    assert!(runtime.sandbox_status(&sandbox).await.expect_err("it is gone").is_not_found());
}

async fn suite(runtime: &dyn Runtime, image: &str) {
    assert!(!runtime.version().await.expect("version").runtime_name.is_empty());
    let conditions = runtime.status().await.expect("status").conditions;
    assert!(conditions.iter().any(|condition| condition.r#type == "RuntimeReady" && condition.status));
    images_are_found(runtime, image).await;
    container_lives_and_ends(runtime, image).await;
    assert!(runtime.stop_container("no-such-container", Duration::ZERO).await.is_ok());
    assert!(runtime.start_container("no-such-container").await.expect_err("unknown").is_not_found());
}

#[tokio::test(start_paused = true)]
async fn fake_runtime_passes_the_suite() {
    let runtime = FakeRuntime::default();
    runtime.add_image("app:1");
    suite(&runtime, "app:1").await;
}

#[tokio::test]
async fn cri_runtime_passes_the_suite() {
    let tiers = std::env::var("SKEP_TEST_TIERS").unwrap_or_default();
    let socket = std::env::var_os("SKEP_TEST_CONTAINERD").map(PathBuf::from);
    let image = std::env::var("SKEP_TEST_IMAGE").ok();
    let (true, Some(socket), Some(image)) = (tiers.split(',').any(|tier| tier == "cluster"), socket, image)
    else {
        println!("skipped: needs tier cluster, SKEP_TEST_CONTAINERD and SKEP_TEST_IMAGE");
        return;
    };
    let runtime = CriRuntime::connect(&socket).await.expect("connect");
    suite(&runtime, &image).await;
}
