//! Lifecycle hooks: what runs in or against a container after its start and before its end.

use std::time::Duration;

use k8s_openapi::api::core::v1::LifecycleHandler;
use skep_runtime::Runtime;

use crate::probes::{Target, check};

/// Runs a hook to its end.
///
/// # Errors
/// A sentence for the user.
pub(crate) async fn run(
    runtime: &dyn Runtime,
    target: &Target,
    handler: &LifecycleHandler,
    timeout: Duration,
) -> Result<(), String> {
    if let Some(exec) = &handler.exec {
        let command = exec.command.clone().unwrap_or_default();
        let answer = runtime.exec_sync(&target.id, command, timeout).await;
        let answer = answer.map_err(|error| crate::describe(&error))?;
        if answer.exit_code != 0 {
            let said = String::from_utf8_lossy(&answer.stderr).into_owned();
            return Err(format!("command exited with {}: {said}", answer.exit_code));
        }
        return Ok(());
    }
    if let Some(request) = &handler.http_get {
        let sent = check::http(request, target);
        return match tokio::time::timeout(timeout, sent).await {
            Ok(result) => result.map(drop),
            Err(_) => Err("the request took too long".into()),
        };
    }
    if let Some(sleep) = &handler.sleep {
        let wanted = Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0));
        tokio::time::sleep(wanted.min(timeout)).await;
        return Ok(());
    }
    Err("the hook has no handler that is supported".into())
}
