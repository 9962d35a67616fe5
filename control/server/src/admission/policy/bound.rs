//! Which policies a write is for: those whose constraints it meets, under each binding whose own rules it meets, too.

use std::sync::Arc;

use serde_json::Value;
use skep_api::admissionregistration::Rules;
use skep_api::object::{at, text};
use skep_api::policy::Inputs;
use skep_api::registry::Resource;
use skep_api::status::Status;

use super::{Attributes, Ingredients, is_exempt, params, shown};
use crate::admission::compiled::Compiled;
use crate::admission::manifests::Manifests;
use crate::authz::Authz;
use crate::storage::Storage;

/// A policy with its rules.
pub(super) struct Policy<P> {
    pub(super) rules: Rules,
    pub(super) program: P,
}

/// The rules of a binding, if it has its own.
pub(super) struct Binding {
    rules: Option<Rules>,
}

fn compile_binding(binding: &Value) -> Binding {
    Binding { rules: at(binding, &["spec", "matchResources"]).map(Rules::of_constraints) }
}

/// All policies of a kind, and their bindings.
pub(super) struct Policies<P> {
    policies: Compiled<Policy<P>>,
    bindings: Compiled<Binding>,
    pub(super) storage: Storage,
    pub(super) authorizer: Arc<Authz>,
}

/// A policy under one of its bindings, with one of its parameters.
pub(super) struct Invocation<'a, P> {
    pub(super) object: Arc<Value>,
    pub(super) policy: Arc<Policy<P>>,
    pub(super) binding: Option<Arc<Value>>,
    pub(super) param: Arc<Value>,
    /// The resource in whose form the write is looked at.
    pub(super) form: &'a Resource,
    /// Why it cannot be evaluated.
    pub(super) trouble: Option<String>,
}

impl<P> Invocation<'_, P> {
    pub(super) fn policy_name(&self) -> &str {
        skep_api::object::name(&self.object)
    }

    pub(super) fn binding_name(&self) -> &str {
        self.binding.as_deref().map_or("", skep_api::object::name)
    }
}

impl<P: Send + Sync> Policies<P> {
    pub(super) fn new(
        from: &Ingredients,
        policies: &'static str,
        bindings: &'static str,
        manifests: Option<Arc<Manifests>>,
        compile: fn(&Value) -> Policy<P>,
    ) -> Self {
        Self {
            policies: Compiled::new(from.cache.clone(), policies, manifests.clone(), compile),
            bindings: Compiled::new(from.cache.clone(), bindings, manifests, compile_binding),
            storage: from.storage.clone(),
            authorizer: from.authorizer.clone(),
        }
    }

    /// Whether no policy applies anywhere, or none that has a say in a write.
    pub(super) fn are_idle(&self, attributes: &Attributes<'_>) -> bool {
        let only_files = is_exempt(attributes);
        self.bindings.is_empty(only_files) || self.policies.is_empty(only_files)
    }

    /// The policies that a write is for, in order of their names and then those of their bindings.
    pub(super) async fn of<'a>(
        &self,
        attributes: &Attributes<'a>,
        object: Option<&Value>,
    ) -> Vec<Invocation<'a, P>> {
        let mut found = Vec::new();
        let (policies, bindings, only_files) =
            (self.policies.current(), self.bindings.current(), is_exempt(attributes));
        for ((policy_object, policy), is_file) in policies.reaching(only_files) {
            let name = skep_api::object::name(policy_object);
            // What is in files is bound in files only, and what is not is not.
            let alike = bindings.reaching(only_files).filter(|(_, binds_file)| *binds_file == is_file);
            let mut own =
                alike.map(|(pair, _)| pair).filter(|(one, _)| text(one, &["spec", "policyName"]) == name);
            // A policy without bindings does nothing, whatever is wrong with it.
            let Some(first) = own.next() else { continue };
            let invocation = |form, binding: Option<&Arc<Value>>, param: Arc<Value>, trouble| Invocation {
                object: policy_object.clone(),
                policy: policy.clone(),
                binding: binding.cloned(),
                param,
                form,
                trouble,
            };
            let cache = &self.storage.cache;
            let form = match shown::matching(cache, &policy.rules, attributes, object).await {
                Ok(Some(form)) => form,
                Ok(None) => continue,
                Err(status) => {
                    let why = format!("failed to configure policy: {}", status.message);
                    found.push(invocation(attributes.scope.resource, None, Arc::default(), Some(why)));
                    continue;
                }
            };
            for (binding_object, binding) in std::iter::once(first).chain(own) {
                let wrong = |why: String| Some(format!("failed to configure binding: {why}"));
                match self.binding_matches(binding, attributes, object).await {
                    Ok(true) => {}
                    Ok(false) => continue,
                    Err(status) => {
                        let trouble = wrong(status.message);
                        found.push(invocation(form, Some(binding_object), Arc::default(), trouble));
                        continue;
                    }
                }
                let kinds = attributes.scope.kinds;
                let namespace = shown::namespace(attributes);
                match params::find(&self.storage, kinds, policy_object, binding_object, namespace).await {
                    Ok(params) => {
                        let one = |param| invocation(form, Some(binding_object), param, None);
                        found.extend(params.into_iter().map(one));
                    }
                    Err(why) => {
                        found.push(invocation(form, Some(binding_object), Arc::default(), wrong(why)));
                    }
                }
            }
        }
        found
    }

    async fn binding_matches(
        &self,
        binding: &Binding,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
    ) -> Result<bool, Status> {
        let Some(rules) = &binding.rules else { return Ok(true) };
        Ok(shown::matching(&self.storage.cache, rules, attributes, object).await?.is_some())
    }

    /// The namespace that expressions see; null for what is in none, and for namespaces themselves.
    ///
    /// # Errors
    ///
    /// 404 when it is not there.
    pub(super) async fn namespace(&self, attributes: &Attributes<'_>) -> Result<Arc<Value>, Status> {
        match attributes.namespace() {
            "" => Ok(Arc::new(Value::Null)),
            name => shown::find_namespace(&self.storage.cache, name).await,
        }
    }

    /// The write in the form that a policy asks for: the new object and the old one.
    ///
    /// # Errors
    ///
    /// When a webhook has to convert it, and does not.
    pub(super) async fn form(
        &self,
        attributes: &Attributes<'_>,
        form: &Resource,
        object: Option<&Value>,
    ) -> Result<(Value, Value), Status> {
        let own = attributes.scope.resource;
        let reform = async |one: Option<&Value>| match one {
            None => Ok(Value::Null),
            Some(one) if shown::is_own_kind(attributes) => {
                shown::reform(&self.storage.converter, own, form, one).await
            }
            Some(one) => Ok(one.clone()),
        };
        Ok((reform(object).await?, reform(attributes.old).await?))
    }
}

/// Evaluates something about a write.
pub(super) async fn with_inputs<T: Send>(
    attributes: &Attributes<'_>,
    authorizer: &Authz,
    form: &Resource,
    (object, old): (&Value, &Value),
    (param, namespace): (&Value, &Value),
    evaluate: impl Fn(&Inputs<'_>) -> T + Send + Sync,
) -> T {
    let (request, resource) = (shown::request(attributes, form), shown::question(attributes));
    let by = |rights: &shown::Rights<'_>| {
        evaluate(&Inputs {
            object,
            old,
            request: &request,
            params: param,
            namespace,
            authority: rights,
            resource: &resource,
        })
    };
    shown::by_rights(authorizer, attributes.user(), by).await
}
