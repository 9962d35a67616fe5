//! The HTTP proxy: `.../proxy/PATH` of a node, a pod or a service.
//!
//! A name may carry scheme and port: `NAME`, `NAME:PORT`, `SCHEME:NAME:PORT`.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use http::{Method, Request, Response, StatusCode, header};
use serde_json::Value;
use skep_api::status::Status;

use super::Streams;
use super::client::{Endpoint, Security};
use super::forward::{through, wants_upgrade};
use super::links::Origin;
use crate::body::{self, Body};
use crate::refusal;
use crate::request::RequestInfo;

impl Streams {
    pub(super) async fn proxy(
        &self,
        info: &RequestInfo,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let path = request.uri().path();
        let rest = rest(path, info);
        let mut onward = if rest.is_empty() { "/".to_owned() } else { rest.to_owned() };
        if let Some(query) = request.uri().query() {
            onward.push('?');
            onward.push_str(query);
        }
        let prefix = path[..path.len() - rest.len()].to_owned();
        let is_bare = rest.is_empty() && matches!(*request.method(), Method::GET | Method::HEAD);
        let target = Target::parse(&info.name).ok_or_else(|| {
            let what = info.resource.trim_end_matches('s');
            refusal::bad_request(&format!("invalid {what} request {:?}", info.name))
        })?;
        let endpoint = match info.resource.as_str() {
            "nodes" => self.node_target(&target).await?,
            "pods" => pod_target(&*self.object("pods", &info.namespace, target.name)?, &target)?,
            _ => self.service_target(&info.namespace, &target)?,
        };
        let upgrade = wants_upgrade(request.headers());
        if is_bare && !upgrade {
            return redirect(&request);
        }
        let origin = Origin { backend: endpoint.authority(), asked: asked_host(&request), prefix };
        let is_head = request.method() == Method::HEAD;
        match self.forward(request, &endpoint, &onward).await {
            Ok(answer) if upgrade || is_head => Ok(answer),
            Ok(answer) => Ok(through(answer, &origin).await),
            Err(failure) if upgrade => Err(failure.into()),
            Err(failure) => Err(failure.of_service()),
        }
    }

    async fn node_target(&self, target: &Target<'_>) -> Result<Endpoint, Status> {
        let endpoint = self.node_endpoint(target.name)?.resolved().await;
        let mut endpoint = endpoint.map_err(|why| refusal::bad_request(&why))?;
        if !endpoint.addresses.iter().all(|address| (self.leads_out)(*address)) {
            return Err(not_allowed());
        }
        if let Some(port) = target.port {
            let port = port_number(port)?;
            // Whatever else listens on a node is not behind the cluster's certificates.
            if port != endpoint.port {
                endpoint = Endpoint { port, security: target.security, ..endpoint };
            }
        }
        Ok(endpoint)
    }

    fn service_target(&self, namespace: &str, target: &Target<'_>) -> Result<Endpoint, Status> {
        let service = self.object("services", namespace, target.name)?;
        let unavailable = |why: &str| refusal::unavailable(&format!("{why} for service {:?}", target.name));
        let port_name = service_port(&service, target.port).ok_or_else(|| {
            unavailable(&format!("no service port {:?} found", target.port.unwrap_or_default()))
        })?;
        let endpoints: Vec<Endpoint> = self
            .reader
            .list("discovery.k8s.io", "endpointslices", namespace)
            .iter()
            .filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == target.name)
            .flat_map(|slice| ready_endpoints(slice, &port_name, target.security))
            .collect();
        if endpoints.is_empty() {
            return Err(unavailable("no endpoints available"));
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        Ok(endpoints[turn % endpoints.len()].clone())
    }
}

/// The host that the client asked: from the request's target with HTTP/2, from its header otherwise.
fn asked_host(request: &Request<Body>) -> String {
    let header = || request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    request
        .uri()
        .authority()
        .map(|authority| authority.as_str())
        .or_else(header)
        .unwrap_or_default()
        .to_owned()
}

struct Target<'a> {
    name: &'a str,
    port: Option<&'a str>,
    security: Security,
}

impl<'a> Target<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        let security = match scheme {
            "" | "http" => Security::Plain,
            "https" => Security::Unverified,
            _ => return None,
        };
        Some(Self { name, port: (!port.is_empty()).then_some(port), security })
    }
}

fn port_number(text: &str) -> Result<u16, Status> {
    text.parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| refusal::bad_request(&format!("invalid port {text:?}")))
}

/// What follows `proxy` in the path, as it was sent: empty or starting with a slash.
fn rest<'a>(path: &'a str, info: &RequestInfo) -> &'a str {
    // "/api/v1/namespaces/NS/pods/NAME/proxy" or "/api/v1/nodes/NAME/proxy"
    let segments = if info.namespace.is_empty() { 5 } else { 7 };
    let end = path.match_indices('/').nth(segments).map_or(path.len(), |(at, _)| at);
    &path[end..]
}

fn redirect(request: &Request<Body>) -> Result<Response<Body>, Status> {
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let location = format!("{}/{query}", request.uri().path());
    Response::builder()
        .status(StatusCode::MOVED_PERMANENTLY)
        .header(header::LOCATION, location)
        .body(body::empty())
        .map_err(|error| refusal::internal(&error.to_string()))
}

fn pod_target(pod: &Value, target: &Target<'_>) -> Result<Endpoint, Status> {
    let host = pod["status"]["podIP"].as_str().filter(|ip| is_proxyable(ip));
    let host = host.ok_or_else(not_allowed)?;
    let port = match target.port {
        Some(port) => port_number(port)?,
        None => pod["spec"]["containers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|container| container["ports"][0]["containerPort"].as_u64())
            .find_map(|port| u16::try_from(port).ok())
            .unwrap_or(80),
    };
    Ok(Endpoint { host: host.to_owned(), addresses: Vec::new(), port, security: target.security })
}

fn not_allowed() -> Status {
    refusal::bad_request("address not allowed")
}

fn is_proxyable(address: &str) -> bool {
    address.parse().is_ok_and(leads_out)
}

/// Addresses in a status are claims: those of the API server's own machine and link are never followed.
pub(super) fn leads_out(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            !(v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_unspecified()
                || v4.is_broadcast())
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback() || v6.is_unicast_link_local() || v6.is_multicast() || v6.is_unspecified())
        }
    }
}

/// The name of the service's port that is meant: by name, by number, or the only one.
fn service_port(service: &Value, asked: Option<&str>) -> Option<String> {
    let ports = service["spec"]["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let name = |port: &Value| port["name"].as_str().unwrap_or_default().to_owned();
    match asked {
        None => match ports {
            [only] => Some(name(only)),
            // Several ports: the one without a name, as upstream looks for.
            _ => ports.iter().find(|port| name(port).is_empty()).map(name),
        },
        Some(asked) => ports
            .iter()
            .find(|port| name(port) == asked || port["port"].as_u64().is_some_and(|n| n.to_string() == asked))
            .map(name),
    }
}

fn ready_endpoints(slice: &Value, port_name: &str, security: Security) -> Vec<Endpoint> {
    let port = slice["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|port| port["name"].as_str().unwrap_or_default() == port_name)
        .and_then(|port| port["port"].as_u64())
        .and_then(|port| u16::try_from(port).ok());
    let Some(port) = port else { return Vec::new() };
    slice["endpoints"]
        .as_array()
        .into_iter()
        .flatten()
        // An endpoint that does not say is ready (EndpointSlice API).
        .filter(|endpoint| endpoint["conditions"]["ready"] != false)
        .filter_map(|endpoint| endpoint["addresses"][0].as_str().filter(|ip| is_proxyable(ip)))
        .map(|host| Endpoint { host: host.to_owned(), addresses: Vec::new(), port, security })
        .collect()
}
