//! What upstream serves and this server does not, yet. To serve more, take the line out.

/// Resources that have behaviour beyond create, read, update and delete which is not there.
const RESOURCES: [(&str, &str); 2] = [("", "bindings"), ("", "componentstatuses")];

/// Subresources that are not there.
const SUBRESOURCES: [(&str, &str, &str); 0] = [];

/// Whether the resource is served.
pub(super) fn resource(group: &str, plural: &str) -> bool {
    !RESOURCES.contains(&(group, plural))
}

/// Whether the subresource is served.
pub(super) fn subresource(group: &str, plural: &str, name: &str) -> bool {
    !SUBRESOURCES.contains(&(group, plural, name))
}
