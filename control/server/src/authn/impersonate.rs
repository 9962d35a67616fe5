//! Impersonation: acting as somebody else, for those who may (`Impersonate-*` headers).
//!
//! Each part of the assumed identity is a request of its own to the authorizer. There are several modes, tried in order:
//! the constrained ones (KEP-5284), which allow a certain request as a node, a service account or somebody else, and the
//! old one, verb `impersonate`, which allows every request. What fits no mode is refused with the first mode's reason.

use std::borrow::Cow;
use std::collections::BTreeMap;

use http::HeaderMap;
use skep_api::status::Status;
use skep_api::validation::names;
use tokio::time::Instant;

use crate::gate::{Assumed, Authorizer};
use crate::metrics::ImpersonationMetrics;
use crate::pki::{MASTERS, NODES};
use crate::refusal;
use crate::request::RequestInfo;
use crate::user::UserInfo;

const EXTRA: &str = "impersonate-extra-";
const ANONYMOUS: &str = "system:anonymous";
const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The key of a service account's token that names the node of its pod.
const NODE_OF_TOKEN: &str = "authentication.kubernetes.io/node-name";
/// The key of which attributes an account had that asks to be the node of its pod.
const KEYS_OF_ACCOUNT: &str = "authentication.kubernetes.io/associated-node-keys";
/// From so many groups or extras on, constrained modes first ask for all of them at once.
const MANY: usize = 4;

/// The identity that headers ask for, as they have it.
struct Wanted {
    name: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

/// A way of impersonating.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    UserInfo,
    Legacy,
}

impl Mode {
    const ALL: [Self; 5] =
        [Self::AssociatedNode, Self::ArbitraryNode, Self::ServiceAccount, Self::UserInfo, Self::Legacy];

    fn verb(self) -> &'static str {
        match self {
            Self::AssociatedNode => "impersonate:associated-node",
            Self::ArbitraryNode => "impersonate:arbitrary-node",
            Self::ServiceAccount => "impersonate:serviceaccount",
            Self::UserInfo => "impersonate:user-info",
            Self::Legacy => "impersonate",
        }
    }

    /// The name of the mode.
    fn name(self) -> &'static str {
        match self {
            Self::AssociatedNode => "associated-node",
            Self::ArbitraryNode => "arbitrary-node",
            Self::ServiceAccount => "serviceaccount",
            Self::UserInfo => "user-info",
            Self::Legacy => "legacy",
        }
    }

    /// What audit calls the constraint; none for the old mode.
    fn constraint(self) -> &'static str {
        if self == Self::Legacy { "" } else { self.verb() }
    }

    /// Whether the mode is about such an identity at all.
    fn suits(self, wanted: &Wanted, user: &UserInfo) -> bool {
        let node = node(&wanted.name);
        let account = service_account(&wanted.name);
        match self {
            Self::AssociatedNode => {
                wanted.has_only_a_name()
                    && service_account(&user.name).is_some()
                    && node
                        .is_some_and(|node| user.extra.get(NODE_OF_TOKEN).is_some_and(|own| own == &[node]))
            }
            Self::ArbitraryNode => wanted.has_only_a_name() && node.is_some(),
            Self::ServiceAccount => wanted.has_only_a_name() && account.is_some(),
            Self::UserInfo => node.is_none() && account.is_none(),
            Self::Legacy => true,
        }
    }
}

impl Wanted {
    fn read(headers: &HeaderMap) -> Result<Option<Self>, Status> {
        let one = |name: &str| {
            headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let groups = headers.get_all("impersonate-group").iter();
        let groups: Vec<String> = groups.filter_map(|value| value.to_str().ok().map(str::to_owned)).collect();
        let wanted = Self {
            name: one("impersonate-user"),
            uid: one("impersonate-uid"),
            groups,
            extra: extras(headers),
        };
        if !wanted.name.is_empty() {
            return Ok(Some(wanted));
        }
        if wanted.has_only_a_name() {
            return Ok(None);
        }
        Err(refusal::bad_request(&format!(
            "requested {} without impersonating a user name",
            wanted.as_upstream()
        )))
    }

    /// As upstream's messages show it, in Go's syntax.
    fn as_upstream(&self) -> String {
        let texts = |all: &[String]| match all {
            [] => "[]string(nil)".to_owned(),
            all => format!(
                "[]string{{{}}}",
                all.iter().map(|one| format!("{one:?}")).collect::<Vec<_>>().join(", ")
            ),
        };
        let extra: Vec<String> =
            self.extra.iter().map(|(key, values)| format!("{key:?}:{}", texts(values))).collect();
        let extra = match extra.as_slice() {
            [] => "map[string][]string(nil)".to_owned(),
            all => format!("map[string][]string{{{}}}", all.join(", ")),
        };
        let (name, uid, groups) = (&self.name, &self.uid, texts(&self.groups));
        format!("&user.DefaultInfo{{Name:{name:?}, UID:{uid:?}, Groups:{groups}, Extra:{extra}}}")
    }

    fn has_only_a_name(&self) -> bool {
        self.uid.is_empty() && self.groups.is_empty() && self.extra.is_empty()
    }
}

/// The identity that `headers` ask for, with the constraint under which it may be assumed; `None` where they ask for none.
///
/// # Errors
///
/// 400 for groups, uid or extras without a user; 403 where `user` may not assume a part of the identity.
pub(crate) async fn impersonated(
    user: &UserInfo,
    headers: &HeaderMap,
    request: &RequestInfo,
    authorizer: &dyn Authorizer,
    metrics: &ImpersonationMetrics,
) -> Result<Option<Assumed>, Status> {
    let Some(wanted) = Wanted::read(headers)? else { return Ok(None) };
    let (mut first, started) = (None, Instant::now());
    for mode in Mode::ALL.into_iter().filter(|mode| mode.suits(&wanted, user)) {
        let asker = asker(mode, user);
        let attempt = Attempt { mode, user: &asker, wanted: &wanted, authorizer, metrics };
        match attempt.run(request).await {
            Ok(user) => {
                metrics.attempted(Some(mode.name()), started.elapsed());
                return Ok(Some(Assumed { user, constraint: mode.constraint() }));
            }
            Err(refusal) => first = first.or(Some(refusal)),
        }
    }
    metrics.attempted(None, started.elapsed());
    Err(first.unwrap_or_else(|| refusal::bad_request("no way of impersonation is open to this identity")))
}

/// Whom authorizers are shown. Who may act as the node of its pod may do so on every node: of its further attributes they see
/// the keys only, so that they cannot tell one node from another.
fn asker(mode: Mode, user: &UserInfo) -> Cow<'_, UserInfo> {
    if mode != Mode::AssociatedNode {
        return Cow::Borrowed(user);
    }
    let keys = user.extra.keys().cloned().collect();
    Cow::Owned(UserInfo { extra: BTreeMap::from([(KEYS_OF_ACCOUNT.to_owned(), keys)]), ..user.clone() })
}

struct Attempt<'a> {
    mode: Mode,
    user: &'a UserInfo,
    wanted: &'a Wanted,
    authorizer: &'a dyn Authorizer,
    metrics: &'a ImpersonationMetrics,
}

impl Attempt<'_> {
    async fn run(&self, request: &RequestInfo) -> Result<UserInfo, Status> {
        if self.is_constrained() {
            let verb = format!("impersonate-on:{}:{}", self.mode.name(), request.verb);
            self.ask(&RequestInfo { verb, ..request.clone() }).await?;
        }
        let mut groups = self.wanted.groups.clone();
        let name = self.name(&mut groups);
        self.ask(&name).await?;
        if !self.wanted.uid.is_empty() {
            self.ask(&self.part("uids", &self.wanted.uid)).await?;
        }
        self.groups().await?;
        self.extra().await?;
        let general = match self.wanted.name.as_str() {
            ANONYMOUS => Some(UNAUTHENTICATED),
            _ if groups.iter().any(|group| group == UNAUTHENTICATED) => None,
            _ => Some(AUTHENTICATED),
        };
        if let Some(general) = general.filter(|general| groups.iter().all(|group| group != general)) {
            groups.push(general.to_owned());
        }
        let Wanted { name, uid, extra, .. } = self.wanted;
        Ok(UserInfo { name: name.clone(), uid: uid.clone(), groups, extra: extra.clone() })
    }

    fn is_constrained(&self) -> bool {
        self.mode != Mode::Legacy
    }

    /// The request for the name; nodes and service accounts get the groups that they always have.
    fn name(&self, groups: &mut Vec<String>) -> RequestInfo {
        let wanted = self.wanted;
        if let Some((namespace, account)) = service_account(&wanted.name) {
            if groups.is_empty() {
                *groups =
                    vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
            }
            let namespace = namespace.to_owned();
            return RequestInfo { namespace, ..self.part("serviceaccounts", account) };
        }
        match node(&wanted.name).filter(|_| self.is_constrained()) {
            Some(node) => {
                *groups = vec![NODES.to_owned()];
                // Whoever may act as the node of its pod may do so on every node.
                let name = if self.mode == Mode::AssociatedNode { "*" } else { node };
                self.part("nodes", name)
            }
            None => self.part("users", &wanted.name),
        }
    }

    async fn groups(&self) -> Result<(), Status> {
        let groups = &self.wanted.groups;
        if self.is_constrained() {
            if groups.iter().any(String::is_empty) {
                return Err(self.refuse("groups", "", "impersonating the empty string group is not allowed"));
            }
            if groups.iter().any(|group| group == MASTERS) {
                let why = "impersonating the system:masters group is not allowed";
                return Err(self.refuse("groups", MASTERS, why));
            }
            if groups.len() >= MANY && self.ask(&self.part("groups", "*")).await.is_ok() {
                return Ok(());
            }
        }
        for group in groups {
            self.ask(&self.part("groups", group)).await?;
        }
        Ok(())
    }

    async fn extra(&self) -> Result<(), Status> {
        let extra = &self.wanted.extra;
        let part = |key: &str, value: &str| RequestInfo {
            subresource: key.to_owned(),
            ..self.part("userextras", value)
        };
        if self.is_constrained() {
            if let Some(why) = extra.iter().find_map(|(key, values)| unacceptable(key, values)) {
                return Err(self.refuse("userextras", "", &why));
            }
            let many = extra.len() >= MANY || extra.values().map(Vec::len).sum::<usize>() >= MANY;
            if many && self.ask(&part("*", "*")).await.is_ok() {
                return Ok(());
            }
        }
        for (key, values) in extra {
            for value in values {
                self.ask(&part(key, value)).await?;
            }
        }
        Ok(())
    }

    /// The request to assume one part. Users, groups and accounts of the old mode are in the core group.
    fn part(&self, resource: &str, name: &str) -> RequestInfo {
        let core = !self.is_constrained() && matches!(resource, "users" | "groups" | "serviceaccounts");
        RequestInfo {
            is_resource: true,
            verb: self.mode.verb().to_owned(),
            group: if core { String::new() } else { "authentication.k8s.io".to_owned() },
            version: "v1".into(),
            resource: resource.to_owned(),
            name: name.to_owned(),
            ..RequestInfo::default()
        }
    }

    fn refuse(&self, resource: &str, name: &str, why: &str) -> Status {
        refusal::forbidden(self.user, &self.part(resource, name), why)
    }

    async fn ask(&self, request: &RequestInfo) -> Result<(), Status> {
        let started = Instant::now();
        let decision = self.authorizer.authorize(self.user, request).await;
        self.metrics.asked(self.mode.name(), decision.is_allowed(), started.elapsed());
        if decision.is_allowed() { Ok(()) } else { Err(decision.refusal(self.user, request)) }
    }
}

/// What a constrained mode has against an extra attribute.
fn unacceptable(key: &str, values: &[String]) -> Option<String> {
    if key.is_empty() {
        return Some("impersonating the empty string key in extra is not allowed".into());
    }
    let domain = key
        .split_once('/')
        .filter(|(domain, path)| !path.is_empty() && names::dns_subdomain(&domain.to_lowercase()).is_ok());
    if domain.is_none() {
        return Some(format!(
            "impersonating an invalid key in extra is not allowed: extra.key: Invalid value: {key:?}: must be a \
             domain-prefixed path (such as \"acme.io/foo\")"
        ));
    }
    if key.chars().any(char::is_uppercase) {
        return Some(format!("impersonating a non-lowercase key in extra is not allowed: {key:?}"));
    }
    if values.iter().any(String::is_empty) {
        return Some("impersonating the empty string value in extra is not allowed".into());
    }
    None
}

/// The node in `system:node:NAME`.
fn node(user: &str) -> Option<&str> {
    user.strip_prefix("system:node:").filter(|name| names::dns_subdomain(name).is_ok())
}

/// Namespace and name in `system:serviceaccount:NAMESPACE:NAME`.
fn service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (names::dns_label(namespace).is_ok() && names::dns_subdomain(name).is_ok()).then_some((namespace, name))
}

/// `Impersonate-Extra-KEY: VALUE`, the key percent-encoded and in lower case.
fn extras(headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let (Some(key), Ok(value)) = (name.as_str().strip_prefix(EXTRA), value.to_str()) else { continue };
        extra.entry(super::unescape_key(key)).or_default().push(value.to_owned());
    }
    extra
}
