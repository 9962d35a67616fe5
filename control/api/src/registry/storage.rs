//! Where objects lie in the store: the layout of upstream, so that a store can change hands.

/// The place of a resource's objects, and the version whose form they have there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoragePath {
    /// The start of every key, without a slash at the end.
    pub prefix: String,
    /// The group of the stored form.
    pub group: String,
    /// The version of the stored form.
    pub version: String,
}

/// The place of a built-in resource. Upstream leaves the group out of the path for all but the groups of its add-on
/// servers, and keeps a few names from its early days.
pub(super) fn of(group: &str, version: &str, plural: &str) -> StoragePath {
    let part = match (group, plural) {
        ("", "nodes") => "minions".to_owned(),
        ("", "services") => "services/specs".to_owned(),
        ("", "endpoints") => "services/endpoints".to_owned(),
        ("", "replicationcontrollers") => "controllers".to_owned(),
        ("networking.k8s.io", "ingresses") => "ingress".to_owned(),
        ("apiextensions.k8s.io" | "apiregistration.k8s.io", _) => format!("{group}/{plural}"),
        (_, plural) => plural.to_owned(),
    };
    let (group, version) = match (group, plural) {
        ("events.k8s.io", "events") => ("", "v1"),
        ("autoscaling", "horizontalpodautoscalers") => (group, "v2"),
        _ => (group, version),
    };
    StoragePath { prefix: format!("/registry/{part}"), group: group.to_owned(), version: version.to_owned() }
}
