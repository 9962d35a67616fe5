//! TokenRequest: a token for one service account, on request of somebody who may have it.

use serde_json::{Value, json};
use skep_api::status::Status;

use super::claims::{Bound, Claims, Reference};
use super::{Tokens, meta};
use crate::refusal;
use crate::remarks::remark;
use crate::user::UserInfo;

/// Seconds that admission asks for when it gives a token to a pod; by the seven they are told from others.
const OF_ADMISSION: i64 = 3607;
/// Seconds that such a token is accepted.
const EXTENDED: u64 = 365 * 24 * 3600;
/// Seconds that a token is valid when the request does not say.
const DEFAULT_LIFETIME: i64 = 3600;
const GROUP: &str = "authentication.k8s.io";
const SHORTEST_LIFETIME: i64 = 600;
const LONGEST_LIFETIME: i64 = 1 << 32;

impl Tokens {
    /// Answers `POST .../serviceaccounts/NAME/token`: the request with its status filled in.
    ///
    /// # Errors
    ///
    /// 404 for a missing service account or bound object, 409 for another uid, 422 for a bad request, 403 for a node
    /// that asks for a pod that it does not run.
    pub fn request(
        &self,
        user: &UserInfo,
        namespace: &str,
        name: &str,
        body: Value,
    ) -> Result<Value, Status> {
        let account = self
            .reader
            .get("", "serviceaccounts", namespace, name)
            .ok_or_else(|| refusal::not_found("serviceaccounts", name))?;
        let mut request = accepted(body, namespace, name, meta(&account, "uid"))?;
        let spec = &request["spec"];
        let audiences = self.requested_audiences(spec)?;
        let lifetime = self.shortened(lifetime(spec)?);
        let mut bound = Bound {
            namespace: namespace.to_owned(),
            serviceaccount: Reference { name: name.to_owned(), uid: meta(&account, "uid").to_owned() },
            ..Bound::default()
        };
        self.bind(&mut bound, &spec["boundObjectRef"])?;
        self.check_node(user, &bound)?;
        let issued = self.seconds();
        let told = issued + u64::try_from(lifetime).expect("checked to be positive");
        // Clients from before tokens expired do not read them again: theirs are accepted for longer than they are told.
        let extends = self.extend_life
            && bound.pod.is_some()
            && lifetime == OF_ADMISSION
            && audiences.iter().all(|audience| self.audiences.contains(audience));
        let expires = if extends { issued + EXTENDED } else { told };
        bound.warnafter = extends.then_some(told);
        let claims = Claims {
            audiences: audiences.clone(),
            expires,
            issued,
            issuer: self.issuer.clone(),
            id: (self.new_id)(),
            bound,
            not_before: issued,
            subject: format!("system:serviceaccount:{namespace}:{name}"),
        };
        let token = self.sign(&claims)?;
        let stamp = |seconds: u64| {
            jiff::Timestamp::from_second(i64::try_from(seconds).unwrap_or(i64::MAX))
                .map(|at| at.to_string())
                .map_err(|_| refusal::internal("the token would expire beyond the calendar"))
        };
        request["metadata"]["creationTimestamp"] = json!(stamp(issued)?);
        if request["spec"]["boundObjectRef"].is_null() {
            // Upstream writes the field in any case.
            request["spec"]["boundObjectRef"] = Value::Null;
        }
        request["spec"]["audiences"] = json!(audiences);
        request["spec"]["expirationSeconds"] = json!(lifetime);
        request["status"] = json!({"token": token, "expirationTimestamp": stamp(told)?});
        Ok(request)
    }

    /// The life that a token gets of the one asked for.
    fn shortened(&self, asked: i64) -> i64 {
        let Some(longest) = self.longest_life.filter(|longest| *longest < asked) else { return asked };
        remark(|notes| {
            notes.warn(format!("requested expiration of {asked} seconds shortened to {longest} seconds"));
        });
        longest
    }

    fn sign(&self, claims: &Claims) -> Result<String, Status> {
        let signed = self.keys.sign(claims);
        signed.map_err(|error| refusal::internal(&format!("cannot sign the token: {error}")))
    }

    fn requested_audiences(&self, spec: &Value) -> Result<Vec<String>, Status> {
        let Some(list) = spec["audiences"].as_array().filter(|list| !list.is_empty()) else {
            return Ok(self.audiences.clone());
        };
        list.iter()
            .map(|audience| audience.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or_else(|| refusal::bad_request("spec.audiences must be a list of strings"))
    }

    fn bind(&self, bound: &mut Bound, reference: &Value) -> Result<(), Status> {
        if reference.is_null() {
            return Ok(());
        }
        let text = |field: &str| reference[field].as_str().unwrap_or_default();
        let (kind, name, version) = (text("kind"), text("name"), text("apiVersion"));
        // What has more parts is no version, and as good as none.
        let (group, version) = match version.matches('/').count() {
            0 => ("", version),
            1 => version.split_once('/').unwrap_or_default(),
            _ => ("", ""),
        };
        let (resource, namespace) = match (group, kind) {
            ("", "Pod") => ("pods", bound.namespace.as_str()),
            ("", "Secret") => ("secrets", bound.namespace.as_str()),
            ("", "Node") => ("nodes", ""),
            _ => {
                return Err(refusal::bad_request(&format!(
                    "cannot bind token to object of type {group}/{version}, Kind={kind}"
                )));
            }
        };
        if name.is_empty() {
            return Err(refusal::bad_request("Name parameter required."));
        }
        let object = self
            .reader
            .get("", resource, namespace, name)
            .ok_or_else(|| refusal::not_found(resource, name))?;
        let uid = meta(&object, "uid");
        let account = object["spec"]["serviceAccountName"].as_str().unwrap_or_default();
        if kind == "Pod" && account != bound.serviceaccount.name {
            return Err(refusal::bad_request(&format!(
                "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                bound.serviceaccount.name
            )));
        }
        if !text("uid").is_empty() && text("uid") != uid {
            let message = format!(
                "the UID in the bound object reference ({}) does not match the UID in record. \
                 The object might have been deleted and then recreated",
                text("uid")
            );
            return Err(refusal::conflict("", kind, name, &message));
        }
        let found = Some(Reference { name: name.to_owned(), uid: uid.to_owned() });
        match kind {
            "Pod" => {
                bound.pod = found;
                bound.node = self.node_of_pod(&object);
            }
            "Secret" => bound.secret = found,
            _ => bound.node = found,
        }
        Ok(())
    }

    fn node_of_pod(&self, pod: &Value) -> Option<Reference> {
        let name = pod["spec"]["nodeName"].as_str().filter(|name| !name.is_empty())?;
        let node = self.reader.get("", "nodes", "", name);
        Some(Reference {
            name: name.to_owned(),
            uid: node.map_or(String::new(), |n| meta(&n, "uid").to_owned()),
        })
    }
}

/// Checks that a request that says for which account it is says the one of the path.
///
/// # Errors
///
/// 422 when it says another.
pub(crate) fn check_names(body: &Value, namespace: &str, name: &str) -> Result<(), Status> {
    for (field, expected, what) in [("name", name, "name"), ("namespace", namespace, "namespace")] {
        let given = meta(body, field);
        if !given.is_empty() && given != expected {
            let why = format!("must match the service account {what} if specified");
            let (field, given) = (format!("metadata.{field}"), json!(given));
            return Err(refusal::invalid(GROUP, "TokenRequest", name, &field, &given, &why));
        }
    }
    Ok(())
}

/// The body, which was decoded as a TokenRequest, with what it leaves out.
fn accepted(mut body: Value, namespace: &str, name: &str, uid: &str) -> Result<Value, Status> {
    check_names(&body, namespace, name)?;
    let given = meta(&body, "uid");
    if !given.is_empty() && given != uid {
        let why = format!(
            "the UID in the token request ({given}) does not match the UID of the service account ({uid})"
        );
        return Err(refusal::conflict(GROUP, "TokenRequest", name, &why));
    }
    if body["spec"].is_null() {
        body["spec"] = json!({});
    }
    body["kind"] = json!("TokenRequest");
    body["apiVersion"] = json!("authentication.k8s.io/v1");
    for (member, value) in [("name", name), ("namespace", namespace), ("uid", uid)] {
        body["metadata"][member] = json!(value);
    }
    Ok(body)
}

fn lifetime(spec: &Value) -> Result<i64, Status> {
    let field = "spec.expirationSeconds";
    let seconds = match &spec["expirationSeconds"] {
        Value::Null => DEFAULT_LIFETIME,
        value => {
            value.as_i64().ok_or_else(|| refusal::bad_request(&format!("{field} must be an integer")))?
        }
    };
    let invalid = |message: &str| {
        Err(refusal::invalid("authentication.k8s.io", "TokenRequest", "", field, &json!(seconds), message))
    };
    match seconds {
        ..SHORTEST_LIFETIME => invalid("may not specify a duration less than 10 minutes"),
        SHORTEST_LIFETIME..=LONGEST_LIFETIME => Ok(seconds),
        _ => invalid("may not specify a duration larger than 2^32 seconds"),
    }
}
