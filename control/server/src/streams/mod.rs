//! Connections that the API server passes on: logs, exec, attach and port-forward to a pod's node, and the plain HTTP
//! proxy to nodes, pods and services.
//!
//! Owns finding the target, the connection to it and the tunnel after an upgrade; WebSocket and SPDY frames pass through
//! as bytes, their protocol is between the client and the node. Does not own whether the user may: the router asks the
//! authorizer before, except for the right to create that an upgrade by GET needs besides.

mod client;
mod forward;
mod links;
mod pods;
mod proxy;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use http::{Request, Response};
use serde_json::{Value, json};
use skep_api::status::Status;

pub use client::NodeClient;
pub(crate) use forward::{strip_connection_headers, strip_credentials, tunnel, wants_upgrade};

use crate::body::Body;
use crate::gate::{Authorizer, ObjectReader};
use crate::query::Query;
use crate::refusal;
use crate::request::RequestInfo;
use crate::user::UserInfo;

/// Connects clients with nodes, pods and services.
pub struct Streams {
    nodes: NodeClient,
    reader: Arc<dyn ObjectReader>,
    authorizer: Arc<dyn Authorizer>,
    /// Counts requests to services, to take their endpoints in turn.
    turn: AtomicUsize,
    /// Whether the proxy follows this address of a node.
    leads_out: fn(IpAddr) -> bool,
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}

impl Streams {
    /// Streams to the nodes that `nodes` can reach.
    pub fn new(nodes: NodeClient, reader: Arc<dyn ObjectReader>, authorizer: Arc<dyn Authorizer>) -> Self {
        Self { nodes, reader, authorizer, turn: AtomicUsize::new(0), leads_out: proxy::leads_out }
    }

    /// Handles a request for one of pods/{log, exec, attach, portforward, proxy}, nodes/proxy and services/proxy.
    ///
    /// # Errors
    ///
    /// 404 for missing objects and other subresources, 400 for what cannot be connected to, 500 when the node or pod
    /// cannot be reached.
    pub async fn handle(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        match (info.resource.as_str(), info.subresource.as_str()) {
            ("pods", "log") => self.log(info, request).await,
            ("pods", "exec" | "attach" | "portforward") => {
                self.may_create(user, info).await?;
                self.upgrade(info, request).await
            }
            ("pods" | "services" | "nodes", "proxy") => self.proxy(info, request).await,
            _ => Err(refusal::no_such_path()),
        }
    }

    /// A WebSocket starts with a GET, but what it does to a pod is as much as a POST.
    async fn may_create(&self, user: &UserInfo, info: &RequestInfo) -> Result<(), Status> {
        if info.verb == "create" {
            return Ok(());
        }
        let create = RequestInfo { verb: "create".into(), ..info.clone() };
        let decision = self.authorizer.authorize(user, &create).await;
        if decision.is_allowed() { Ok(()) } else { Err(decision.refusal(user, &create)) }
    }

    fn object(&self, resource: &str, namespace: &str, name: &str) -> Result<Arc<Value>, Status> {
        self.reader.get("", resource, namespace, name).ok_or_else(|| refusal::not_found(resource, name))
    }
}

/// The options of a connection as the object that admission sees (`PodExecOptions` and the like).
pub(crate) fn options_object(info: &RequestInfo, query: &Query) -> Value {
    let kind = match (info.resource.as_str(), info.subresource.as_str()) {
        (_, "exec") => "PodExecOptions",
        (_, "attach") => "PodAttachOptions",
        (_, "portforward") => "PodPortForwardOptions",
        ("services", _) => "ServiceProxyOptions",
        ("nodes", _) => "NodeProxyOptions",
        _ => "PodProxyOptions",
    };
    let mut options = json!({ "kind": kind, "apiVersion": "v1" });
    match info.subresource.as_str() {
        "exec" | "attach" => {
            for flag in ["stdin", "stdout", "stderr", "tty"] {
                if query.flag(flag) {
                    options[flag] = true.into();
                }
            }
            if let Some(container) = query.get("container") {
                options["container"] = container.into();
            }
            if info.subresource == "exec" {
                options["command"] = query.all("command").collect();
            }
        }
        "portforward" => {
            let ports = query.all("ports").flat_map(|ports| ports.split(','));
            options["ports"] = ports.filter_map(|port| port.parse::<u16>().ok()).collect();
        }
        _ if !info.rest.is_empty() => options["path"] = info.rest.clone().into(),
        _ => {}
    }
    options
}
