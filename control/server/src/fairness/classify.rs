//! Which flow schema a request belongs to, and to which flow of it. Pure.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::config::{CATCH_ALL, Distinguisher, PathRule, ResourceRule, Rule, Schema, Subject};
use crate::request::RequestInfo;
use crate::user::UserInfo;

/// The schema of a request: the first that matches; schemas are in order of precedence and end with `catch-all`.
pub(super) fn find<'a>(schemas: &'a [Arc<Schema>], user: &UserInfo, info: &RequestInfo) -> &'a Arc<Schema> {
    let found = schemas.iter().find(|schema| schema.rules.iter().any(|rule| rule.matches(user, info)));
    found
        .or_else(|| schemas.iter().find(|schema| &*schema.name == CATCH_ALL))
        .or(schemas.last())
        .expect("there is always the schema of what fits nowhere else")
}

/// Sorts schemas into the order in which they are tried.
pub(super) fn sort(schemas: &mut [Arc<Schema>]) {
    schemas.sort_by(|one, other| (one.precedence, &one.name).cmp(&(other.precedence, &other.name)));
}

/// A number that all requests of a flow have in common.
pub(super) fn flow(schema: &Schema, user: &UserInfo, info: &RequestInfo) -> u64 {
    let distinguisher = distinguisher(schema, &user.name, info);
    // Keys that are the same in every process: where a flow waits is no secret, and tests can say it.
    let mut hasher = ahash::AHasher::default();
    (&*schema.name, distinguisher).hash(&mut hasher);
    hasher.finish()
}

/// What tells the flows of a schema apart.
pub(super) fn distinguisher<'a>(schema: &Schema, user: &'a str, info: &'a RequestInfo) -> &'a str {
    match schema.distinguisher {
        Distinguisher::One => "",
        Distinguisher::ByUser => user,
        Distinguisher::ByNamespace => &info.namespace,
    }
}

fn holds(list: &[String], word: &str) -> bool {
    matches!(list, [one] if one == "*") || list.iter().any(|one| one == word)
}

impl Rule {
    fn matches(&self, user: &UserInfo, info: &RequestInfo) -> bool {
        self.subjects.iter().any(|subject| subject.matches(user))
            && match info.is_resource {
                true => self.resources.iter().any(|rule| rule.matches(info)),
                false => self.paths.iter().any(|rule| rule.matches(info)),
            }
    }
}

impl Subject {
    fn matches(&self, user: &UserInfo) -> bool {
        match self {
            Self::User(name) => name == "*" || *name == user.name,
            Self::Group(name) => name == "*" || user.groups.contains(name),
            Self::ServiceAccount { namespace, name } => {
                let account = user.name.strip_prefix("system:serviceaccount:");
                let account = account.and_then(|rest| rest.strip_prefix(namespace.as_str()));
                let account = account.and_then(|rest| rest.strip_prefix(':'));
                account.is_some_and(|account| name == "*" || account == name)
            }
        }
    }
}

impl ResourceRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        let resource = match info.subresource.as_str() {
            "" => info.resource.clone(),
            subresource => format!("{}/{subresource}", info.resource),
        };
        holds(&self.verbs, &info.verb)
            && holds(&self.resources, &resource)
            && holds(&self.groups, &info.group)
            && if info.namespace.is_empty() {
                self.cluster_scope
            } else {
                holds(&self.namespaces, &info.namespace)
            }
    }
}

impl PathRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        let url = |url: &String| {
            let start = url.strip_suffix('*').unwrap_or(url);
            let below = info.path.strip_prefix(start.strip_suffix('/').unwrap_or(start));
            url == "*" || *url == info.path || below.is_some_and(|rest| rest.starts_with('/'))
        };
        holds(&self.verbs, &info.verb) && self.urls.iter().any(url)
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::authz::bootstrap::bootstrap_objects;
    use crate::query::Query;

    fn schemas() -> Vec<Arc<Schema>> {
        let objects = bootstrap_objects().into_iter().filter(|one| one.resource == "flowschemas");
        let mut schemas: Vec<_> = objects.map(|one| Arc::new(Schema::read(&one.object))).collect();
        sort(&mut schemas);
        schemas
    }

    fn request(line: &str) -> RequestInfo {
        let (method, target) = line.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        RequestInfo::parse(&method.parse::<Method>().unwrap(), path, &Query::parse(query))
    }

    #[test]
    fn upstreams_schemas_classify_as_upstream_does() {
        let schemas = schemas();
        let account = UserInfo::service_account;
        let cases = [
            (UserInfo::new("admin", &["system:masters"]), "GET /api/v1/pods", "exempt"),
            (
                UserInfo::new("system:node:n1", &["system:nodes"]),
                "PUT /api/v1/nodes/n1/status",
                "system-node-high",
            ),
            (
                UserInfo::new("system:node:n1", &["system:nodes"]),
                "PUT /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1",
                "system-node-high",
            ),
            (UserInfo::new("system:node:n1", &["system:nodes"]), "GET /api/v1/pods", "system-nodes"),
            (
                UserInfo::new("system:kube-controller-manager", &[]),
                "PUT /apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager",
                "system-leader-election",
            ),
            (
                UserInfo::new("system:kube-controller-manager", &[]),
                "GET /api/v1/pods",
                "kube-controller-manager",
            ),
            (UserInfo::new("system:kube-scheduler", &[]), "GET /api/v1/pods", "kube-scheduler"),
            (account("kube-system", "job-controller"), "GET /api/v1/pods", "kube-system-service-accounts"),
            (account("default", "default"), "GET /api/v1/pods", "service-accounts"),
            (UserInfo::new("ann", &[]), "GET /api/v1/pods", "global-default"),
            (UserInfo::new("ann", &[]), "GET /healthz", "probes"),
            (UserInfo::new("ann", &[]), "GET /healthz/etcd", "probes"),
            (UserInfo::new("ann", &[]), "GET /healthzzz", "global-default"),
            (UserInfo::anonymous(), "GET /livez", "probes"),
            (UserInfo::anonymous(), "GET /version", "global-default"),
            (UserInfo { name: "nobody".into(), ..UserInfo::default() }, "GET /version", "catch-all"),
        ];
        for (user, line, expected) in cases {
            assert_eq!(&*find(&schemas, &user, &request(line)).name, expected, "{} {line}", user.name);
        }
    }

    #[test]
    fn flows_are_told_apart_as_the_schema_says() {
        let mut schema = Schema::mandatory(CATCH_ALL);
        let (ann, bob) = (UserInfo::new("ann", &[]), UserInfo::new("bob", &[]));
        let (a, b) = (request("GET /api/v1/namespaces/a/pods"), request("GET /api/v1/namespaces/b/pods"));
        let mut differ = |distinguisher, users, namespaces| {
            schema.distinguisher = distinguisher;
            assert_eq!(flow(&schema, &ann, &a) != flow(&schema, &bob, &a), users, "{distinguisher:?}");
            assert_eq!(flow(&schema, &ann, &a) != flow(&schema, &ann, &b), namespaces, "{distinguisher:?}");
        };
        differ(Distinguisher::One, false, false);
        differ(Distinguisher::ByUser, true, false);
        differ(Distinguisher::ByNamespace, false, true);
    }

    #[test]
    fn path_rules_match_below_their_stars() {
        let rule = |url: &str| PathRule { verbs: vec!["*".into()], urls: vec![url.into()] };
        for (url, path, matches) in [
            ("*", "/x", true),
            ("/healthz", "/healthz", true),
            ("/healthz", "/healthzzz", false),
            ("/healthz", "/healthz/etcd", true),
            ("/healthz/*", "/healthz/etcd", true),
            ("/healthz/*", "/healthz", false),
        ] {
            let info = RequestInfo { path: path.into(), verb: "get".into(), ..RequestInfo::default() };
            assert_eq!(rule(url).matches(&info), matches, "{url} {path}");
        }
    }
}
