//! Logs, exec, attach and port-forward: from the API's path and options to the node's (the kubelet's server paths).

use form_urlencoded::Serializer;
use http::{Method, Request, Response, StatusCode};
use serde_json::Value;
use skep_api::status::Status;
use skep_api::validation::FieldError;

use super::Streams;
use super::client::Endpoint;
use super::forward::wants_upgrade;
use crate::body::{self, Body};
use crate::refusal;
use crate::request::RequestInfo;

/// The options of a request, in order.
type Options = Vec<(String, String)>;

impl Streams {
    pub(super) async fn log(
        &self,
        info: &RequestInfo,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        if request.method() != Method::GET {
            return Err(refusal::method_not_allowed(info));
        }
        let options = options(&request);
        let query = log_query(&info.name, &options)?;
        let pod = self.object("pods", &info.namespace, &info.name)?;
        let container = container(&pod, value(&options, "container"))?;
        let Some(node) = node_name(&pod) else {
            // Nothing has run, so nothing was written.
            let mut nothing = Response::new(body::empty());
            *nothing.status_mut() = StatusCode::NO_CONTENT;
            return Ok(nothing);
        };
        let endpoint = self.node_endpoint(node)?;
        let path = path(&["containerLogs", &info.namespace, &info.name, &container], &query);
        self.forward_to_node(request, &endpoint, &path).await
    }

    pub(super) async fn upgrade(
        &self,
        info: &RequestInfo,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        if request.method() != Method::GET && request.method() != Method::POST {
            return Err(refusal::method_not_allowed(info));
        }
        let pod = self.object("pods", &info.namespace, &info.name)?;
        let options = options(&request);
        let (path, node) = if info.subresource == "portforward" {
            let mut query = Serializer::new(String::new());
            for port in
                options.iter().filter(|(key, _)| key == "ports").flat_map(|(_, ports)| ports.split(','))
            {
                query.append_pair("port", port);
            }
            (path(&["portForward", &info.namespace, &info.name], &query.finish()), node_name(&pod))
        } else {
            let container = container(&pod, value(&options, "container"))?;
            let query = terminal_query(&options, info.subresource == "exec");
            (path(&[&info.subresource, &info.namespace, &info.name, &container], &query), node_name(&pod))
        };
        let node = node.ok_or_else(|| {
            refusal::bad_request(&format!("pod {} does not have a host assigned", info.name))
        })?;
        let endpoint = self.node_endpoint(node)?;
        if !wants_upgrade(request.headers()) {
            return Err(refusal::bad_request("Upgrade request required"));
        }
        self.forward_to_node(request, &endpoint, &path).await
    }

    pub(super) fn node_endpoint(&self, name: &str) -> Result<Endpoint, Status> {
        let node = self.object("nodes", "", name)?;
        Endpoint::of_node(&node).map_err(|why| refusal::internal(&why))
    }
}

fn options(request: &Request<Body>) -> Options {
    form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect()
}

fn value<'a>(options: &'a Options, key: &str) -> Option<&'a str> {
    options
        .iter()
        .find(|(name, _)| name == key)
        .map(|(_, value)| value.as_str())
        .filter(|value| !value.is_empty())
}

/// A flag is set when it is there and neither `false` nor `0` (the conversion of query parameters upstream).
fn flag(options: &Options, key: &str) -> bool {
    let given = options.iter().find(|(name, _)| name == key);
    given.is_some_and(|(_, value)| !value.eq_ignore_ascii_case("false") && value != "0")
}

fn node_name(pod: &Value) -> Option<&str> {
    pod["spec"]["nodeName"].as_str().filter(|name| !name.is_empty())
}

/// The container asked for, or the only one.
pub(super) fn container(pod: &Value, asked: Option<&str>) -> Result<String, Status> {
    let names = |list: &str| -> Vec<String> {
        let containers = pod["spec"][list].as_array().into_iter().flatten();
        containers.filter_map(|container| container["name"].as_str().map(str::to_owned)).collect()
    };
    let (regular, init, ephemeral) =
        (names("containers"), names("initContainers"), names("ephemeralContainers"));
    let pod = pod["metadata"]["name"].as_str().unwrap_or_default();
    if let Some(asked) = asked {
        if regular.iter().chain(&init).chain(&ephemeral).any(|name| name == asked) {
            return Ok(asked.to_owned());
        }
        return Err(refusal::bad_request(&format!("container {asked} is not valid for pod {pod}")));
    }
    if let [only] = regular.as_slice() {
        return Ok(only.clone());
    }
    let mut message = format!("a container name must be specified for pod {pod}");
    if !regular.is_empty() {
        message += &format!(", choose one of: [{}]", regular.join(" "));
    }
    if !init.is_empty() {
        message += &format!(" or one of the init containers: [{}]", init.join(" "));
    }
    if !ephemeral.is_empty() {
        message += &format!(" or one of the ephemeral containers: [{}]", ephemeral.join(" "));
    }
    Err(refusal::bad_request(&message))
}

fn path(segments: &[&str], query: &str) -> String {
    let mut path = String::new();
    for segment in segments {
        path.push('/');
        // Names of objects hold nothing that a path must escape, but the request is not trusted to be valid.
        path.extend(form_urlencoded::byte_serialize(segment.as_bytes()));
    }
    if !query.is_empty() {
        path.push('?');
        path.push_str(query);
    }
    path
}

/// The options of exec and attach in the node's names.
pub(super) fn terminal_query(options: &Options, with_command: bool) -> String {
    let mut query = Serializer::new(String::new());
    let tty = flag(options, "tty");
    for (ours, theirs) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        // A terminal has one output: what a process writes to either comes out of stdout.
        if flag(options, ours) && !(tty && ours == "stderr") {
            query.append_pair(theirs, "1");
        }
    }
    if with_command {
        for (_, part) in options.iter().filter(|(key, _)| key == "command") {
            query.append_pair("command", part);
        }
    }
    query.finish()
}

/// The options of a log request, checked as upstream's validation of PodLogOptions does.
pub(super) fn log_query(pod: &str, options: &Options) -> Result<String, Status> {
    let mut query = Serializer::new(String::new());
    for key in ["follow", "previous", "timestamps"] {
        if flag(options, key) {
            query.append_pair(key, "true");
        }
    }
    let mut errors = Vec::new();
    let both = value(options, "sinceSeconds").and(value(options, "sinceTime")).is_some();
    for (key, least, why) in [
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
    ] {
        let Some(text) = value(options, key) else { continue };
        let number: i64 = text.parse().map_err(|_| {
            refusal::bad_request(&format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
        })?;
        if number < least && !(both && key == "sinceSeconds") {
            errors.push(FieldError::invalid(key, number, why));
        }
        query.append_pair(key, &number.to_string());
    }
    if let Some(since) = value(options, "sinceTime") {
        if since.parse::<jiff::Timestamp>().is_err() {
            return Err(refusal::bad_request(&format!("sinceTime: {since:?} is not an RFC 3339 time")));
        }
        query.append_pair("sinceTime", since);
    }
    if both {
        let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.push(FieldError::forbidden("[]", why));
    }
    // Upstream has this behind a feature that is off unless asked for.
    if let Some(stream) = value(options, "stream") {
        let streams = ["All", "Stderr", "Stdout"];
        if !streams.contains(&stream) {
            errors.push(FieldError::not_supported("stream", stream, &streams));
        }
        if stream != "All" && value(options, "tailLines").is_some() {
            let why = "`tailLines` and specific `stream` are mutually exclusive for now";
            errors.push(FieldError::forbidden("[]", why));
        }
        query.append_pair("stream", stream);
    }
    match errors.as_slice() {
        [] => Ok(query.finish()),
        errors => Err(refusal::invalid_options("PodLogOptions", pod, errors)),
    }
}
