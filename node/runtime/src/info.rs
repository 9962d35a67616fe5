//! Reads what containerd adds to a verbose sandbox status: JSON that CRI does not specify.

use std::collections::HashMap;
use std::path::PathBuf;

use serde_json::Value;

/// Path of the sandbox's network namespace. A namespace that has no path is the one of the sandbox's process.
pub(crate) fn network_namespace(info: &HashMap<String, String>) -> Option<PathBuf> {
    let info: Value = serde_json::from_str(info.get("info")?).ok()?;
    let namespaces = info.pointer("/runtimeSpec/linux/namespaces")?.as_array()?;
    let network = namespaces.iter().find(|namespace| namespace["type"] == "network")?;
    if let Some(path) = network["path"].as_str().filter(|path| !path.is_empty()) {
        return Some(PathBuf::from(path));
    }
    let pid = info["pid"].as_u64().filter(|pid| *pid > 0)?;
    Some(PathBuf::from(format!("/proc/{pid}/ns/net")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(info: &str, expected: Option<&str>) {
        let map = HashMap::from([("info".to_owned(), info.to_owned())]);
        assert_eq!(network_namespace(&map), expected.map(PathBuf::from));
    }

    #[test]
    fn network_namespace_with_path_is_that_path() {
        let info = r#"{"pid":7,"runtimeSpec":{"linux":{"namespaces":[{"type":"pid"},
            {"type":"network","path":"/var/run/netns/cni-1"}]}}}"#;
        check(info, Some("/var/run/netns/cni-1"));
    }

    #[test]
    fn network_namespace_without_path_is_the_process_one() {
        check(
            r#"{"pid":7,"runtimeSpec":{"linux":{"namespaces":[{"type":"network"}]}}}"#,
            Some("/proc/7/ns/net"),
        );
    }

    #[test]
    fn network_namespace_of_host_network_is_none() {
        check(r#"{"pid":7,"runtimeSpec":{"linux":{"namespaces":[{"type":"pid"}]}}}"#, None);
        check("not json", None);
    }
}
