//! One audit event as upstream writes it (`audit.k8s.io/v1 Event`), as JSON and as the one line of the legacy format.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::policy::{Level, Stage};
use crate::user::UserInfo;

/// Who, in the words of the authentication API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct User {
    /// The name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// The unique id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// The groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Further attributes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

impl From<&UserInfo> for User {
    fn from(user: &UserInfo) -> Self {
        Self {
            username: user.name.clone(),
            uid: user.uid.clone(),
            groups: user.groups.clone(),
            extra: user.extra.clone(),
        }
    }
}

/// What the request is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    /// Plural name of the resource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// Namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// UID, where the object sent has one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_group: String,
    /// Version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// Resource version, where the object sent has one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// Subresource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
}

/// What more is known about how the author was found out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthenticationMetadata {
    /// Under which constrained right the identity was assumed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub impersonation_constraint: String,
}

/// One event.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    kind: &'static str,
    api_version: &'static str,
    /// How much is in it.
    pub level: Level,
    /// The id that all events of a request share.
    #[serde(rename = "auditID")]
    pub audit_id: String,
    /// How far the request has come.
    pub stage: Stage,
    /// Path and query.
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    /// The verb, for paths that are no resources the method in lower case.
    pub verb: String,
    /// Who made the request.
    pub user: User,
    /// As whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub impersonated_user: Option<User>,
    /// How the author was found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication_metadata: Option<AuthenticationMetadata>,
    /// Where from, proxies last.
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    pub source_ips: Vec<String>,
    /// With what.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user_agent: String,
    /// About what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_ref: Option<ObjectReference>,
    /// What came of it: a `Status`, of which a success has the code alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_status: Option<Value>,
    /// The object sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_object: Option<Arc<RawValue>>,
    /// The object returned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_object: Option<Arc<RawValue>>,
    /// When the request came.
    #[serde(serialize_with = "micro_time")]
    pub request_received_timestamp: Timestamp,
    /// When it had come so far.
    #[serde(serialize_with = "micro_time")]
    pub stage_timestamp: Timestamp,
    /// What admission, authorization and others have to say.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Times with six places, as upstream's `MicroTime`.
fn micro_time<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string())
}

impl Event {
    /// An event about a request that came at `now`.
    pub fn new(level: Level, audit_id: String, now: Timestamp) -> Self {
        Self {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level,
            audit_id,
            stage: Stage::RequestReceived,
            request_uri: String::new(),
            verb: String::new(),
            user: User::default(),
            impersonated_user: None,
            authentication_metadata: None,
            source_ips: Vec::new(),
            user_agent: String::new(),
            object_ref: None,
            response_status: None,
            request_object: None,
            response_object: None,
            request_received_timestamp: now,
            stage_timestamp: now,
            annotations: BTreeMap::new(),
        }
    }

    /// The event as one line of JSON, line feed included.
    pub fn json_line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_else(|error| {
            // Nothing in an event fails to be written; an auditor must see it if it does.
            tracing::error!(%error, id = self.audit_id, "an audit event cannot be written as JSON");
            Vec::new()
        });
        line.push(b'\n');
        line
    }

    /// The event in upstream's legacy format, without objects; also what the server's own log says of lost events.
    pub fn legacy_line(&self) -> String {
        let quoted =
            |groups: &[String]| groups.iter().map(|group| format!("{group:?}")).collect::<Vec<_>>().join(",");
        let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
        let groups = match self.user.username.is_empty() || self.user.groups.is_empty() {
            true => "<none>".to_owned(),
            false => quoted(&self.user.groups),
        };
        let (as_user, as_groups) = match &self.impersonated_user {
            None => ("<self>".to_owned(), "<lookup>".to_owned()),
            Some(user) => (user.username.clone(), quoted(&user.groups)),
        };
        let code = self.response_status.as_ref().and_then(|status| status["code"].as_u64());
        let response = match &self.response_status {
            None => "<deferred>".to_owned(),
            Some(_) => code.unwrap_or_default().to_string(),
        };
        format!(
            "{} AUDIT: id={:?} stage=\"{:?}\" ip={:?} method={:?} user={:?} groups={:?} as={:?} asgroups={:?} \
             user-agent={:?} namespace={:?} uri={:?} response=\"{response}\"",
            self.request_received_timestamp,
            self.audit_id,
            self.stage,
            self.source_ips.first().map_or("<unknown>", String::as_str),
            self.verb,
            or(&self.user.username, "<none>"),
            groups,
            as_user,
            as_groups,
            self.user_agent,
            or(self.object_ref.as_ref().map_or("", |object| &object.namespace), "<none>"),
            self.request_uri,
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event() -> Event {
        let now = Timestamp::from_microsecond(1_800_000_000_000_012).unwrap();
        let mut event = Event::new(Level::Metadata, "0-1".into(), now);
        event.user = User::from(&UserInfo::new("ann", &["devs"]));
        event.verb = "get".into();
        event.request_uri = "/api/v1/namespaces/a/pods/b?x=1".into();
        event.object_ref = Some(ObjectReference {
            resource: "pods".into(),
            namespace: "a".into(),
            name: "b".into(),
            api_version: "v1".into(),
            ..ObjectReference::default()
        });
        event
    }

    #[test]
    fn event_has_upstreams_members_in_upstreams_order() {
        let mut event = event();
        event.response_status = Some(json!({"metadata": {}, "code": 200}));
        event.annotations.insert("authorization.k8s.io/decision".into(), "allow".into());
        let line = String::from_utf8(event.json_line()).unwrap();
        assert_eq!(
            line,
            concat!(
                r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"0-1","#,
                r#""stage":"RequestReceived","requestURI":"/api/v1/namespaces/a/pods/b?x=1","verb":"get","#,
                r#""user":{"username":"ann","groups":["devs","system:authenticated"]},"#,
                r#""objectRef":{"resource":"pods","namespace":"a","name":"b","apiVersion":"v1"},"#,
                r#""responseStatus":{"code":200,"metadata":{}},"#,
                r#""requestReceivedTimestamp":"2027-01-15T08:00:00.000012Z","#,
                r#""stageTimestamp":"2027-01-15T08:00:00.000012Z","#,
                r#""annotations":{"authorization.k8s.io/decision":"allow"}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn legacy_line_names_who_and_what() {
        let line = event().legacy_line();
        assert!(line.starts_with("2027-01-15T08:00:00.000012Z AUDIT: id=\"0-1\" stage=\"RequestReceived\""));
        assert!(line.contains("as=\"<self>\" asgroups=\"<lookup>\"") && line.contains("namespace=\"a\""));
        assert!(line.ends_with("uri=\"/api/v1/namespaces/a/pods/b?x=1\" response=\"<deferred>\""));
    }
}
