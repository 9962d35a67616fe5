//! FlowSchemas and PriorityLevelConfigurations (`flowcontrol.apiserver.k8s.io/v1`) as far as requests are concerned.
//!
//! Pure: from objects to what classification and queues work with. Objects that make no sense are left out.

use std::sync::Arc;

use serde_json::Value;

/// The level that is never limited, and the one for what fits nowhere else. Both always are.
pub(super) const EXEMPT: &str = "exempt";
pub(super) const CATCH_ALL: &str = "catch-all";

/// What a level does with requests that find no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Response {
    /// There is always a seat.
    Exempt,
    /// They are refused.
    Reject,
    /// They wait: in so many queues, of so many requests each, a flow in so many of them.
    Queue { queues: usize, hand: usize, length: usize },
}

/// A priority level.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Level {
    pub(super) name: Arc<str>,
    pub(super) uid: String,
    pub(super) response: Response,
    pub(super) shares: f64,
    /// Percent of its seats that others may use.
    pub(super) lendable: f64,
    /// Percent of its seats that it may take from others; no limit where there is none.
    pub(super) borrowing: Option<f64>,
}

/// How the flows of a schema are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Distinguisher {
    One,
    ByUser,
    ByNamespace,
}

/// Whom a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    User(String),
    Group(String),
    ServiceAccount { namespace: String, name: String },
}

/// Requests for resources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ResourceRule {
    pub(super) verbs: Vec<String>,
    pub(super) groups: Vec<String>,
    pub(super) resources: Vec<String>,
    pub(super) cluster_scope: bool,
    pub(super) namespaces: Vec<String>,
}

/// Requests for other paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PathRule {
    pub(super) verbs: Vec<String>,
    pub(super) urls: Vec<String>,
}

/// Whose requests, and which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) subjects: Vec<Subject>,
    pub(super) resources: Vec<ResourceRule>,
    pub(super) paths: Vec<PathRule>,
}

/// A flow schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Schema {
    pub(super) name: Arc<str>,
    pub(super) uid: String,
    pub(super) level: String,
    pub(super) precedence: i64,
    pub(super) distinguisher: Distinguisher,
    pub(super) rules: Vec<Rule>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

impl Level {
    /// Reads an object; nothing if it makes no sense.
    pub(super) fn read(object: &Value) -> Option<Self> {
        let (name, spec) = (text(&object["metadata"]["name"]), &object["spec"]);
        let (limited, exempt) = (&spec["limited"], &spec["exempt"]);
        let (response, common) = match spec["type"].as_str()? {
            "Exempt" if name == EXEMPT && limited.is_null() => (Response::Exempt, exempt),
            "Limited" if name != EXEMPT && exempt.is_null() => (limit(&limited["limitResponse"])?, limited),
            _ => return None,
        };
        let default_shares = if response == Response::Exempt { 0.0 } else { 30.0 };
        let number = |member: &str| common[member].as_f64();
        Some(Self {
            name: name.into(),
            uid: text(&object["metadata"]["uid"]),
            response,
            shares: number("nominalConcurrencyShares").unwrap_or(default_shares),
            lendable: number("lendablePercent").unwrap_or(0.0),
            // An exempt level takes what it needs.
            borrowing: if response == Response::Exempt { Some(0.0) } else { number("borrowingLimitPercent") },
        })
    }

    /// One of the two levels that are there even when their objects are not.
    pub(super) fn mandatory(name: &str) -> Self {
        let exempt = name == EXEMPT;
        Self {
            name: name.into(),
            uid: String::new(),
            response: if exempt { Response::Exempt } else { Response::Reject },
            shares: if exempt { 0.0 } else { 5.0 },
            lendable: 0.0,
            borrowing: exempt.then_some(0.0),
        }
    }
}

fn limit(response: &Value) -> Option<Response> {
    let queuing = &response["queuing"];
    match response["type"].as_str()? {
        "Reject" if queuing.is_null() => Some(Response::Reject),
        "Queue" if queuing.is_object() => {
            let number = |member: &str, default: u64| match &queuing[member] {
                Value::Null => default as usize,
                value => value.as_u64().unwrap_or(default) as usize,
            };
            let (queues, hand, length) =
                (number("queues", 64), number("handSize", 8), number("queueLengthLimit", 50));
            let fine = queues > 0 && hand > 0 && hand <= queues && hand <= super::shuffle::LARGEST_HAND;
            fine.then_some(Response::Queue { queues, hand, length })
        }
        _ => None,
    }
}

impl Schema {
    /// Reads an object.
    pub(super) fn read(object: &Value) -> Self {
        let spec = &object["spec"];
        Self {
            name: text(&object["metadata"]["name"]).into(),
            uid: text(&object["metadata"]["uid"]),
            level: text(&spec["priorityLevelConfiguration"]["name"]),
            precedence: spec["matchingPrecedence"].as_i64().unwrap_or(1000),
            distinguisher: match spec["distinguisherMethod"]["type"].as_str() {
                Some("ByUser") => Distinguisher::ByUser,
                Some("ByNamespace") => Distinguisher::ByNamespace,
                _ => Distinguisher::One,
            },
            rules: items(&spec["rules"]).map(rule).collect(),
        }
    }

    /// One of the two schemas that are there even when their objects are not.
    pub(super) fn mandatory(name: &str) -> Self {
        let groups: &[&str] = match name {
            EXEMPT => &["system:masters"],
            _ => &["system:unauthenticated", "system:authenticated"],
        };
        let all = || vec!["*".to_owned()];
        let resources = vec![ResourceRule {
            verbs: all(),
            groups: all(),
            resources: all(),
            cluster_scope: true,
            namespaces: all(),
        }];
        let paths = vec![PathRule { verbs: all(), urls: all() }];
        let subjects = groups.iter().map(|group| Subject::Group((*group).to_owned())).collect();
        Self {
            name: name.into(),
            uid: String::new(),
            level: name.to_owned(),
            precedence: if name == EXEMPT { 1 } else { 10_000 },
            distinguisher: if name == EXEMPT { Distinguisher::One } else { Distinguisher::ByUser },
            rules: vec![Rule { subjects, resources, paths }],
        }
    }
}

fn rule(rule: &Value) -> Rule {
    let resource = |one: &Value| ResourceRule {
        verbs: texts(&one["verbs"]),
        groups: texts(&one["apiGroups"]),
        resources: texts(&one["resources"]),
        cluster_scope: one["clusterScope"].as_bool().unwrap_or_default(),
        namespaces: texts(&one["namespaces"]),
    };
    let path = |one: &Value| PathRule { verbs: texts(&one["verbs"]), urls: texts(&one["nonResourceURLs"]) };
    Rule {
        subjects: items(&rule["subjects"]).filter_map(subject).collect(),
        resources: items(&rule["resourceRules"]).map(resource).collect(),
        paths: items(&rule["nonResourceRules"]).map(path).collect(),
    }
}

fn subject(subject: &Value) -> Option<Subject> {
    Some(match subject["kind"].as_str()? {
        "User" => Subject::User(subject["user"]["name"].as_str()?.to_owned()),
        "Group" => Subject::Group(subject["group"]["name"].as_str()?.to_owned()),
        "ServiceAccount" => Subject::ServiceAccount {
            namespace: subject["serviceAccount"]["namespace"].as_str()?.to_owned(),
            name: subject["serviceAccount"]["name"].as_str()?.to_owned(),
        },
        _ => return None,
    })
}
