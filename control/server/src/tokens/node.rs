//! Which tokens a node gets: those of pods that it runs. For which audiences, NodeRestriction says.

use skep_api::status::Status;

use super::Tokens;
use super::claims::Bound;
use crate::authz::node_of;
use crate::refusal;
use crate::user::UserInfo;

impl Tokens {
    /// Checks a request of a node; those of others pass.
    pub(super) fn check_node(&self, user: &UserInfo, bound: &Bound) -> Result<(), Status> {
        let Some(node) = node_of(user) else { return Ok(()) };
        let refuse = |why: &str| {
            Err(refusal::forbidden_object("", "serviceaccounts", &bound.serviceaccount.name, why))
        };
        if bound.pod.is_none() {
            return refuse("node requested token not bound to a pod");
        }
        if bound.node.as_ref().is_none_or(|of_pod| of_pod.name != node) {
            return refuse("node requested token bound to a pod scheduled on a different node");
        }
        Ok(())
    }
}
