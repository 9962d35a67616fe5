//! Who is there: this server itself, and those that answer when asked.
//!
//! A pass makes and removes the objects that stand for what this server serves, asks every other server for the resources
//! of its group version, and writes what it found to the condition `Available`. Passes follow changes of the objects, of
//! kinds, and, while there are other servers, of services and endpoints; those are asked again after a while, too, since
//! nothing tells when one of them stops to answer.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use http::HeaderMap;
use http::header::{ACCEPT, HeaderValue};
use serde_json::Value;
use skep_api::aggregation::{self, Condition};
use skep_api::object::{name, text};
use skep_api::registry::registry;
use skep_api::status::Status;
use tokio::sync::watch;

use super::proxy;
use super::remotes::{Aggregation, Answers, Known, known_of};
use crate::gate::ObjectReader;
use crate::hooks::Hook;
use crate::pki::MASTERS;
use crate::storage::{DeleteOptions, Ownership, Part, Scope};
use crate::user::UserInfo;

/// Other servers are asked about so often.
const AGAIN: Duration = Duration::from_secs(30);
/// So long after a pass at least, the next one begins: endpoints change in bursts.
const PAUSE: Duration = Duration::from_millis(200);
/// So long a server may take to say what it serves, as upstream has it.
const PATIENCE: Duration = Duration::from_secs(5);
/// So often it is asked before it counts as gone.
const ATTEMPTS: usize = 2;
/// The largest list of resources, and the largest OpenAPI document (bytes).
const LIST: usize = 4 << 20;
const DOCUMENT: usize = 32 << 20;

impl Aggregation {
    pub(super) async fn follow(self: Arc<Self>, registered: &Hook) {
        let cache = &self.storage.cache;
        let signal = |group: &str, plural: &str| {
            let collection = cache.collection(registry().find(group, "v1", plural)?)?;
            Some(collection.signal())
        };
        let own = signal(aggregation::GROUP, aggregation::PLURAL);
        let (services, slices) = (signal("", "services"), signal("discovery.k8s.io", "endpointslices"));
        let (Some(mut own), Some(mut services), Some(mut slices)) = (own, services, slices) else { return };
        let mut kinds = self.kinds.changes();
        loop {
            kinds.borrow_and_update();
            for signal in [&mut own, &mut services, &mut slices] {
                signal.borrow_and_update();
            }
            let failed = self.keep_local().await.inspect_err(|error| {
                tracing::warn!(%error, "cannot keep the objects of what is served here");
            });
            if failed.is_ok() {
                registered.is_good();
            }
            let remote: Vec<Arc<Value>> =
                self.objects().into_iter().filter(|object| aggregation::is_remote(object)).collect();
            join_all(remote.iter().map(|object| self.check(object))).await;
            self.metrics.keep(remote.iter().map(|object| name(object)));
            let (some, failed) = (!remote.is_empty(), failed.is_err());
            if some || failed {
                tokio::time::sleep(PAUSE).await;
            }
            tokio::select! {
                changed = own.changed() => if changed.is_err() { return },
                changed = kinds.changed() => if changed.is_err() { return },
                () = changed(&mut services), if some => {}
                () = changed(&mut slices), if some => {}
                () = tokio::time::sleep(AGAIN), if some || failed => {}
            }
        }
    }

    fn scope<'a>(&'a self, kinds: &'a skep_api::registry::Registry, subresource: &'a str) -> Scope<'a> {
        Scope {
            resource: &self.resource,
            kinds,
            namespace: "",
            subresource,
            user: &self.user,
            dry_run: false,
            ownership: Ownership::Changed("kube-apiserver"),
            asked: None,
            admitted: true,
        }
    }

    /// Makes the objects of what this server serves, removes those of what it does not serve any more.
    async fn keep_local(&self) -> Result<(), Status> {
        let kinds = self.kinds.current();
        let there = self.objects();
        let scope = self.scope(&kinds, "");
        for object in aggregation::local(&kinds) {
            if there.iter().any(|one| name(one) == name(&object)) {
                continue;
            }
            let mut object = object;
            object["apiVersion"] = self.resource.group_version().into();
            object["kind"] = self.resource.kind.as_str().into();
            match self.storage.create(&scope, object).await {
                Err(status) if status.reason != "AlreadyExists" => return Err(status),
                _ => {}
            }
        }
        for object in there.iter().filter(|object| aggregation::is_obsolete(object, &kinds)) {
            match self.storage.delete(&scope, name(object), &DeleteOptions::default()).await {
                Err(status) if status.code != 404 => return Err(status),
                _ => {}
            }
        }
        for object in self.objects().iter().filter(|object| !aggregation::is_remote(object)) {
            self.write(object, &Condition::local()).await?;
        }
        Ok(())
    }

    /// Finds out whether a server is there, and writes it down.
    async fn check(&self, object: &Value) {
        let condition = self.condition(object).await;
        self.metrics.found(name(object), &condition);
        if let Err(error) = self.write(object, &condition).await {
            tracing::warn!(server = name(object), %error, "cannot write whether a server is available");
        }
    }

    async fn condition(&self, object: &Value) -> Condition {
        let cache = &self.storage.cache;
        let reference = &object["spec"]["service"];
        let (namespace, service) = (text(reference, &["namespace"]), text(reference, &["name"]));
        let found = cache.get("", "services", namespace, service);
        let slices = cache.list("discovery.k8s.io", "endpointslices", namespace);
        let way = aggregation::judge(object, found.as_deref(), slices.iter().map(|slice| &**slice));
        if let Err(condition) = way {
            return condition;
        }
        let known = known_of(object);
        let mut failed = String::new();
        for _ in 0..ATTEMPTS {
            match self.ask(&known).await {
                Ok(()) => return Condition::passed(),
                Err(why) => failed = why,
            }
        }
        Condition::failed(failed)
    }

    /// Asks a server what it serves, and keeps the answer.
    async fn ask(&self, known: &Known) -> Result<(), String> {
        let path = format!("/apis/{}/{}", known.group, known.version);
        let (code, body) = self.get(known, &path, LIST).await?;
        let url = format!(
            "https://{}{path}",
            known.target.as_ref().map_or_else(Clone::clone, |one| one.authority())
        );
        if !(200..300).contains(&code) {
            return Err(format!("failing or missing response from {url}: bad status from {url}: {code}"));
        }
        let resources: Value = serde_json::from_slice(&body).unwrap_or_default();
        let before = self.answers(&known.name);
        let hash = self.hash(known).await.unwrap_or_default();
        let openapi = match hash == before.hash && !before.openapi.is_null() {
            true => before.openapi,
            false => match self.get(known, "/openapi/v2", DOCUMENT).await {
                Ok((200, body)) => serde_json::from_slice(&body).unwrap_or_default(),
                _ => Value::Null,
            },
        };
        self.keep(&known.name, Answers { resources, openapi, hash });
        Ok(())
    }

    /// What a server calls the present content of its OpenAPI document.
    async fn hash(&self, known: &Known) -> Option<String> {
        let (_, body) = self.get(known, "/openapi/v3", LIST).await.ok().filter(|(code, _)| *code == 200)?;
        let index: Value = serde_json::from_slice(&body).ok()?;
        let path = format!("apis/{}/{}", known.group, known.version);
        let url = index["paths"][path.as_str()]["serverRelativeURL"].as_str()?.to_owned();
        Some(url.split_once("hash=")?.1.to_owned())
    }

    async fn get(&self, known: &Known, path: &str, limit: usize) -> Result<(u16, bytes::Bytes), String> {
        let target = known.target.as_ref().map_err(Clone::clone)?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let user = UserInfo { groups: vec![MASTERS.into()], ..UserInfo::new("system:kube-aggregator", &[]) };
        proxy::speak_for(&user, &mut headers);
        let shown = self.front_proxy.as_ref().map(super::FrontProxy::shown);
        let answer = self.caller.get(target, shown, path, headers, PATIENCE, limit).await;
        answer.map_err(|error| {
            format!("failing or missing response from https://{}{path}: {error}", target.authority())
        })
    }

    async fn write(&self, object: &Value, condition: &Condition) -> Result<(), Status> {
        let now = self.storage.ids.now_text();
        if aggregation::with_condition(object, condition, &now) == *object {
            return Ok(());
        }
        let propose = |current: &Value| {
            // Another one by now: its turn comes.
            let same = current["spec"] == object["spec"];
            Ok(if same { aggregation::with_condition(current, condition, &now) } else { current.clone() })
        };
        let kinds = self.kinds.current();
        let scope = self.scope(&kinds, "status");
        match self.storage.update(&scope, name(object), Part::Status, &propose).await {
            Err(status) if status.code != 404 => Err(status),
            _ => Ok(()),
        }
    }
}

async fn changed(signal: &mut watch::Receiver<u64>) {
    if signal.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
