//! Rights by a file of policies (mode ABAC): one JSON object a line, of `abac.authorization.kubernetes.io/v1beta1`, or of
//! the form before, which had no version.
//!
//! Policies only ever allow. The file is read at start.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::Rule;
use crate::error::Error;
use crate::gate::Decision;
use crate::pki::read_text;
use crate::request::RequestInfo;
use crate::user::UserInfo;

const VERSION: &str = "abac.authorization.kubernetes.io/v1beta1";
const EVERYBODY_KNOWN: &str = "system:authenticated";
const READS: [&str; 3] = ["get", "list", "watch"];

/// What a line allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Policy {
    user: String,
    group: String,
    readonly: bool,
    api_group: String,
    resource: String,
    namespace: String,
    non_resource_path: String,
}

/// The policies of a file.
#[derive(Clone, Debug)]
pub(super) struct Policies(Vec<Policy>);

impl Policies {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or with the first line that is no policy.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        Self::parse(&read_text(path)?).map_err(|reason| Error::Configuration {
            what: "authorization policy file",
            path: path.to_owned(),
            reason,
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().enumerate();
        let lines = lines.filter(|(_, line)| !line.trim().is_empty() && !line.trim().starts_with('#'));
        let policies = lines.map(|(at, line)| {
            Policy::parse(line).map_err(|why| format!("error reading policy, line {}: {line}: {why}", at + 1))
        });
        policies.collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn judge(&self, user: &UserInfo, request: &RequestInfo) -> Decision {
        match self.0.iter().any(|policy| policy.concerns(user) && policy.allows(request)) {
            true => Decision::allow(""),
            false => Decision::none("No policy matched."),
        }
    }

    /// What a user may do in a namespace.
    pub(super) fn rules_for(&self, user: &UserInfo, namespace: &str) -> Vec<Rule> {
        let in_namespace = |policy: &&Policy| is(&policy.namespace, namespace);
        let own = self.0.iter().filter(|policy| policy.concerns(user)).filter(in_namespace);
        own.flat_map(Policy::rules).collect()
    }
}

impl Policy {
    fn parse(line: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let text = |member: &str| value[member].as_str().unwrap_or_default();
        if text("apiVersion") == VERSION && text("kind") == "Policy" {
            let spec = value.get("spec").cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
            let policy: Self = serde_json::from_value(spec).map_err(|error| error.to_string())?;
            return Ok(policy.known());
        }
        if !text("apiVersion").is_empty() || !text("kind").is_empty() {
            return Err(format!(
                "no kind {:?} is registered for version {:?}",
                text("kind"),
                text("apiVersion")
            ));
        }
        let old: Self = serde_json::from_value(value).map_err(|error| error.to_string())?;
        Ok(old.of_old())
    }

    /// Everybody is whoever is known: nothing is allowed to others by a star.
    fn known(mut self) -> Self {
        if self.user == "*" || self.group == "*" {
            EVERYBODY_KNOWN.clone_into(&mut self.group);
            self.user.clear();
        }
        self
    }

    /// In the form without version, what is not said is everything.
    fn of_old(mut self) -> Self {
        let nobody = self.user.is_empty() && self.group.is_empty();
        let everywhere = self.namespace.is_empty() && self.resource.is_empty();
        let star = |member: &mut String| {
            if member.is_empty() {
                "*".clone_into(member);
            }
        };
        if nobody {
            star(&mut self.group);
        }
        star(&mut self.namespace);
        star(&mut self.resource);
        "*".clone_into(&mut self.api_group);
        self.non_resource_path = if everywhere { "*".to_owned() } else { String::new() };
        self.known()
    }

    fn concerns(&self, user: &UserInfo) -> bool {
        let by_name = self.user.is_empty() || self.user == user.name;
        let by_group = self.group.is_empty() || user.groups.contains(&self.group);
        by_name && by_group && !(self.user.is_empty() && self.group.is_empty())
    }

    fn allows(&self, request: &RequestInfo) -> bool {
        if self.readonly && !READS.contains(&request.verb.as_str()) {
            return false;
        }
        if request.is_resource {
            return is(&self.namespace, &request.namespace)
                && is(&self.resource, &request.resource)
                && is(&self.api_group, &request.group);
        }
        let wanted = self.non_resource_path.as_str();
        wanted == request.path
            || (wanted.ends_with('*') && request.path.starts_with(wanted.trim_end_matches('*')))
    }

    fn rules(&self) -> Vec<Rule> {
        let own = |text: &str| vec![text.to_owned()];
        let verbs = || if self.readonly { READS.map(str::to_owned).to_vec() } else { own("*") };
        let mut rules = Vec::new();
        if !self.resource.is_empty() {
            let (groups, resources) = (own(&self.api_group), own(&self.resource));
            rules.push(Rule { verbs: verbs(), groups, resources, ..Rule::default() });
        }
        if !self.non_resource_path.is_empty() {
            rules.push(Rule { verbs: verbs(), paths: own(&self.non_resource_path), ..Rule::default() });
        }
        rules
    }
}

fn is(wanted: &str, found: &str) -> bool {
    wanted == "*" || wanted == found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policies(lines: &[&str]) -> Policies {
        Policies::parse(&lines.join("\n")).unwrap()
    }

    fn v1(spec: &str) -> String {
        format!("{{\"apiVersion\":\"{VERSION}\",\"kind\":\"Policy\",\"spec\":{{{spec}}}}}")
    }

    /// `USER VERB [GROUP/]RESOURCE[@NAMESPACE]` or `USER VERB /PATH`; whoever is not a stranger is known.
    #[track_caller]
    fn check(policies: &Policies, request: &str, allowed: bool) {
        let words: Vec<&str> = request.split(' ').collect();
        let user = match words[0] {
            "stranger" => UserInfo::anonymous(),
            name => UserInfo::new(name, &["crew"]),
        };
        let mut info = RequestInfo { verb: words[1].to_owned(), ..RequestInfo::default() };
        if words[2].starts_with('/') {
            info.path = words[2].to_owned();
        } else {
            info.is_resource = true;
            let (resource, namespace) = words[2].split_once('@').unwrap_or((words[2], ""));
            let (group, resource) = resource.split_once('/').unwrap_or(("", resource));
            (info.group, info.resource, info.namespace) = (group.into(), resource.into(), namespace.into());
        }
        assert_eq!(policies.judge(&user, &info).is_allowed(), allowed, "{request}");
    }

    #[test]
    fn policy_allows_what_it_says_and_nothing_else() {
        let alice =
            v1(r#""user":"alice","namespace":"shop","resource":"pods","apiGroup":"","readonly":true"#);
        let crew = v1(r#""group":"crew","namespace":"*","resource":"*","apiGroup":"apps""#);
        let paths = v1(r#""user":"*","nonResourcePath":"/version*","readonly":true"#);
        let policies = policies(&["# comment", "", &alice, &crew, &paths]);
        for (request, allowed) in [
            ("alice get pods@shop", true),
            ("alice create pods@shop", false),
            ("alice get pods@other", false),
            ("alice get secrets@shop", false),
            ("bob get pods@shop", false),
            ("bob delete apps/deployments@anywhere", true),
            ("stranger delete apps/deployments@anywhere", false),
            ("bob get /version/x", true),
            ("bob get /metrics", false),
            ("stranger get /version", false),
        ] {
            check(&policies, request, allowed);
        }
    }

    #[test]
    fn form_without_version_leaves_out_what_is_everything() {
        let policies = policies(&[r#"{"user":"alice"}"#, r#"{"readonly":true,"resource":"nodes"}"#]);
        for (request, allowed) in [
            ("alice delete apps/deployments@x", true),
            ("alice get /metrics", true),
            ("bob list nodes", true),
            ("bob delete nodes", false),
            ("stranger list nodes", false),
            ("bob get /metrics", false),
        ] {
            check(&policies, request, allowed);
        }
    }

    #[test]
    fn policy_that_names_nobody_is_for_nobody() {
        let policies = policies(&[&v1(r#""namespace":"*","resource":"*","apiGroup":"*""#)]);
        check(&policies, "alice get pods", false);
        assert!(policies.rules_for(&UserInfo::new("alice", &[]), "").is_empty());
    }

    #[test]
    fn rules_are_those_of_the_user_in_the_namespace() {
        let policies =
            policies(&[&v1(r#""user":"alice","namespace":"shop","resource":"pods","readonly":true"#)]);
        let rules = policies.rules_for(&UserInfo::new("alice", &[]), "shop");
        assert_eq!(rules[0].verbs, READS);
        assert_eq!(rules.len(), 1);
        assert!(policies.rules_for(&UserInfo::new("alice", &[]), "other").is_empty());
    }

    #[test]
    fn line_that_is_no_policy_is_named() {
        for bad in ["nonsense", r#"{"apiVersion":"v9","kind":"Policy"}"#, &v1(r#""readonly":"yes""#)] {
            let why = Policies::parse(&format!("# first\n{bad}")).unwrap_err();
            assert!(why.starts_with("error reading policy, line 2"), "{why}");
        }
    }
}
