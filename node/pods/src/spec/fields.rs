//! Values of a pod that it may read itself: `fieldRef` and `resourceFieldRef`, in variables and files.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ObjectFieldSelector, Pod, ResourceFieldSelector};

use super::resources::Needs;
use super::{Member, members, name, namespace, quantity, uid};

/// What is known of the pod and its node besides the spec.
#[derive(Clone, Debug, Default)]
pub struct PodFacts {
    /// The pod's addresses, the primary one first. Empty before it has any.
    pub pod_ips: Vec<String>,
    /// The node's addresses, the primary one first.
    pub host_ips: Vec<String>,
    /// The node's allocatable CPU in thousandths, which stands for a limit that is not set.
    pub node_cpu_milli: i64,
    /// The node's allocatable memory in bytes.
    pub node_memory: i64,
}

/// The value of a `fieldRef`, or why there is none.
///
/// # Errors
/// A text for the user that names the path.
pub fn field(pod: &Pod, facts: &PodFacts, selector: &ObjectFieldSelector) -> Result<String, String> {
    let path = selector.field_path.as_str();
    let spec = pod.spec.as_ref();
    let first = |list: &[String]| list.first().cloned().unwrap_or_default();
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => pod.metadata.labels.as_ref(),
            "metadata.annotations" => pod.metadata.annotations.as_ref(),
            _ => return Err(format!("unsupported fieldPath: {path}")),
        };
        return Ok(map.and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => name(pod).to_owned(),
        "metadata.namespace" => namespace(pod).to_owned(),
        "metadata.uid" => uid(pod).to_owned(),
        "metadata.labels" => lines(pod.metadata.labels.as_ref()),
        "metadata.annotations" => lines(pod.metadata.annotations.as_ref()),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => {
            spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default()
        }
        "status.hostIP" => first(&facts.host_ips),
        "status.hostIPs" => facts.host_ips.join(","),
        "status.podIP" => first(&facts.pod_ips),
        "status.podIPs" => facts.pod_ips.join(","),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

/// The value of a `resourceFieldRef` for the container named `default`, unless it names another.
///
/// # Errors
/// A text for the user.
pub fn resource(
    pod: &Pod,
    facts: &PodFacts,
    default: &str,
    selector: &ResourceFieldSelector,
) -> Result<String, String> {
    let wanted = selector.container_name.as_deref().filter(|name| !name.is_empty()).unwrap_or(default);
    let members = members(pod);
    let member: &Member<'_> = members
        .iter()
        .find(|member| member.name() == wanted)
        .ok_or_else(|| format!("container {wanted} not found"))?;
    let resources = member.container.resources.as_ref();
    let needs = Needs::of(resources);
    let other = |kind: &str, resource: &str| {
        let amounts = match kind {
            "limits" => resources.and_then(|r| r.limits.as_ref()),
            _ => resources.and_then(|r| r.requests.as_ref()),
        };
        amounts.and_then(|amounts| amounts.get(resource)).and_then(quantity::milli).unwrap_or(0)
    };
    let milli = match selector.resource.as_str() {
        "limits.cpu" => needs.cpu_limit.unwrap_or(facts.node_cpu_milli),
        "limits.memory" => needs.memory_limit.unwrap_or(facts.node_memory).saturating_mul(1000),
        "requests.cpu" => needs.cpu_request.unwrap_or(0),
        "requests.memory" => needs.memory_request.unwrap_or(0).saturating_mul(1000),
        text => match text.split_once('.') {
            Some((kind @ ("limits" | "requests"), resource))
                if resource == "ephemeral-storage" || resource.starts_with("hugepages-") =>
            {
                other(kind, resource)
            }
            _ => return Err(format!("unsupported container resource: {text}")),
        },
    };
    let divisor = selector.divisor.as_ref().and_then(quantity::milli).filter(|divisor| *divisor > 0);
    let divisor = divisor.unwrap_or(1000);
    Ok((milli / divisor + i64::from(milli % divisor != 0)).to_string())
}

/// Splits `metadata.labels['key']`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once('[')?;
    let key = rest.strip_suffix(']')?;
    let key = key
        .strip_prefix('\'')
        .and_then(|key| key.strip_suffix('\''))
        .or_else(|| key.strip_prefix('"').and_then(|key| key.strip_suffix('"')))?;
    Some((map, key))
}

/// A map as a file of `key="value"` lines, values escaped.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quoted(value)));
    lines.collect::<Vec<_>>().join("\n")
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "labels": {"app": "web", "t": "a\"b\n"}},
            "spec": {"nodeName": "n1", "containers": [
                {"name": "a", "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}}}, {"name": "b"}]}}))
        .expect("a pod")
    }

    fn facts() -> PodFacts {
        PodFacts {
            pod_ips: vec!["10.244.0.5".into(), "fd44::5".into()],
            host_ips: vec!["172.30.0.11".into()],
            node_cpu_milli: 2000,
            node_memory: 1 << 30,
        }
    }

    fn check(path: &str, expected: Result<&str, &str>) {
        let selector = ObjectFieldSelector { api_version: None, field_path: path.into() };
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(field(&pod(), &facts(), &selector), expected, "{path}");
    }

    #[test]
    fn field_of_every_path_is_found() {
        check("metadata.name", Ok("web"));
        check("metadata.labels['app']", Ok("web"));
        check("metadata.labels['none']", Ok(""));
        check("metadata.labels", Ok("app=\"web\"\nt=\"a\\\"b\\n\""));
        check("spec.nodeName", Ok("n1"));
        check("status.podIP", Ok("10.244.0.5"));
        check("status.podIPs", Ok("10.244.0.5,fd44::5"));
        check("status.hostIP", Ok("172.30.0.11"));
        check("status.phase", Err("unsupported fieldPath: status.phase"));
        check("spec.labels['x']", Err("unsupported fieldPath: spec.labels['x']"));
    }

    #[test]
    fn resource_is_divided_and_rounded_up() {
        let check = |container: &str, resource_name: &str, divisor: Option<&str>, expected: &str| {
            let selector = ResourceFieldSelector {
                container_name: Some(container.into()),
                divisor: divisor
                    .map(|text| k8s_openapi::apimachinery::pkg::api::resource::Quantity(text.into())),
                resource: resource_name.into(),
            };
            let value = resource(&pod(), &facts(), "a", &selector).expect("a value");
            assert_eq!(value, expected, "{container} {resource_name}");
        };
        check("a", "limits.cpu", None, "2");
        check("a", "limits.cpu", Some("1m"), "1500");
        check("a", "limits.memory", Some("1Mi"), "64");
        check("a", "requests.cpu", Some("1m"), "1500");
        check("b", "limits.cpu", None, "2");
        check("b", "limits.memory", None, "1073741824");
        check("b", "requests.memory", None, "0");
    }
}
