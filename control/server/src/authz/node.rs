//! Who is a node: a member of the group of nodes whose name says which.

use crate::pki::NODES;
use crate::user::UserInfo;

/// The node that `user` is, if it is one.
pub fn node_of(user: &UserInfo) -> Option<&str> {
    let name = user.name.strip_prefix("system:node:").filter(|name| !name.is_empty())?;
    user.groups.iter().any(|group| group == NODES).then_some(name)
}
