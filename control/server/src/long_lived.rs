//! What is kept about long-lived tokens, so that those nobody uses can be found and ended: on the Secret of each the day of
//! its last use, and in a ConfigMap since when that is so.

use jiff::civil::Date;
use serde_json::{Value, json};
use skep_api::object::{text, uid};
use skep_api::registry::registry;
use skep_api::status::Status;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::pki::MASTERS;
use crate::storage::{Ownership, Part, Scope, Storage};
use crate::tokens::Use;
use crate::user::UserInfo;

const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const NAMESPACE: &str = "kube-system";
const SINCE: &str = "kube-apiserver-legacy-service-account-token-tracking";

/// Writes it all down until `stop`; since when, at once.
pub(crate) async fn track(storage: Storage, mut uses: mpsc::Receiver<Use>, stop: CancellationToken) {
    let one = Tracking { storage, user: UserInfo::new("system:apiserver", &[MASTERS]) };
    one.tell_since().await;
    tokio::spawn(async move {
        stop.run_until_cancelled(one.follow(&mut uses)).await;
    });
}

struct Tracking {
    storage: Storage,
    user: UserInfo,
}

impl Tracking {
    async fn follow(&self, uses: &mut mpsc::Receiver<Use>) {
        let maps = registry().find("", "v1", "configmaps");
        let Some(maps) = maps.and_then(|maps| self.storage.cache.collection(maps)) else { return };
        let mut changes = maps.signal();
        loop {
            changes.borrow_and_update();
            self.tell_since().await;
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                used = uses.recv() => match used {
                    None => return,
                    Some(used) => if let Err(status) = self.label(&used).await {
                        tracing::warn!(?used, error = %status, "cannot write when a long-lived token was used");
                    },
                },
            }
        }
    }

    async fn tell_since(&self) {
        if let Err(status) = self.since().await {
            tracing::warn!(error = %status, "cannot write since when uses of long-lived tokens are");
        }
    }

    /// Today, as dates are written here.
    fn today(&self) -> String {
        self.storage.ids.now_text().split('T').next().unwrap_or_default().to_owned()
    }

    /// Makes the ConfigMap, or puts it right.
    async fn since(&self) -> Result<(), Status> {
        let Some(scope) = self.scope("configmaps", NAMESPACE) else { return Ok(()) };
        let data = json!({ "since": self.today() });
        match self.storage.cached(&scope, SINCE) {
            Ok(there) if is_date(text(&there.value(), &["data", "since"])) => Ok(()),
            Ok(_) => {
                let propose = |current: &Value| {
                    let mut new = current.clone();
                    if !is_date(text(current, &["data", "since"])) {
                        new["data"] = data.clone();
                    }
                    Ok(new)
                };
                absent(self.storage.update(&scope, SINCE, Part::Whole, &propose).await)
            }
            Err(_) => {
                let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": data,
                                  "metadata": { "namespace": NAMESPACE, "name": SINCE } });
                match self.storage.create(&scope, map).await {
                    Err(status) if status.reason != "AlreadyExists" => Err(status),
                    _ => Ok(()),
                }
            }
        }
    }

    /// Writes on a Secret that its token was used today.
    async fn label(&self, used: &Use) -> Result<(), Status> {
        let Some(scope) = self.scope("secrets", &used.namespace) else { return Ok(()) };
        let today = self.today();
        let Ok(there) = self.storage.cached(&scope, &used.secret) else { return Ok(()) };
        if is_written(text(&there.value(), &["metadata", "labels", LAST_USED]), &today) {
            return Ok(());
        }
        let propose = |current: &Value| {
            let mut new = current.clone();
            if uid(current) == used.uid {
                new["metadata"]["labels"][LAST_USED] = json!(today);
            }
            Ok(new)
        };
        absent(self.storage.update(&scope, &used.secret, Part::Whole, &propose).await)
    }

    fn scope<'a>(&'a self, plural: &str, namespace: &'a str) -> Option<Scope<'a>> {
        Some(Scope {
            resource: registry().find("", "v1", plural)?,
            kinds: registry(),
            namespace,
            subresource: "",
            user: &self.user,
            dry_run: false,
            ownership: Ownership::Changed("kube-apiserver"),
            asked: None,
            admitted: true,
        })
    }
}

/// What went in the meantime needs nothing.
fn absent<T>(outcome: Result<T, Status>) -> Result<(), Status> {
    match outcome {
        Err(status) if status.code != 404 => Err(status),
        _ => Ok(()),
    }
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<Date>().is_ok()
}

/// Whether the last use that is written down is that of today. Another server's clock may be a little ahead.
fn is_written(last: &str, today: &str) -> bool {
    let tomorrow = today.parse::<Date>().and_then(Date::tomorrow).map(|date| date.to_string());
    last == today || tomorrow.is_ok_and(|tomorrow| last == tomorrow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_is_written_once_a_day() {
        for (last, written) in [
            ("2026-12-31", true),
            ("2027-01-01", true),
            ("2026-12-30", false),
            ("2027-01-02", false),
            ("", false),
            ("yesterday", false),
        ] {
            assert_eq!(is_written(last, "2026-12-31"), written, "{last}");
        }
        assert!(is_date("2026-12-31") && !is_date("2026-13-01") && !is_date("20261231") && !is_date(""));
    }
}
