//! Which resource lies where: from a key in the store to group and plural name.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::LazyLock;

use skep_api::registry::registry;

/// Group and plural name of the resource whose objects lie under `key`.
pub(super) fn resource_of(key: &str) -> (&str, &str) {
    static BUILTIN: LazyLock<BTreeMap<String, (&str, &str)>> = LazyLock::new(|| {
        let stored = registry().stored();
        stored.map(|one| (one.store_prefix(None), (one.group.as_str(), one.plural.as_str()))).collect()
    });
    let before = BUILTIN.range::<str, _>((Bound::Unbounded, Bound::Included(key))).next_back();
    if let Some((_, names)) = before.filter(|(prefix, _)| key.starts_with(prefix.as_str())) {
        return *names;
    }
    // Custom resources lie where their names say.
    let mut parts = key.strip_prefix("/registry/").unwrap_or(key).split('/');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lead_to_their_resources() {
        for (key, names) in [
            ("/registry/secrets/default/a", ("", "secrets")),
            ("/registry/minions/n1", ("", "nodes")),
            ("/registry/services/specs/default/a", ("", "services")),
            ("/registry/services/endpoints/default/a", ("", "endpoints")),
            ("/registry/deployments/default/a", ("apps", "deployments")),
            ("/registry/events/default/a", ("", "events")),
            ("/registry/leases/kube-system/a", ("coordination.k8s.io", "leases")),
            (
                "/registry/apiextensions.k8s.io/customresourcedefinitions/a.b",
                ("apiextensions.k8s.io", "customresourcedefinitions"),
            ),
            ("/registry/bears.example/pandas/default/a", ("bears.example", "pandas")),
        ] {
            assert_eq!(resource_of(key), names, "{key}");
        }
    }
}
