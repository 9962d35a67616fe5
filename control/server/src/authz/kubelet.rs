//! The Node authorizer: what a node may ask for, by the request alone (upstream's `plugin/pkg/auth/authorizer/node`).
//!
//! Secrets, config maps, claims, volumes, attachments, resource claims and service accounts only where the [`Graph`] says
//! that its pods need them; its own Node, Lease and CSINode; its own pods, by name or by a field selector; everything else
//! as the role `system:node` says. It never refuses for good: roles may grant more. What a node writes is judged by
//! admission (NodeRestriction).

use std::sync::{Arc, LazyLock};

use super::graph::Graph;
use super::references::Kind;
use super::rules::{self, Rule};
use crate::gate::{Decision, ObjectReader};
use crate::request::RequestInfo;

const LEASES: &str = "kube-node-lease";

/// The rules of the role `system:node`, which is bound to nobody.
static RULES: LazyLock<Vec<Arc<Rule>>> = LazyLock::new(|| {
    let found = super::bootstrap::bootstrap_objects()
        .into_iter()
        .find(|entry| entry.resource == "clusterroles" && entry.name == "system:node");
    found.map(|entry| rules::compile(&entry.object["rules"])).unwrap_or_default()
});

/// A request of a node, and what is known of its pods.
pub(super) struct Ask<'a> {
    pub(super) node: &'a str,
    pub(super) request: &'a RequestInfo,
    pub(super) graph: &'a Graph,
    pub(super) reader: &'a dyn ObjectReader,
}

impl Ask<'_> {
    /// What the Node authorizer says.
    pub(super) fn judge(&self) -> Decision {
        let request = self.request;
        let of = (request.group.as_str(), request.resource.as_str());
        match of {
            _ if !request.is_resource => self.by_role(),
            ("", "secrets") => self.read_one(Kind::Secret),
            ("", "configmaps") => self.read_one(Kind::ConfigMap),
            ("", "persistentvolumeclaims") if request.subresource == "status" => self.claim_status(),
            ("", "persistentvolumeclaims") => self.get(|ask| ask.needs(Kind::Claim)),
            ("", "persistentvolumes") => {
                self.get(|ask| ask.graph.mounts(ask.reader, ask.node, &ask.request.name))
            }
            ("resource.k8s.io", "resourceclaims") => self.get(|ask| ask.needs(Kind::ResourceClaim)),
            ("storage.k8s.io", "volumeattachments") => {
                self.get(|ask| ask.graph.attaches(ask.reader, ask.node, &ask.request.name))
            }
            ("", "serviceaccounts") => self.service_account(),
            ("coordination.k8s.io", "leases") => self.lease(),
            ("storage.k8s.io", "csinodes") => self.csi_node(),
            ("resource.k8s.io", "resourceslices") => self.slice(),
            ("", "nodes") => self.own_node(),
            ("", "pods") => self.pod(),
            _ => self.by_role(),
        }
    }

    fn by_role(&self) -> Decision {
        match RULES.iter().any(|rule| rule.grants(self.request)) {
            true => allow(),
            false => none(""),
        }
    }

    fn is(&self, verbs: &[&str]) -> bool {
        verbs.contains(&self.request.verb.as_str())
    }

    fn needs(&self, kind: Kind) -> bool {
        self.graph.needs(self.reader, self.node, kind, &self.request.namespace, &self.request.name)
    }

    /// Whether there is a way from the node to the object.
    fn related(&self, how: impl Fn(&Self) -> bool) -> Decision {
        if self.request.name.is_empty() {
            return none("No Object name found");
        }
        if how(self) {
            return allow();
        }
        Decision::none(format!("no relationship found between node '{}' and this object", self.node))
    }

    fn get(&self, how: impl Fn(&Self) -> bool) -> Decision {
        if !self.is(&["get"]) {
            return none("can only get individual resources of this type");
        }
        if !self.request.subresource.is_empty() {
            return none("cannot get subresource");
        }
        self.related(how)
    }

    fn read_one(&self, kind: Kind) -> Decision {
        if !self.is(&["get", "list", "watch"]) {
            return none("can only read resources of this type");
        }
        if !self.request.subresource.is_empty() {
            return none("cannot read subresource");
        }
        if self.request.namespace.is_empty() {
            return none("can only read namespaced object of this type");
        }
        self.related(|ask| ask.needs(kind))
    }

    fn claim_status(&self) -> Decision {
        if !self.is(&["update", "patch"]) {
            return none("can only get/update/patch this type");
        }
        self.related(|ask| ask.needs(Kind::Claim))
    }

    fn service_account(&self) -> Decision {
        if self.is(&["get"]) && self.request.subresource.is_empty() {
            return self.read_one(Kind::ServiceAccount);
        }
        if !self.is(&["create"]) || self.request.name.is_empty() {
            return none("can only create tokens for individual service accounts");
        }
        if self.request.subresource != "token" {
            return none("can only create token subresource of serviceaccount");
        }
        self.related(|ask| ask.needs(Kind::ServiceAccount))
    }

    fn lease(&self) -> Decision {
        if !self.is(&["get", "create", "update", "patch", "delete"]) {
            return none("can only get, create, update, patch, or delete a node lease");
        }
        if self.request.namespace != LEASES {
            return Decision::none(format!("can only access leases in the {LEASES:?} system namespace"));
        }
        // A create has no name in its path; admission looks at the object.
        if !self.is(&["create"]) && self.request.name != self.node {
            return none("can only access node lease with the same name as the requesting node");
        }
        allow()
    }

    fn csi_node(&self) -> Decision {
        if !self.is(&["get", "create", "update", "patch", "delete"]) {
            return none("can only get, create, update, patch, or delete a CSINode");
        }
        if !self.request.subresource.is_empty() {
            return none("cannot authorize CSINode subresources");
        }
        if !self.is(&["create"]) && self.request.name != self.node {
            return none("can only access CSINode with the same name as the requesting node");
        }
        allow()
    }

    fn slice(&self) -> Decision {
        if !self.request.subresource.is_empty() {
            return none("cannot authorize ResourceSlice subresources");
        }
        match self.request.verb.as_str() {
            "create" => allow(),
            "get" | "update" | "patch" | "delete" => {
                self.related(|ask| ask.graph.slices(ask.reader, ask.node, &ask.request.name))
            }
            "list" | "watch" | "deletecollection" if self.selects_itself() => allow(),
            "list" | "watch" | "deletecollection" => {
                none("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            _ => none(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, \
                 delete, deletecollection",
            ),
        }
    }

    fn own_node(&self) -> Decision {
        let (node, name) = (self.node, self.request.name.as_str());
        match (self.request.subresource.as_str(), self.request.verb.as_str()) {
            // Whose Node it is, admission looks at.
            ("", "create" | "update" | "patch") | ("status", "update" | "patch") => allow(),
            ("", "get" | "list" | "watch") if name == node => allow(),
            ("", "get" | "list" | "watch") if name.is_empty() => {
                Decision::none(format!("node '{node}' cannot read all nodes, only its own Node object"))
            }
            ("", "get" | "list" | "watch") => {
                Decision::none(format!("node '{node}' cannot read '{name}', only its own Node object"))
            }
            _ => none(""),
        }
    }

    fn pod(&self) -> Decision {
        let runs =
            |ask: &Self| ask.graph.runs(ask.reader, ask.node, &ask.request.namespace, &ask.request.name);
        match (self.request.subresource.as_str(), self.request.verb.as_str()) {
            ("", "get") => self.get(runs),
            ("", "list" | "watch") if self.selects_itself() => allow(),
            ("", "list" | "watch") if !self.request.name.is_empty() => self.related(runs),
            ("", "list" | "watch") => none("can only list/watch pods with spec.nodeName field selector"),
            // Which pods, admission looks at.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => allow(),
            _ => none(""),
        }
    }

    /// Whether the request is for what has this node in `spec.nodeName`.
    fn selects_itself(&self) -> bool {
        self.request.field_selector.iter().any(|one| one.value("spec.nodeName") == Some(self.node))
    }
}

fn allow() -> Decision {
    Decision::allow(String::new())
}

fn none(why: &str) -> Decision {
    Decision::none(why.to_owned())
}
