//! Who may come without credentials, and to what.

use crate::request::RequestInfo;

/// The paths of a server that does not say otherwise, with everything below them: is it alive, and what is it.
const OPEN: [&str; 4] = ["/healthz", "/livez", "/readyz", "/version"];

/// What requests without credentials may ask for. Whether they get it, roles still decide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Anonymous {
    /// The paths of health and version.
    #[default]
    Health,
    /// Anything, as upstream's `--anonymous-auth=true`.
    Everything,
    /// Nothing.
    Nothing,
    /// These paths alone (`anonymous.conditions` of an authentication configuration).
    Paths(Vec<String>),
}

impl Anonymous {
    pub(crate) fn may_ask(&self, request: &RequestInfo) -> bool {
        match self {
            Self::Health => !request.is_resource && is_open(&request.path),
            Self::Everything => true,
            Self::Nothing => false,
            Self::Paths(paths) => paths.contains(&request.path),
        }
    }
}

/// `/livez` and its single checks `/livez/NAME`, and the like.
fn is_open(path: &str) -> bool {
    OPEN.iter()
        .any(|open| path.strip_prefix(open).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}
