//! Who makes a request, once authenticated.

use std::collections::BTreeMap;

/// An authenticated identity (`user.Info` of Kubernetes' authentication API).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// The name, such as `system:node:n1`.
    pub name: String,
    /// A unique id, empty where the authenticator knows none.
    pub uid: String,
    /// The groups, `system:authenticated` among them for everybody but the anonymous user.
    pub groups: Vec<String>,
    /// Further attributes, such as the pod a token is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// An identity with the groups given, plus `system:authenticated`.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        let groups =
            groups.iter().map(|g| (*g).to_owned()).chain(["system:authenticated".to_owned()]).collect();
        Self { name: name.into(), groups, ..Self::default() }
    }

    /// The identity of a service account, with its two groups.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self::new(
            format!("system:serviceaccount:{namespace}:{name}"),
            &["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")],
        )
    }

    /// The identity of a request without credentials.
    pub fn anonymous() -> Self {
        Self {
            name: "system:anonymous".into(),
            groups: vec!["system:unauthenticated".into()],
            ..Self::default()
        }
    }
}
