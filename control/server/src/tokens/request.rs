//! TokenRequest: a token for one service account, on request of somebody who may have it.

use serde_json::{Value, json};
use skep_api::status::Status;

use super::claims::{Bound, Claims, Reference};
use super::{Tokens, meta};
use crate::authz::node_of;
use crate::refusal;
use crate::user::UserInfo;

/// Seconds that a token is valid when the request does not say.
const DEFAULT_LIFETIME: i64 = 3600;
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
        let mut request = accepted(body, namespace, name)?;
        let spec = &request["spec"];
        let audiences = self.requested_audiences(spec)?;
        let lifetime = lifetime(spec)?;
        let mut bound = Bound {
            namespace: namespace.to_owned(),
            serviceaccount: Reference { name: name.to_owned(), uid: meta(&account, "uid").to_owned() },
            ..Bound::default()
        };
        self.bind(&mut bound, &spec["boundObjectRef"])?;
        self.check_node(user, &bound)?;
        let issued = self.seconds();
        let expires = issued + u64::try_from(lifetime).expect("checked to be positive");
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
        let stamp = jiff::Timestamp::from_second(i64::try_from(expires).unwrap_or(i64::MAX))
            .map_err(|_| refusal::internal("the token would expire beyond the calendar"))?;
        request["spec"]["audiences"] = json!(audiences);
        request["spec"]["expirationSeconds"] = json!(lifetime);
        request["status"] = json!({"token": token, "expirationTimestamp": stamp.to_string()});
        Ok(request)
    }

    fn sign(&self, claims: &Claims) -> Result<String, Status> {
        let mut header = jsonwebtoken::Header::new(self.keys.algorithm);
        header.typ = None;
        header.kid = Some(self.keys.id.clone());
        jsonwebtoken::encode(&header, claims, &self.keys.signing)
            .map_err(|error| refusal::internal(&format!("cannot sign the token: {error}")))
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
        let (kind, name) = (text("kind"), text("name"));
        let (resource, namespace) = match (kind, text("apiVersion")) {
            ("Pod", "v1" | "") => ("pods", bound.namespace.as_str()),
            ("Secret", "v1" | "") => ("secrets", bound.namespace.as_str()),
            ("Node", "v1" | "") => ("nodes", ""),
            (kind, version) => {
                return Err(refusal::bad_request(&format!(
                    "cannot bind token for serviceaccount to {version} {kind}"
                )));
            }
        };
        let object = self
            .reader
            .get("", resource, namespace, name)
            .ok_or_else(|| refusal::not_found(resource, name))?;
        let uid = meta(&object, "uid");
        if !text("uid").is_empty() && text("uid") != uid {
            let message = format!(
                "the UID in the bound object reference ({}) does not match the UID in record. \
                 The object might have been deleted and then recreated",
                text("uid")
            );
            return Err(refusal::conflict(resource, name, &message));
        }
        let found = Some(Reference { name: name.to_owned(), uid: uid.to_owned() });
        match kind {
            "Pod" => {
                let account = object["spec"]["serviceAccountName"].as_str().unwrap_or_default();
                if account != bound.serviceaccount.name {
                    return Err(refusal::bad_request(&format!(
                        "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                        bound.serviceaccount.name
                    )));
                }
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

    /// A node gets tokens only for pods that it runs (NodeRestriction).
    fn check_node(&self, user: &UserInfo, bound: &Bound) -> Result<(), Status> {
        let Some(node) = node_of(user) else { return Ok(()) };
        let runs_it = bound.pod.is_some() && bound.node.as_ref().is_some_and(|n| n.name == node);
        if runs_it {
            return Ok(());
        }
        Err(refusal::forbidden_object(
            "",
            "serviceaccounts",
            &bound.serviceaccount.name,
            &format!("node {node:?} can only create tokens for pods that it runs"),
        ))
    }
}

/// The body as a TokenRequest with its type and names.
fn accepted(mut body: Value, namespace: &str, name: &str) -> Result<Value, Status> {
    let is = |field: &str, expected: &str| body[field].as_str().is_none_or(|given| given == expected);
    if !body.is_object() || !is("kind", "TokenRequest") || !is("apiVersion", "authentication.k8s.io/v1") {
        return Err(refusal::bad_request("expected a TokenRequest of authentication.k8s.io/v1"));
    }
    if !(body["spec"].is_object() || body["spec"].is_null()) {
        return Err(refusal::bad_request("spec must be an object"));
    }
    if body["spec"].is_null() {
        body["spec"] = json!({});
    }
    body["kind"] = json!("TokenRequest");
    body["apiVersion"] = json!("authentication.k8s.io/v1");
    body["metadata"] = json!({"name": name, "namespace": namespace, "creationTimestamp": null});
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
