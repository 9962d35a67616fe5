//! A write as webhooks and policies are shown it: in the form of the resource that they ask for, with the words of
//! admission reviews, and the rights of its author.
//!
//! Shared by both kinds of plug-ins. Owns no decision.

use std::borrow::Cow;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use skep_api::admissionregistration::{Interest, Rules};
use skep_api::convert;
use skep_api::policy::{Asker, Authority, Question, Ruling};
use skep_api::registry::{Resource, registry, schema_name};
use skep_api::schema::{Schema, Types};
use skep_api::status::Status;

use super::{Attributes, Operation};
use crate::authz::{Authz, selectors};
use crate::cache::Cache;
use crate::conversion::Converter;
use crate::failure;
use crate::gate::{Authorizer, Decision, ObjectReader, Verdict};
use crate::request::RequestInfo;
use crate::user::UserInfo;

/// The namespace of a write; that of a Namespace is itself.
pub(super) fn namespace<'a>(attributes: &Attributes<'a>) -> &'a str {
    if attributes.scope.resource.is_namespaces() { attributes.name } else { attributes.namespace() }
}

/// What rules go by.
pub(super) fn interest<'a>(attributes: &Attributes<'a>) -> Interest<'a> {
    Interest {
        operation: attributes.operation.word(),
        resource: attributes.scope.resource,
        subresource: attributes.subresource(),
        namespace: namespace(attributes),
        name: attributes.name,
        kinds: attributes.scope.kinds,
    }
}

/// A namespace; one that is not in the cache may only be too new for it.
///
/// # Errors
///
/// 404 when it is not there.
pub(super) async fn find_namespace(cache: &Cache, name: &str) -> Result<Arc<Value>, Status> {
    if let Some(found) = cache.get("", "namespaces", "", name) {
        return Ok(found);
    }
    cache.catch_up().await.map_err(failure::read)?;
    let resource = registry().find("", "v1", "namespaces").ok_or_else(Status::no_such_path)?;
    cache.get("", "namespaces", "", name).ok_or_else(|| Status::not_found(resource, name))
}

/// The resource in whose form somebody with these rules is to see the write; nothing if it is not for them.
///
/// # Errors
///
/// When the namespace that the rules ask about is not there.
pub(super) async fn matching<'a>(
    cache: &Cache,
    rules: &Rules,
    attributes: &Attributes<'a>,
    object: Option<&Value>,
) -> Result<Option<&'a Resource>, Status> {
    let Some(form) = rules.resource(&interest(attributes)) else { return Ok(None) };
    if !rules.selects(object, attributes.old) {
        return Ok(None);
    }
    Ok(selects_namespace(cache, rules, attributes, object).await?.then_some(form))
}

/// Whether the write's namespace is selected. What is in none is, but for namespaces themselves.
async fn selects_namespace(
    cache: &Cache,
    rules: &Rules,
    attributes: &Attributes<'_>,
    object: Option<&Value>,
) -> Result<bool, Status> {
    let name = namespace(attributes);
    if rules.selects_all_namespaces() || name.is_empty() {
        return Ok(true);
    }
    let itself = attributes.scope.resource.is_namespaces()
        && attributes.subresource().is_empty()
        && matches!(attributes.operation, Operation::Create | Operation::Update);
    if let (true, Some(object)) = (itself, object) {
        return Ok(rules.selects_namespace(object["metadata"].get("labels")));
    }
    let found = find_namespace(cache, name).await?;
    Ok(rules.selects_namespace(found["metadata"].get("labels")))
}

/// An object of the write's resource in the form of another one, or back.
///
/// # Errors
///
/// When a webhook has to convert it, and does not.
pub(super) async fn reform(
    converter: &Converter,
    from: &Resource,
    to: &Resource,
    object: &Value,
) -> Result<Value, Status> {
    if same(from, to) {
        return Ok(object.clone());
    }
    if Converter::concerns(from) {
        return converter.bring(from, &to.group_version(), object.clone()).await;
    }
    let mut object = object.clone();
    convert::to_storage(from, &mut object);
    convert::from_storage(to, &mut object);
    Ok(object)
}

/// Whether two resources are the same one.
pub(super) fn same(one: &Resource, other: &Resource) -> bool {
    (&one.group, &one.version, &one.plural) == (&other.group, &other.version, &other.plural)
}

/// Whether what is written is an object of the resource, not one of a kind that only a subresource has.
pub(super) fn is_own_kind(attributes: &Attributes<'_>) -> bool {
    let resource = attributes.scope.resource;
    attributes.operation != Operation::Connect
        && attributes.kind() == (&resource.group, &resource.version, &resource.kind)
}

/// The kind that a write is of where only a subresource has it (`Scale`, `Binding`, `Eviction`), as if it were one of the
/// resource; nothing where objects of it have no schema, as the options of connections.
pub(super) fn part(attributes: &Attributes<'_>) -> Option<Resource> {
    let (group, version, kind) = attributes.kind();
    let types = Types::builtin();
    let root = types.find(&schema_name(group, version, kind))?;
    let [group, version, kind] = [group, version, kind].map(str::to_owned);
    let own = attributes.scope.resource.clone();
    Some(Resource { group, version, kind, schema: Schema { types, root }, custom: None, ..own })
}

/// The `request` of an admission review, without its objects and id. `form` is the resource that was asked for.
pub(super) fn request(attributes: &Attributes<'_>, form: &Resource) -> Value {
    let own = attributes.scope.resource;
    let (group, version, kind) = attributes.kind();
    let asked = match is_own_kind(attributes) {
        true => (form.group.as_str(), form.version.as_str(), form.kind.as_str()),
        false => (group, version, kind),
    };
    let kind = |(group, version, kind): (&str, &str, &str)| json!({ "group": group, "version": version, "kind": kind });
    let resource =
        |one: &Resource| json!({ "group": one.group, "version": one.version, "resource": one.plural });
    let mut request = json!({
        "kind": kind(asked),
        "resource": resource(form),
        "requestKind": kind((group, version, attributes.kind().2)),
        "requestResource": resource(own),
        "operation": attributes.operation.word(),
        "userInfo": user(attributes.user()),
        "dryRun": attributes.is_dry_run(),
        "options": attributes.options,
    });
    let texts = [
        ("subResource", attributes.subresource()),
        ("requestSubResource", attributes.subresource()),
        ("name", attributes.name),
        ("namespace", namespace(attributes)),
    ];
    for (member, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        request[member] = json!(text);
    }
    request
}

fn user(user: &UserInfo) -> Value {
    let mut shown = json!({ "username": user.name, "groups": user.groups });
    if !user.uid.is_empty() {
        shown["uid"] = json!(user.uid);
    }
    if !user.extra.is_empty() {
        shown["extra"] = json!(user.extra);
    }
    shown
}

/// What the write itself is about, as a question about rights.
pub(super) fn question(attributes: &Attributes<'_>) -> Question {
    let resource = attributes.scope.resource;
    Question {
        group: resource.group.clone(),
        resource: resource.plural.clone(),
        subresource: attributes.subresource().to_owned(),
        namespace: namespace(attributes).to_owned(),
        name: attributes.name.to_owned(),
        ..Question::default()
    }
}

/// Evaluates something by the rights of the write's author. Expressions cannot wait: where a webhook has to be asked about a
/// right, that is done after the evaluation, which is then made anew.
pub(super) async fn by_rights<T>(
    authorizer: &Authz,
    user: &UserInfo,
    evaluate: impl Fn(&Rights<'_>) -> T + Send + Sync,
) -> T
where
    T: Send,
{
    let mut rights = Rights { authorizer, user, known: Vec::new(), open: Mutex::default() };
    loop {
        let value = evaluate(&rights);
        let open = std::mem::take(&mut *rights.open.lock());
        if open.is_empty() {
            return value;
        }
        for (user, request) in open {
            let decision = authorizer.authorize(&user, &request).await;
            rights.known.push(((user, request), decision));
        }
    }
}

/// Who wants to do what.
type Asked = (UserInfo, RequestInfo);

/// The rights of the write's author, as far as they are known.
pub(super) struct Rights<'a> {
    authorizer: &'a Authz,
    user: &'a UserInfo,
    /// What others said.
    known: Vec<(Asked, Decision)>,
    /// What they have to be asked.
    open: Mutex<Vec<Asked>>,
}

impl Authority for Rights<'_> {
    fn rule(&self, question: &Question) -> Ruling {
        let user = match &question.asker {
            Asker::Author => Cow::Borrowed(self.user),
            Asker::ServiceAccount { namespace, name } => {
                Cow::Owned(UserInfo::service_account(namespace, name))
            }
        };
        let request = asked(question);
        let known = || {
            let known = self.known.iter().find(|((who, what), _)| *who == *user && *what == request)?;
            Some(known.1.clone())
        };
        let Some(decision) = self.authorizer.from_memory(&user, &request).or_else(known) else {
            let asked = (user.into_owned(), request);
            let mut open = self.open.lock();
            if !open.contains(&asked) {
                open.push(asked);
            }
            return Ruling::default();
        };
        let reason = if decision.is_allowed() { String::new() } else { decision.reason };
        Ruling { allowed: decision.verdict == Verdict::Allow, reason, error: decision.error }
    }
}

/// The request that a question is about.
fn asked(question: &Question) -> RequestInfo {
    RequestInfo {
        is_resource: question.path.is_none(),
        path: question.path.clone().unwrap_or_default(),
        verb: question.verb.clone(),
        group: question.group.clone(),
        version: "*".to_owned(),
        namespace: question.namespace.clone(),
        resource: question.resource.clone(),
        subresource: question.subresource.clone(),
        name: question.name.clone(),
        field_selector: selectors::of_fields(&question.field_selector),
        label_selector: selectors::of_labels(&question.label_selector),
        ..RequestInfo::default()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::authz::AuthorizerChain;
    use crate::callout::testing::Server;
    use crate::testing::Objects;

    /// Allows what it is asked about secrets.
    fn opinion(_: &str, mut review: Value) -> Option<(u16, String)> {
        let allowed = review["spec"]["resourceAttributes"]["resource"] == "secrets";
        review["status"] = json!({ "allowed": allowed, "reason": "as it is" });
        Some((200, review.to_string()))
    }

    #[tokio::test]
    async fn webhook_is_asked_after_an_evaluation_that_needed_it() {
        let server = Server::start(opinion).await;
        let file = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n- type: Webhook\n  \
             name: hook\n  webhook:\n    timeout: 3s\n    subjectAccessReviewVersion: v1\n    failurePolicy: Deny\n    \
             connectionInfo: {{type: KubeConfigFile, kubeConfigFile: {}}}\n",
            server.kubeconfig().display()
        );
        let authorizer = Authz::new(Arc::new(Objects::default()));
        authorizer.set_chain(AuthorizerChain::of_file(&file, Path::new("f"), None).unwrap());
        let evaluations = AtomicU32::new(0);
        let allowed = |rights: &Rights<'_>, resource: &str| {
            let (verb, resource) = ("get".to_owned(), resource.to_owned());
            rights.rule(&Question { verb, resource, ..Question::default() }).allowed
        };
        let jane = UserInfo::new("jane", &[]);
        let found = by_rights(&authorizer, &jane, |rights| {
            evaluations.fetch_add(1, Ordering::Relaxed);
            // Whether there is a second question depends on the first one's answer.
            let first = allowed(rights, "secrets") && allowed(rights, "secrets");
            (first, first && allowed(rights, "nodes"))
        });
        assert_eq!(found.await, (true, false));
        assert_eq!((evaluations.into_inner(), server.calls()), (3, 2));
        let master = UserInfo::new("root", &["system:masters"]);
        assert!(by_rights(&authorizer, &master, |rights| allowed(rights, "nodes")).await);
        assert_eq!(server.calls(), 2);
    }
}
