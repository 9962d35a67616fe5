//! May they: role-based access control, the group that may do everything, and the limits of nodes.
//!
//! A decision is made from memory, without waiting for anything. Order: members of `system:masters` pass; nodes are
//! judged by [`node`] first, which can refuse what a role would grant; everything else is up to the roles bound to the
//! user and its groups. Does not own who the user is (`authn`) or what an object may contain (`admission`).

pub mod bootstrap;
pub mod node;
mod rbac;
mod rules;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::Value;
use skep_api::status::Status;

pub use node::node_of;
pub use rules::Rule;

use crate::gate::{Authorizer, Decision, ObjectReader};
use crate::pki::MASTERS;
use crate::refusal;
use crate::request::RequestInfo;
use crate::user::UserInfo;

/// The authorizer of the API server.
pub struct Authz {
    reader: Arc<dyn ObjectReader>,
    rbac: rbac::Rbac,
}

impl std::fmt::Debug for Authz {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authz").finish_non_exhaustive()
    }
}

impl Authorizer for Authz {
    fn authorize(&self, user: &UserInfo, request: &RequestInfo) -> Decision {
        if is_master(user) {
            return Decision::Allow;
        }
        if let Some(node) = node_of(user) {
            match node::judge(node, request, self.reader.as_ref()) {
                node::Verdict::Allow => return Decision::Allow,
                node::Verdict::Deny(reason) => return Decision::Deny(reason),
                node::Verdict::NoOpinion => {}
            }
        }
        if self.rbac.allows(self.reader.as_ref(), user, request) {
            Decision::Allow
        } else {
            Decision::Deny(String::new())
        }
    }
}

impl Authz {
    /// An authorizer over the objects that `reader` shows.
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        Self { reader, rbac: rbac::Rbac::default() }
    }

    /// All rules that apply to `user` in `namespace`, cluster-wide ones among them.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> Vec<Arc<Rule>> {
        if is_master(user) {
            return vec![Arc::new(Rule::everything()), Arc::new(Rule::every_path())];
        }
        self.rbac.rules_for(self.reader.as_ref(), user, namespace)
    }

    /// Checks that nobody hands out more than they have: writes of roles need the rules written, writes of bindings the
    /// rules of the role bound (or the verbs `escalate` and `bind`). Objects of other kinds pass.
    ///
    /// `request` is the create, update or patch; `object` is what would be stored.
    ///
    /// # Errors
    ///
    /// 403 with the first rule that the user lacks.
    pub fn check_escalation(
        &self,
        user: &UserInfo,
        request: &RequestInfo,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        if request.group != "rbac.authorization.k8s.io" || is_master(user) {
            return Ok(());
        }
        let (verb, rules) = match request.resource.as_str() {
            "roles" | "clusterroles" => {
                if old.is_some_and(|old| old["rules"] == object["rules"]) {
                    return Ok(());
                }
                ("escalate", rules::compile(&object["rules"]))
            }
            "rolebindings" | "clusterrolebindings" => {
                let same = |field: &str| old.is_some_and(|old| old[field] == object[field]);
                if same("roleRef") && same("subjects") {
                    return Ok(());
                }
                (
                    "bind",
                    self.rbac.rules_of_role(self.reader.as_ref(), &object["roleRef"], &request.namespace),
                )
            }
            _ => return Ok(()),
        };
        if self.authorize(user, &special(request, object, verb)) == Decision::Allow {
            return Ok(());
        }
        let held = self.rules_for(user, &request.namespace);
        match rules.iter().find(|rule| !rule.is_covered_by(&held)) {
            None => Ok(()),
            Some(rule) => {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                let message = format!(
                    "user {:?} (groups={:?}) is attempting to grant RBAC permissions not currently held: {rule}",
                    user.name, user.groups
                );
                Err(refusal::forbidden_object(&request.group, &request.resource, name, &message))
            }
        }
    }
}

/// The request for the verb that stands above holding the rules oneself.
fn special(request: &RequestInfo, object: &Value, verb: &str) -> RequestInfo {
    let (resource, name) = if verb == "bind" {
        let kind = if object["roleRef"]["kind"] == "Role" { "roles" } else { "clusterroles" };
        (kind.to_owned(), &object["roleRef"]["name"])
    } else {
        (request.resource.clone(), &object["metadata"]["name"])
    };
    let name = name.as_str().unwrap_or_default().to_owned();
    RequestInfo { verb: verb.to_owned(), resource, subresource: String::new(), name, ..request.clone() }
}

fn is_master(user: &UserInfo) -> bool {
    user.groups.iter().any(|group| group == MASTERS)
}
