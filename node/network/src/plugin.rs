//! The CNI plugin: reads a request of the container runtime, passes it to the agent, answers in CNI's JSON.
//!
//! Specification: CNI 1.0.0. It also stands in for the `loopback` plugin, which containerd wants beside every network.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};
use tonic::Code;

use crate::links;
use crate::namespace;
use crate::rpc::{self, proto};

/// Versions of the specification that are spoken.
const VERSIONS: [&str; 4] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0"];

/// What the runtime says through the environment and standard input.
#[derive(Clone, Debug, Default)]
pub struct Invocation {
    /// `CNI_COMMAND`.
    pub command: String,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_NETNS`.
    pub namespace: String,
    /// `CNI_IFNAME`.
    pub interface: String,
    /// Standard input.
    pub input: Vec<u8>,
    /// Whether it was called as `loopback`.
    pub loopback: bool,
}

/// The configuration of the network, as the agent wrote it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Configuration {
    #[serde(default)]
    cni_version: String,
    socket: Option<std::path::PathBuf>,
}

/// An error in the terms of CNI.
struct Failure {
    code: u32,
    message: String,
}

/// Runs one invocation. Returns what to print and whether it succeeded.
pub async fn run(invocation: &Invocation) -> (String, bool) {
    let configuration: Result<Configuration, _> = serde_json::from_slice(&invocation.input);
    let version = configuration.as_ref().map(|c| c.cni_version.clone()).unwrap_or_default();
    let version = if version.is_empty() { "1.0.0".to_owned() } else { version };
    let result = match configuration {
        _ if invocation.command == "VERSION" => Ok(json!({ "supportedVersions": VERSIONS })),
        Err(error) => {
            Err(Failure { code: 6, message: format!("the network configuration is not JSON: {error}") })
        }
        Ok(_) if !VERSIONS.contains(&version.as_str()) => {
            Err(Failure { code: 1, message: format!("version {version} of CNI is not spoken") })
        }
        Ok(_) if invocation.loopback => loopback(invocation).await,
        Ok(configuration) => attach(invocation, &configuration).await,
    };
    match result {
        Ok(Value::Null) => (String::new(), true),
        Ok(mut answer) => {
            answer["cniVersion"] = version.into();
            (answer.to_string(), true)
        }
        Err(failure) => {
            let answer = json!({ "cniVersion": version, "code": failure.code, "msg": failure.message });
            (answer.to_string(), false)
        }
    }
}

async fn attach(invocation: &Invocation, configuration: &Configuration) -> Result<Value, Failure> {
    let socket = configuration
        .socket
        .as_ref()
        .ok_or_else(|| Failure { code: 7, message: "the network configuration names no socket".into() })?;
    let mut agent = rpc::connect(socket).await.map_err(|error| Failure {
        code: 11,
        message: format!("the node agent does not answer at {}: {error}", socket.display()),
    })?;
    let request = proto::Attachment {
        container_id: invocation.container_id.clone(),
        namespace: invocation.namespace.clone(),
        interface: invocation.interface.clone(),
    };
    match invocation.command.as_str() {
        "ADD" => Ok(added(invocation, &agent.add(request).await?.into_inner())),
        "DEL" => agent.delete(request).await.map(|_| Value::Null).map_err(Failure::from),
        "CHECK" => agent.check(request).await.map(|_| Value::Null).map_err(Failure::from),
        other => Err(Failure { code: 4, message: format!("CNI_COMMAND `{other}` is unknown") }),
    }
}

/// The result of ADD: both ends of the link, the pod's addresses, its default routes.
fn added(invocation: &Invocation, attached: &proto::Attached) -> Value {
    let v4 = |address: &str| !address.contains(':');
    let gateway = |address: &str| {
        if v4(address) { links::GATEWAY_V4.to_string() } else { links::GATEWAY_V6.to_string() }
    };
    let addresses: Vec<Value> = attached
        .addresses
        .iter()
        .map(|address| {
            let prefix = if v4(address) { 32 } else { 128 };
            json!({
                "address": format!("{address}/{prefix}"),
                "gateway": gateway(address),
                "interface": 1,
                "version": if v4(address) { "4" } else { "6" },
            })
        })
        .collect();
    let routes: Vec<Value> = attached
        .addresses
        .iter()
        .map(|address| json!({ "dst": if v4(address) { "0.0.0.0/0" } else { "::/0" }, "gw": gateway(address) }))
        .collect();
    json!({
        "interfaces": [
            { "name": attached.host_interface, "mac": attached.host_mac },
            { "name": invocation.interface, "mac": attached.pod_mac, "sandbox": invocation.namespace },
        ],
        "ips": addresses,
        "routes": routes,
    })
}

/// Sets `lo` up in the namespace.
async fn loopback(invocation: &Invocation) -> Result<Value, Failure> {
    let failed = |error: crate::NetworkError| Failure { code: 5, message: error.to_string() };
    match invocation.command.as_str() {
        "ADD" => {
            let path = Path::new(&invocation.namespace);
            let namespace = namespace::open(path).map_err(failed)?;
            namespace::inside(&namespace, path, || async {
                let handle = links::connect()?;
                let link = links::find(&handle, "lo").await?;
                links::up(&handle, &link).await
            })
            .await
            .map_err(failed)?;
            Ok(json!({
                "interfaces": [{ "name": "lo", "mac": "00:00:00:00:00:00", "sandbox": invocation.namespace }],
                "ips": [{ "address": "127.0.0.1/8", "interface": 0, "version": "4" }],
            }))
        }
        "DEL" | "CHECK" => Ok(Value::Null),
        other => Err(Failure { code: 4, message: format!("CNI_COMMAND `{other}` is unknown") }),
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        // 11 is CNI's "try again later"; from 100 on codes are the plugin's own.
        let code = match status.code() {
            Code::Unavailable => 11,
            Code::InvalidArgument => 4,
            _ => 100,
        };
        Self { code, message: status.message().to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invocation(command: &str, input: &str) -> Invocation {
        Invocation {
            command: command.into(),
            container_id: "a1".into(),
            namespace: "/run/netns/a".into(),
            interface: "eth0".into(),
            input: input.into(),
            loopback: false,
        }
    }

    async fn check(command: &str, input: &str) -> (Value, bool) {
        let (text, success) = run(&invocation(command, input)).await;
        (serde_json::from_str(&text).unwrap(), success)
    }

    #[tokio::test]
    async fn run_version_lists_the_versions() {
        let (answer, success) = check("VERSION", "{\"cniVersion\":\"1.0.0\"}").await;
        assert!(success);
        assert_eq!(answer["supportedVersions"][3], "1.0.0");
    }

    #[tokio::test]
    async fn run_bad_input_answers_with_the_code_of_the_specification() {
        for (input, code) in [
            ("{", 6),
            ("{\"cniVersion\":\"9.0.0\"}", 1),
            ("{\"cniVersion\":\"1.0.0\"}", 7),
            ("{\"cniVersion\":\"1.0.0\",\"socket\":\"/nonexistent/socket\"}", 11),
        ] {
            let (answer, success) = check("ADD", input).await;
            assert!(!success);
            assert_eq!(answer["code"], code, "{answer}");
        }
    }

    #[test]
    fn added_names_both_ends_and_the_default_route() {
        let attached = proto::Attached {
            addresses: vec!["10.244.1.5".into(), "fd44::5".into()],
            host_interface: "skpa1".into(),
            host_mac: "02:00:00:00:00:01".into(),
            pod_mac: "02:00:00:00:00:02".into(),
        };
        let answer = added(&invocation("ADD", "{}"), &attached);
        assert_eq!(answer["ips"][0]["address"], "10.244.1.5/32");
        assert_eq!(answer["ips"][1]["address"], "fd44::5/128");
        assert_eq!(answer["interfaces"][1]["sandbox"], "/run/netns/a");
        assert_eq!(answer["routes"][0]["dst"], "0.0.0.0/0");
    }
}
