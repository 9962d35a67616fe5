//! `/healthz`, `/livez`, `/readyz`: is the process alive, can it serve, in upstream's words.

use std::time::Duration;

use http::{Response, StatusCode};

use super::text;
use crate::body::Body;
use crate::query::Query;
use crate::server::Inner;

/// So long the store, whichever it is, has to answer: upstream's figure for etcd.
const PATIENCE: Duration = Duration::from_secs(2);

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Healthz,
    Livez,
    Readyz,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Healthz => "healthz",
            Self::Livez => "livez",
            Self::Readyz => "readyz",
        }
    }
}

/// The kind and the single check that a path asks for.
pub(super) fn find(path: &str) -> Option<(Kind, &str)> {
    [Kind::Healthz, Kind::Livez, Kind::Readyz].into_iter().find_map(|kind| {
        let rest = path.strip_prefix('/')?.strip_prefix(kind.name())?;
        match rest.strip_prefix('/') {
            Some(check) => Some((kind, check)),
            None => rest.is_empty().then_some((kind, "")),
        }
    })
}

/// The checks of a kind, and whether each holds.
async fn checks(server: &Inner, kind: Kind) -> Vec<(&'static str, bool)> {
    let filled = server.storage().cache.applied() > 0;
    let stored = tokio::time::timeout(PATIENCE, server.storage().store.current_revision()).await;
    let stored = filled && matches!(stored, Ok(Ok(_)));
    let mut checks = vec![("ping", true), ("etcd", stored), ("poststarthook/rbac/bootstrap-roles", filled)];
    if let Some(encryption) = server.encryption() {
        checks.push(("kms-providers", encryption.health().is_ok()));
    }
    if kind == Kind::Readyz {
        checks.push(("informer-sync", filled));
        checks.push(("shutdown", !server.is_leaving()));
    }
    checks
}

/// The answer of a health path.
pub(super) async fn answer(server: &Inner, kind: Kind, only: &str, query: &Query) -> Response<Body> {
    let excluded: Vec<&str> = query.all("exclude").collect();
    let mut all = checks(server, kind).await;
    if !only.is_empty() {
        all.retain(|(name, _)| *name == only);
        if all.is_empty() {
            return text(StatusCode::NOT_FOUND, "404 page not found\n");
        }
    }
    let failed: Vec<&str> =
        all.iter().filter(|(name, fine)| !fine && !excluded.contains(name)).map(|(name, _)| *name).collect();
    if failed.is_empty() && !query.has("verbose") {
        return text(StatusCode::OK, "ok");
    }
    let mut lines = String::new();
    for (name, fine) in &all {
        lines += &match (excluded.contains(name), fine) {
            (true, _) => format!("[+]{name} excluded: ok\n"),
            (_, true) => format!("[+]{name} ok\n"),
            (_, false) => format!("[-]{name} failed: reason withheld\n"),
        };
    }
    let (code, end) = match failed.is_empty() {
        true => (StatusCode::OK, "passed"),
        false => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
    };
    text(code, format!("{lines}{} check {end}\n", kind.name()))
}
