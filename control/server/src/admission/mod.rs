//! Admission in code: what a request may not bring in although its author may write, and what is filled in for it.
//!
//! A plug-in is a file. Order is as upstream: all that change come before validation, all that only judge after it.
//! Plug-ins that ask somebody else (webhooks) fit the same trait, which is why it is asynchronous.

mod default_tolerations;
mod gate;
mod namespace_lifecycle;
mod priority;
mod service_account;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use skep_api::status::Status;

use crate::authz::Authz;
use crate::cache::Cache;
use crate::ids::Ids;
use crate::storage::Scope;

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
}

/// What a plug-in knows about a write.
#[derive(Clone, Copy)]
pub(crate) struct Attributes<'a> {
    pub(crate) operation: Operation,
    pub(crate) scope: &'a Scope<'a>,
    /// The name, empty while it is not known.
    pub(crate) name: &'a str,
    /// The object before the write.
    pub(crate) old: Option<&'a Value>,
}

impl Attributes<'_> {
    /// Whether the write is to an object of this kind itself, not to a part of it.
    fn is(&self, group: &str, plural: &str) -> bool {
        let resource = self.scope.resource;
        resource.group == group && resource.plural == plural && self.scope.subresource.is_empty()
    }

    fn creates_pod(&self) -> bool {
        self.operation == Operation::Create && self.is("", "pods")
    }

    /// 403 in the words of upstream's admission.
    fn forbid(&self, why: &str) -> Status {
        let resource = self.scope.resource;
        Status::forbidden(&resource.group, &resource.plural, self.name, why)
    }
}

/// One plug-in.
#[async_trait]
pub(crate) trait Plugin: Send + Sync + 'static {
    /// Changes the object of a create or update.
    async fn mutate(&self, _attributes: &Attributes<'_>, _object: &mut Value) -> Result<(), Status> {
        Ok(())
    }

    /// Refuses a write. `object` is what would be written, nothing for a deletion.
    async fn validate(&self, _attributes: &Attributes<'_>, _object: Option<&Value>) -> Result<(), Status> {
        Ok(())
    }
}

/// The plug-ins, in order.
#[derive(Clone)]
pub(crate) struct Chain(Arc<[Box<dyn Plugin>]>);

impl Chain {
    /// The plug-ins that are always there.
    pub(crate) fn builtin(cache: &Arc<Cache>, ids: &Ids, authorizer: Arc<Authz>) -> Self {
        let plugins: Vec<Box<dyn Plugin>> = vec![
            Box::new(namespace_lifecycle::NamespaceLifecycle::new(cache.clone())),
            Box::new(service_account::ServiceAccount::new(cache.clone(), ids.clone())),
            Box::new(default_tolerations::DefaultTolerations),
            Box::new(priority::Priority::new(cache.clone())),
            Box::new(gate::Gate::new(authorizer)),
        ];
        Self(plugins.into())
    }

    pub(crate) async fn mutate(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        for plugin in self.0.iter() {
            plugin.mutate(attributes, object).await?;
        }
        Ok(())
    }

    pub(crate) async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
    ) -> Result<(), Status> {
        for plugin in self.0.iter() {
            plugin.validate(attributes, object).await?;
        }
        Ok(())
    }
}
