//! `/healthz`, `/livez`, `/readyz`: is the process alive, can it serve, in upstream's words.

use std::borrow::Cow;
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

    /// Whether this kind takes it that something that belongs to the start is `good`, or not yet: while the server is
    /// young, `/livez` does.
    fn takes(self, good: bool, young: bool) -> bool {
        good || self == Self::Livez && young
    }
}

/// The kind and the single check that a path asks for.
pub(super) fn find(path: &str) -> Option<(Kind, &str)> {
    [Kind::Healthz, Kind::Livez, Kind::Readyz].into_iter().find_map(|kind| {
        let rest = path.strip_prefix('/')?.strip_prefix(kind.name())?;
        match rest.strip_prefix('/') {
            Some(check) => (!check.is_empty()).then_some((kind, check)),
            None => rest.is_empty().then_some((kind, "")),
        }
    })
}

/// What upstream's informers stand for is one cache here, which everybody reads.
const INFORMERS: [&str; 4] = [
    "poststarthook/generic-apiserver-start-informers",
    "poststarthook/start-apiextensions-informers",
    "poststarthook/start-kube-aggregator-informers",
    "poststarthook/storage-readiness",
];

/// What the store says, if it says so in time.
pub(super) async fn timely<T, E>(asked: impl Future<Output = Result<T, E>>) -> Option<T> {
    tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()
}

/// The checks of a kind, and whether each holds. Those of upstream that stand for nothing here are not among them.
async fn checks(server: &Inner, kind: Kind) -> Vec<(Cow<'static, str>, bool)> {
    let cached = server.storage().cache.is_followed();
    let stored = timely(server.storage().store.current_revision()).await.is_some();
    let mut checks = vec![("ping", true)];
    checks.extend(server.log_works().map(|works| ("log", works)));
    checks.push(("etcd", cached && stored));
    if kind == Kind::Readyz {
        checks.push(("informer-sync", cached));
    }
    let young = server.is_young();
    checks.extend(INFORMERS.map(|name| (name, kind.takes(cached, young))));
    checks.extend(server.hooks().all().into_iter().map(|(name, good)| (name, kind.takes(good, young))));
    let kms = server.encryption().map(|encryption| encryption.checks()).unwrap_or_default();
    let mut checks: Vec<(Cow<'static, str>, bool)> =
        checks.into_iter().map(|(name, fine)| (name.into(), fine)).collect();
    checks.extend(kms.into_iter().map(|(name, fine)| (name.into(), fine)));
    if kind == Kind::Readyz {
        checks.push(("shutdown".into(), !server.ending().is_leaving()));
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
    for (name, fine) in all.iter().filter(|(name, _)| !excluded.contains(&&**name)) {
        server.metrics().health().checked(name, kind.name(), *fine);
    }
    let failed: Vec<&str> = all
        .iter()
        .filter(|(name, fine)| !fine && !excluded.contains(&&**name))
        .map(|(name, _)| &**name)
        .collect();
    if failed.is_empty() && !query.has("verbose") {
        return text(StatusCode::OK, "ok");
    }
    let mut lines = String::new();
    for (name, fine) in &all {
        lines += &match (excluded.contains(&&**name), fine) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_that_is_young_lives_before_everything_has_begun_but_is_not_ready() {
        for (kind, young, taken) in [
            (Kind::Livez, true, true),
            (Kind::Livez, false, false),
            (Kind::Readyz, true, false),
            (Kind::Healthz, true, false),
        ] {
            assert_eq!(kind.takes(false, young), taken, "{kind:?}, young: {young}");
            assert!(kind.takes(true, young));
        }
    }
}
