//! What a request asks for, read from its method, path and query (`RequestInfo` of Kubernetes' API server).

/// The attributes of a request that routing, authorization and audit look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether the path names a resource (`/api/...`, `/apis/...` with a resource part).
    pub is_resource: bool,
    /// The whole path, as sent.
    pub path: String,
    /// get, list, watch, create, update, patch, delete, deletecollection; for other paths the lower-case method.
    pub verb: String,
    /// API group, empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Namespace, empty for cluster scope or all namespaces.
    pub namespace: String,
    /// Plural resource name.
    pub resource: String,
    /// Subresource, or empty.
    pub subresource: String,
    /// Object name, or empty.
    pub name: String,
    /// What follows the subresource (`proxy/...`), without the leading slash.
    pub rest: String,
}
