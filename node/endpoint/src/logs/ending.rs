//! Waits for the end of a container: the runtime's event tells it at once, asking now and then catches what events
//! miss.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use skep_runtime::{Event, EventKind, Runtime, cri};

/// How often the runtime is asked without an event.
const ASK: Duration = Duration::from_secs(2);
/// How often after the event: the exit is announced before the container's state shows it, and before its last
/// output is in the log.
const ASK_SOON: Duration = Duration::from_millis(50);

/// Returns when the container is neither running nor about to.
pub(super) async fn wait(runtime: Arc<dyn Runtime>, id: String) {
    let mut events = runtime.events().await.ok();
    let mut pause = ASK;
    while runs(runtime.as_ref(), &id).await {
        tokio::select! {
            exited = next(&mut events, &id) => if exited { pause = ASK_SOON },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn runs(runtime: &dyn Runtime, id: &str) -> bool {
    match runtime.container_status(id).await {
        Ok(status) => {
            status.state == cri::ContainerState::ContainerRunning as i32
                || status.state == cri::ContainerState::ContainerCreated as i32
        }
        // A runtime that is restarting says nothing about its containers.
        Err(error) => !error.is_not_found(),
    }
}

/// Waits for the container's next event and says whether it is the last. Forever without a source of events.
async fn next(events: &mut Option<BoxStream<'static, Event>>, id: &str) -> bool {
    while let Some(stream) = events {
        match stream.next().await {
            Some(event) if event.id == id => {
                return matches!(event.kind, EventKind::Exited | EventKind::Removed);
            }
            Some(_) => {}
            None => *events = None,
        }
    }
    std::future::pending().await
}
