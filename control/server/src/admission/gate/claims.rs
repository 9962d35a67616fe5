//! Claims of devices: who gets at devices that others use, and who says what a claim got (resource.k8s.io).
//!
//! - Administrative access to devices is for namespaces that carry a label, which takes the right to write namespaces.
//! - Whoever binds a claim, which is what changes `status.allocation` or `status.reservedFor`, needs the verb of the request
//!   on `resourceclaims/binding`, everywhere.
//! - Whoever says something of a driver's device needs it on `resourceclaims/driver` by the driver's name, where the verb says
//!   whether that is for the devices of the own node or of any.

use std::collections::BTreeSet;

use serde_json::Value;
use skep_api::object::{at, flag, items, text};
use skep_api::status::Status;
use skep_api::validation::{FieldError, names};

use crate::admission::Attributes;
use crate::cache::Cache;
use crate::failure;
use crate::gate::{Authorizer, ObjectReader};
use crate::refusal;
use crate::request::RequestInfo;
use crate::user::UserInfo;

const GROUP: &str = "resource.k8s.io";
const CLAIMS: &str = "resourceclaims";
/// The label of namespaces whose claims may have administrative access.
const ADMIN_LABEL: &str = "resource.kubernetes.io/admin-access";
const NODE_OF_USER: &str = "authentication.kubernetes.io/node-name";
const RESULTS: [&str; 4] = ["status", "allocation", "devices", "results"];

/// What the author of a claim, a template of claims or the status of a claim lacks.
///
/// # Errors
///
/// When the cache cannot be brought up to date.
pub(super) async fn check(
    authorizer: &dyn Authorizer,
    cache: &Cache,
    attributes: &Attributes<'_>,
    object: &Value,
) -> Result<Vec<FieldError>, Status> {
    // The specification of both never changes.
    let requests: &[&str] = match attributes.creates() {
        true if attributes.is(GROUP, CLAIMS) => &["spec", "devices", "requests"],
        true if attributes.is(GROUP, "resourceclaimtemplates") => &["spec", "spec", "devices", "requests"],
        _ => &[],
    };
    if !requests.is_empty() {
        let asks = items(object, requests).iter().position(|one| flag(one, &["exactly", "adminAccess"]));
        let field = asks.map(|at| format!("spec.devices.requests[{at}].adminAccess"));
        return Ok(admin(cache, attributes, field).await?.into_iter().collect());
    }
    match attributes.old {
        Some(old) if attributes.is_part(GROUP, CLAIMS, "status") => {
            let mut errors = Vec::from_iter(admin(cache, attributes, newly_admin(object, old)).await?);
            let write = Write { authorizer, attributes, object, old };
            errors.extend(write.binding().await);
            errors.extend(write.devices().await);
            Ok(errors)
        }
        _ => Ok(Vec::new()),
    }
}

/// Where the allocation gives administrative access, unless it did before.
fn newly_admin(new: &Value, old: &Value) -> Option<String> {
    let given = |claim| items(claim, &RESULTS).iter().position(|one| flag(one, &["adminAccess"]));
    given(new)
        .filter(|_| given(old).is_none())
        .map(|at| format!("status.allocation.devices.results[{at}].adminAccess"))
}

/// Whether the namespace may have the administrative access that this field asks for.
async fn admin(
    cache: &Cache,
    attributes: &Attributes<'_>,
    field: Option<String>,
) -> Result<Option<FieldError>, Status> {
    let Some(field) = field else { return Ok(None) };
    cache.catch_up().await.map_err(failure::read)?;
    let namespace = cache.get("", "namespaces", "", attributes.namespace()).unwrap_or_default();
    if text(&namespace, &["metadata", "labels", ADMIN_LABEL]) == "true" {
        return Ok(None);
    }
    let why = format!(
        "admin access to devices requires the `{ADMIN_LABEL}: true` label on the containing namespace"
    );
    Ok(Some(FieldError::forbidden(field, why)))
}

/// A write of a claim's status.
struct Write<'a> {
    authorizer: &'a dyn Authorizer,
    attributes: &'a Attributes<'a>,
    object: &'a Value,
    old: &'a Value,
}

impl Write<'_> {
    async fn binding(&self) -> Option<FieldError> {
        let same = |one: &str| at(self.object, &["status", one]) == at(self.old, &["status", one]);
        if same("allocation") && same("reservedFor") {
            return None;
        }
        let verb = self.verb();
        let refusal = self.refusal(verb, "binding", "", "").await?;
        let why = format!(
            "changing status.allocation or status.reservedFor requires resource=\"resourceclaims/binding\", \
             verb=\"{verb}\" permission: {refusal}"
        );
        Some(FieldError::forbidden("status.allocation", why))
    }

    async fn devices(&self) -> Vec<FieldError> {
        let Some(allocation) = at(self.object, &["status", "allocation"]) else {
            // What was said of devices has gone with them.
            return Vec::new();
        };
        let own = node_of_allocation(allocation).is_some_and(|node| is_on(self.attributes.user(), node));
        let prefixes: &[&str] =
            if own { &["associated-node", "arbitrary-node"] } else { &["arbitrary-node"] };
        let verbs: Vec<String> = prefixes.iter().map(|prefix| format!("{prefix}:{}", self.verb())).collect();
        let mut errors = Vec::new();
        for driver in changed_drivers(self.object, self.old) {
            if let Some(refusal) = self.refusal_of_all(&verbs, driver).await {
                let why = format!(
                    "changing status.devices requires resource=\"resourceclaims/driver\", verb=\"[{}]\" permission: \
                     {refusal}",
                    verbs.join(" ")
                );
                errors.push(FieldError::forbidden("status.devices", why));
            }
        }
        errors
    }

    /// The first refusal, if every verb is refused.
    async fn refusal_of_all(&self, verbs: &[String], driver: &str) -> Option<String> {
        let mut first = None;
        for verb in verbs {
            let refusal = self.refusal(verb, "driver", self.attributes.namespace(), driver).await?;
            first.get_or_insert(refusal);
        }
        first
    }

    /// Why the right to something of claims that only authorizers know is not there, if it is not.
    async fn refusal(&self, verb: &str, subresource: &str, namespace: &str, name: &str) -> Option<String> {
        let request = RequestInfo {
            is_resource: true,
            verb: verb.to_owned(),
            group: GROUP.to_owned(),
            version: self.attributes.scope.resource.version.clone(),
            resource: CLAIMS.to_owned(),
            subresource: subresource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ..RequestInfo::default()
        };
        let user = self.attributes.user();
        let decision = self.authorizer.authorize(user, &request).await;
        if decision.is_allowed() {
            return None;
        }
        let both = [decision.error, decision.reason];
        let why: Vec<String> = both.into_iter().filter(|text| !text.is_empty()).collect();
        Some(refusal::forbidden(user, &request, &why.join(": ")).message)
    }

    fn verb(&self) -> &'static str {
        if self.attributes.scope.is_patch() { "patch" } else { "update" }
    }
}

/// The drivers of whose devices something else is said than before.
fn changed_drivers<'a>(new: &'a Value, old: &'a Value) -> BTreeSet<&'a str> {
    let devices = |claim: &'a Value| items(claim, &["status", "devices"]);
    let differs = |one: &&Value, among: &[Value]| !among.contains(one);
    let changed = devices(new).iter().filter(|one| differs(one, devices(old)));
    let gone = devices(old).iter().filter(|one| differs(one, devices(new)));
    changed.chain(gone).map(|device| text(device, &["driver"])).collect()
}

/// The one node that an allocation is for.
fn node_of_allocation(allocation: &Value) -> Option<&str> {
    let [term] = items(allocation, &["nodeSelector", "nodeSelectorTerms"]) else { return None };
    let [field] = items(term, &["matchFields"]) else { return None };
    let [node] = items(field, &["values"]) else { return None };
    let names_it = text(field, &["key"]) == "metadata.name" && text(field, &["operator"]) == "In";
    let alone = items(term, &["matchExpressions"]).is_empty();
    (names_it && alone).then(|| node.as_str()).flatten().filter(|node| !node.is_empty())
}

/// Whether the user is a service account whose token was made for a pod on this node.
fn is_on(user: &UserInfo, node: &str) -> bool {
    let account = user.name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    let is_account = account.is_some_and(|(namespace, name)| {
        names::dns_label(namespace).is_ok() && names::dns_subdomain(name).is_ok()
    });
    let known = user.extra.get(NODE_OF_USER).map(Vec::as_slice);
    is_account && matches!(known, Some([one]) if one == node && names::dns_subdomain(one).is_ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn allocation_is_for_a_node_only_if_nothing_else_is_possible() {
        let field = json!({ "key": "metadata.name", "operator": "In", "values": ["n1"] });
        let with = |terms: Value| json!({ "nodeSelector": { "nodeSelectorTerms": terms } });
        let term = json!({ "matchFields": [field] });
        let allocation = with(json!([term]));
        assert_eq!(node_of_allocation(&allocation), Some("n1"));
        let mut others = vec![json!({}), with(json!([])), with(json!([term, term]))];
        for (pointer, value) in [
            ("/matchExpressions", json!([{ "key": "a", "operator": "Exists" }])),
            ("/matchFields/0/key", json!("metadata.namespace")),
            ("/matchFields/0/operator", json!("NotIn")),
            ("/matchFields/0/values", json!(["n1", "n2"])),
        ] {
            let mut term = json!({ "matchFields": [field], "matchExpressions": [] });
            *term.pointer_mut(pointer).unwrap() = value;
            others.push(with(json!([term])));
        }
        for other in &others {
            assert_eq!(node_of_allocation(other), None, "{other}");
        }
    }

    #[test]
    fn user_is_on_a_node_by_the_token_of_a_pod_there() {
        let mut user = UserInfo::service_account("kube-system", "driver");
        assert!(!is_on(&user, "n1"));
        user.extra.insert(NODE_OF_USER.into(), vec!["n1".into()]);
        assert!(is_on(&user, "n1") && !is_on(&user, "n2"));
        let plain = UserInfo { name: "jane".into(), ..user.clone() };
        assert!(!is_on(&plain, "n1"));
        user.extra.insert(NODE_OF_USER.into(), vec!["n1".into(), "n2".into()]);
        assert!(!is_on(&user, "n1"));
    }

    #[test]
    fn drivers_are_those_of_devices_that_came_changed_or_went() {
        let device =
            |driver: &str, name: &str, data: &str| json!({ "driver": driver, "device": name, "data": data });
        let claim = |devices: Value| json!({ "status": { "devices": devices } });
        let old =
            claim(json!([device("same", "a", "1"), device("other", "a", "1"), device("went", "a", "1")]));
        let new =
            claim(json!([device("came", "a", "1"), device("other", "a", "2"), device("same", "a", "1")]));
        assert_eq!(Vec::from_iter(changed_drivers(&new, &old)), ["came", "other", "went"]);
        assert!(changed_drivers(&old, &old).is_empty());
    }
}
