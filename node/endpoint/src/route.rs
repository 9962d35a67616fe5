//! What a request asks for: path and query, read into [`Route`]. Pure.

use skep_runtime::Streams;

use crate::refusal::Refusal;

/// A decoded query, in its order.
pub(crate) type Query = Vec<(String, String)>;

/// A container of a pod, as a path names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    /// Given by callers that mean one particular pod of this name.
    pub(crate) uid: Option<String>,
    pub(crate) container: String,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Healthz,
    Metrics,
    Pods,
    Logs(Target),
    Exec(Target),
    Attach(Target),
    PortForward { namespace: String, pod: String, uid: Option<String> },
}

impl Route {
    /// The first part of the path, as a label of metrics.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Healthz => "healthz",
            Self::Metrics => "metrics",
            Self::Pods => "pods",
            Self::Logs(_) => "containerLogs",
            Self::Exec(_) => "exec",
            Self::Attach(_) => "attach",
            Self::PortForward { .. } => "portForward",
        }
    }
}

/// Reads a path. `None` if there is nothing at it.
pub(crate) fn parse(path: &str) -> Option<Route> {
    let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return None;
    }
    match *parts.as_slice() {
        ["healthz"] => Some(Route::Healthz),
        ["metrics"] => Some(Route::Metrics),
        ["pods"] => Some(Route::Pods),
        ["containerLogs", namespace, pod, container] => {
            Some(Route::Logs(target(namespace, pod, None, container)))
        }
        ["exec", namespace, pod, container] => Some(Route::Exec(target(namespace, pod, None, container))),
        ["exec", namespace, pod, uid, container] => {
            Some(Route::Exec(target(namespace, pod, Some(uid), container)))
        }
        ["attach", namespace, pod, container] => Some(Route::Attach(target(namespace, pod, None, container))),
        ["attach", namespace, pod, uid, container] => {
            Some(Route::Attach(target(namespace, pod, Some(uid), container)))
        }
        ["portForward", namespace, pod] => {
            Some(Route::PortForward { namespace: namespace.into(), pod: pod.into(), uid: None })
        }
        ["portForward", namespace, pod, uid] => {
            Some(Route::PortForward { namespace: namespace.into(), pod: pod.into(), uid: Some(uid.into()) })
        }
        _ => None,
    }
}

fn target(namespace: &str, pod: &str, uid: Option<&str>, container: &str) -> Target {
    Target {
        namespace: namespace.into(),
        pod: pod.into(),
        uid: uid.map(str::to_owned),
        container: container.into(),
    }
}

/// Decodes a query.
pub(crate) fn query(text: Option<&str>) -> Query {
    form_urlencoded::parse(text.unwrap_or_default().as_bytes()).into_owned().collect()
}

/// The first value of a key.
pub(crate) fn value<'a>(query: &'a Query, key: &str) -> Option<&'a str> {
    query.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

/// A switch: `1` and `true` are on, an absent one is off.
pub(crate) fn switch(query: &Query, key: &str) -> bool {
    matches!(value(query, key), Some("1" | "true" | "True" | "TRUE" | "t"))
}

/// The streams that exec and attach ask for, by the kubelet's names (`input`) or the API's (`stdin`).
pub(crate) fn streams(query: &Query) -> Result<Streams, Refusal> {
    let tty = switch(query, "tty");
    let streams = Streams {
        stdin: switch(query, "input") || switch(query, "stdin"),
        stdout: switch(query, "output") || switch(query, "stdout"),
        // A terminal has one output.
        stderr: (switch(query, "error") || switch(query, "stderr")) && !tty,
        tty,
    };
    if !(streams.stdin || streams.stdout || streams.stderr) {
        return Err(Refusal::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    Ok(streams)
}

/// The command of an exec request.
pub(crate) fn command(query: &Query) -> Result<Vec<String>, Refusal> {
    let words: Vec<String> =
        query.iter().filter(|(name, _)| name == "command").map(|(_, value)| value.clone()).collect();
    if words.is_empty() {
        return Err(Refusal::bad_request("you must specify a command"));
    }
    Ok(words)
}

/// The ports of a port-forward request, each key's value may list several.
pub(crate) fn ports(query: &Query) -> Result<Vec<u16>, Refusal> {
    let named = query.iter().filter(|(name, _)| name == "port" || name == "ports");
    let mut ports = Vec::new();
    for text in named.flat_map(|(_, value)| value.split(',')) {
        match text.parse::<u16>() {
            Ok(port) if port != 0 => ports.push(port),
            _ => return Err(Refusal::bad_request(format!("invalid port {text:?}"))),
        }
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_of_each_kind_is_routed() {
        let web = |uid: Option<&str>| target("shop", "web-0", uid, "app");
        let cases = [
            ("/healthz", Some(Route::Healthz)),
            ("/metrics", Some(Route::Metrics)),
            ("/pods", Some(Route::Pods)),
            ("/containerLogs/shop/web-0/app", Some(Route::Logs(web(None)))),
            ("/exec/shop/web-0/app", Some(Route::Exec(web(None)))),
            ("/exec/shop/web-0/1-2/app", Some(Route::Exec(web(Some("1-2"))))),
            ("/attach/shop/web-0/app", Some(Route::Attach(web(None)))),
            (
                "/portForward/shop/web-0",
                Some(Route::PortForward { namespace: "shop".into(), pod: "web-0".into(), uid: None }),
            ),
            ("/", None),
            ("", None),
            ("/exec/shop//app", None),
            ("/containerLogs/shop/web-0", None),
            ("/containerLogs/shop/web-0/app/more", None),
            ("/run/shop/web-0/app", None),
        ];
        for (path, expected) in cases {
            assert_eq!(parse(path), expected, "{path}");
        }
    }

    #[test]
    fn streams_by_either_name_are_read() {
        let read = |text| streams(&query(Some(text)));
        let all = Streams { stdin: true, stdout: true, stderr: true, tty: false };
        assert_eq!(read("input=1&output=1&error=1"), Ok(all));
        assert_eq!(read("stdin=true&stdout=true&stderr=true"), Ok(all));
        assert_eq!(
            read("input=1&output=1&error=1&tty=1"),
            Ok(Streams { stderr: false, tty: true, ..all }),
            "a terminal has no second output"
        );
        assert!(read("tty=1&stdout=0").is_err());
    }

    #[test]
    fn command_keeps_order_and_bytes() {
        let words = command(&query(Some("command=sh&command=-c&tty=1&command=echo+a%26b")));
        assert_eq!(words, Ok(vec!["sh".into(), "-c".into(), "echo a&b".into()]));
        assert!(command(&query(None)).is_err());
    }

    #[test]
    fn ports_out_of_range_are_refused() {
        assert_eq!(ports(&query(Some("port=80&port=81,82"))), Ok(vec![80, 81, 82]));
        assert_eq!(ports(&query(None)), Ok(vec![]));
        for bad in ["port=0", "port=65536", "port=http", "port="] {
            assert!(ports(&query(Some(bad))).is_err(), "{bad}");
        }
    }
}
