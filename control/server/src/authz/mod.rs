//! May they: the chain of authorizers, and the checks of roles and bindings that are written.
//!
//! Members of `system:masters` pass. Then the authorizers are asked in order; the first that allows or denies decides, and
//! what nobody allows is refused. Usually these are the Node authorizer ([`kubelet`]) and roles ([`rbac`]), which decide
//! from memory. Does not own who the user is (`authn`) or what an object may contain (`admission`).

mod abac;
pub mod bootstrap;
mod chain;
pub(crate) mod configuration;
mod cover;
#[cfg(test)]
mod escalation_tests;
mod graph;
mod kubelet;
mod node;
mod rbac;
pub(crate) mod reconcile;
mod references;
mod rules;
pub(crate) mod selectors;
#[cfg(test)]
mod tests;
mod webhook;
#[cfg(test)]
mod webhook_tests;

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::RwLock;
use prometheus::Registry;
use serde_json::Value;
use skep_api::status::Status;

pub use configuration::{AuthorizerChain, ModeWebhook, duration as parse_duration};
pub use node::node_of;
pub use rbac::Held;
pub use rules::Rule;
pub use selectors::{Operator, Requirement};

use self::chain::Kind;
use crate::gate::{Authorizer, Decision, ObjectReader, Verdict};
use crate::metrics::AuthorizationMetrics;
use crate::pki::MASTERS;
use crate::refusal;
use crate::request::RequestInfo;
use crate::user::UserInfo;

/// The authorizer of the API server.
pub struct Authz {
    reader: Arc<dyn ObjectReader>,
    graph: graph::Graph,
    rbac: rbac::Rbac,
    chain: RwLock<AuthorizerChain>,
    metrics: AuthorizationMetrics,
}

impl std::fmt::Debug for Authz {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authz").finish_non_exhaustive()
    }
}

#[async_trait]
impl Authorizer for Authz {
    async fn authorize(&self, user: &UserInfo, request: &RequestInfo) -> Decision {
        if is_master(user) {
            return Decision::allow("");
        }
        let layers = Arc::clone(&self.chain.read().layers);
        let (mut reasons, mut errors) = (Vec::new(), Vec::new());
        for layer in layers.iter() {
            let decision = match (&layer.kind, self.local(&layer.kind, user, request)) {
                (Kind::Webhook(webhook), _) => webhook.judge(user, request, &self.metrics).await,
                (_, local) => local.unwrap_or_else(|| Decision::none("")),
            };
            layer.decided(&decision, &self.metrics);
            if decision.verdict != Verdict::NoOpinion {
                return decision;
            }
            reasons.extend((!decision.reason.is_empty()).then_some(decision.reason));
            errors.extend((!decision.error.is_empty()).then_some(decision.error));
        }
        Decision::none(reasons.join("\n")).after(errors.join(", "))
    }
}

impl Authz {
    /// An authorizer over the objects that `reader` shows: nodes, then roles.
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        Self::counting(reader, AuthorizationMetrics::new(&Registry::new()))
    }

    /// The same, whose decisions are counted.
    pub(crate) fn counting(reader: Arc<dyn ObjectReader>, metrics: AuthorizationMetrics) -> Self {
        let chain = RwLock::new(AuthorizerChain::default());
        Self { reader, graph: graph::Graph::default(), rbac: rbac::Rbac::default(), chain, metrics }
    }

    /// Puts another chain of authorizers in place; requests that are being decided go by the one before.
    pub fn set_chain(&self, chain: AuthorizerChain) {
        *self.chain.write() = chain;
    }

    fn has(&self, wanted: fn(&Kind) -> bool) -> bool {
        self.chain.read().layers.iter().any(|layer| wanted(&layer.kind))
    }

    /// The decision without asking anybody else, for those who cannot wait; none where a webhook would have to be asked.
    pub fn from_memory(&self, user: &UserInfo, request: &RequestInfo) -> Option<Decision> {
        if is_master(user) {
            return Some(Decision::allow(""));
        }
        let layers = Arc::clone(&self.chain.read().layers);
        for layer in layers.iter() {
            let decision = self.local(&layer.kind, user, request)?;
            layer.decided(&decision, &self.metrics);
            if decision.verdict != Verdict::NoOpinion {
                return Some(decision);
            }
        }
        Some(Decision::none(""))
    }

    /// What an authorizer says that needs nobody else.
    fn local(&self, kind: &Kind, user: &UserInfo, request: &RequestInfo) -> Option<Decision> {
        match kind {
            Kind::Node => Some(self.by_node(user, request)),
            Kind::Rbac => Some(self.rbac.judge(self.reader.as_ref(), user, request)),
            Kind::Abac(policies) => Some(policies.judge(user, request)),
            Kind::AlwaysAllow => Some(Decision::allow("")),
            Kind::AlwaysDeny => Some(Decision::none("Everything is forbidden.")),
            Kind::Webhook(_) => None,
        }
    }

    fn by_node(&self, user: &UserInfo, request: &RequestInfo) -> Decision {
        let reader = self.reader.as_ref();
        match node_of(user) {
            Some(node) => kubelet::Ask { node, request, graph: &self.graph, reader }.judge(),
            None => Decision::none(""),
        }
    }

    /// All rules that apply to `user` in `namespace`, cluster-wide ones among them.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> Held {
        let mut held = match self.has(|layer| matches!(layer, Kind::Rbac)) {
            true => self.rbac.rules_for(self.reader.as_ref(), user, namespace),
            false => Held::default(),
        };
        if is_master(user) || self.has(|layer| matches!(layer, Kind::AlwaysAllow)) {
            for rule in [Rule::everything(), Rule::every_path()] {
                // The role of administrators says so as well.
                if !held.rules.iter().any(|known| **known == rule) {
                    held.rules.push(Arc::new(rule));
                }
            }
        }
        for layer in self.chain.read().layers.iter() {
            if let Kind::Abac(policies) = &layer.kind {
                held.rules.extend(policies.rules_for(user, namespace).into_iter().map(Arc::new));
            }
        }
        if self.has(|layer| matches!(layer, Kind::Webhook(_))) {
            held.errors.push("webhook authorizer does not support user rule resolution".into());
            held.incomplete = true;
        }
        if node_of(user).is_some() && self.has(|layer| matches!(layer, Kind::Node)) {
            held.errors.push("node authorizer does not support user rule resolution".into());
            held.incomplete = true;
        }
        held
    }

    /// Checks that nobody hands out more than they have: writes of roles need the rules written, writes of bindings the
    /// rules of the role bound (or the verbs `escalate` and `bind`). Objects of other kinds pass.
    ///
    /// `request` is the create or update; `object` is what would be stored.
    ///
    /// # Errors
    ///
    /// 403 with the rules that the user lacks; 404 for a binding to a role that is not there.
    pub async fn check_escalation(
        &self,
        user: &UserInfo,
        request: &RequestInfo,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let is_role = matches!(request.resource.as_str(), "roles" | "clusterroles");
        let is_binding = matches!(request.resource.as_str(), "rolebindings" | "clusterrolebindings");
        if request.group != rbac::GROUP || !(is_role || is_binding) || is_master(user) {
            return Ok(());
        }
        if old.is_some_and(|old| differs_for_the_collector_alone(object, old)) {
            return Ok(());
        }
        let verb = if is_binding { "bind" } else { "escalate" };
        if self.authorize(user, &special(request, object, verb)).await.is_allowed() {
            return Ok(());
        }
        let reader = self.reader.as_ref();
        let wanted = if is_role {
            rules::compile(&object["rules"])
        } else {
            self.rbac
                .rules_of_role(reader, &object["roleRef"], &request.namespace)
                .map_err(|(resource, name)| role_missing(resource, &name))?
        };
        // Roles alone count, whoever else would allow it: what others allow may end without anybody taking it back.
        let held = self.rbac.rules_for(reader, user, &request.namespace);
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let refuse = |why: &str| Err(refusal::forbidden_object(&request.group, &request.resource, name, why));
        let missing = cover::compact(cover::missing(&held.rules, &wanted));
        if !missing.is_empty() {
            return refuse(&format!(
                "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}{}",
                user.name,
                rules::quoted(&user.groups),
                missing.join("\n"),
                resolution(&held.errors),
            ));
        }
        // What a role gathers can be anything.
        if is_role && (gathers(object) || old.is_some_and(gathers)) {
            let everything = [Arc::new(Rule::everything()), Arc::new(Rule::every_path())];
            if !cover::missing(&held.rules, &everything).is_empty() {
                return refuse("must have cluster-admin privileges to use the aggregationRule");
            }
        }
        Ok(())
    }
}

fn resolution(errors: &[String]) -> String {
    if errors.is_empty() { String::new() } else { format!("; resolution errors: [{}]", errors.join(", ")) }
}

fn gathers(role: &Value) -> bool {
    role["aggregationRule"]["clusterRoleSelectors"].as_array().is_some_and(|list| !list.is_empty())
}

/// Whether an update changes only what the garbage collector needs to: owners and finalizers.
fn differs_for_the_collector_alone(new: &Value, old: &Value) -> bool {
    let stripped = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            for field in ["ownerReferences", "finalizers", "managedFields", "resourceVersion"] {
                metadata.remove(field);
            }
        }
        object
    };
    stripped(new) == stripped(old)
}

/// The request for the verb that stands above holding the rules oneself.
fn special(request: &RequestInfo, object: &Value, verb: &str) -> RequestInfo {
    let (resource, name) = if verb == "bind" {
        let kind = if object["roleRef"]["kind"] == "Role" { "roles" } else { "clusterroles" };
        (kind.to_owned(), object["roleRef"]["name"].as_str().unwrap_or_default().to_owned())
    } else {
        // A create has no name in its path: a rule for one name does not count then.
        let name = if request.verb == "create" { String::new() } else { request.name.clone() };
        (request.resource.clone(), name)
    };
    let version = "*".to_owned();
    RequestInfo {
        verb: verb.to_owned(),
        version,
        resource,
        subresource: String::new(),
        name,
        ..request.clone()
    }
}

fn is_master(user: &UserInfo) -> bool {
    user.groups.iter().any(|group| group == MASTERS)
}

/// 404: a role that a binding refers to.
fn role_missing(resource: &str, name: &str) -> Status {
    match skep_api::registry::registry().find(rbac::GROUP, "v1", resource) {
        Some(resource) => Status::not_found(resource, name),
        None => refusal::no_such_path(),
    }
}
