//! One handler per verb, the same for every kind, and those of subresources that are operations of their own.
//!
//! A handler reads options and body, calls the cache or the storage, and says in which form to answer. Who may do it was
//! decided before.

mod apply;
mod binding;
mod components;
mod delete;
mod eviction;
mod patch;
mod read;
mod scale;
mod watch;
mod write;

use std::sync::Arc;

use bytes::Bytes;
use http::header::USER_AGENT;
use http::request::Parts;
use http::{Response, StatusCode};
use parking_lot::Mutex;
use serde_json::Value;
use skep_api::decode::{self, FieldValidation};
use skep_api::protobuf;
use skep_api::registry::{Registry, Resource};
use skep_api::status::Status;
use skep_api::validation;
use tokio::sync::OwnedRwLockReadGuard;
use tokio::time::Instant;

use crate::admission::{Asked, Attributes, Notes, Operation};
use crate::audit::Record;
use crate::body::Body;
use crate::cache::Object;
use crate::content;
use crate::fairness::Permit;
use crate::latencies::Layer;
use crate::line::no_such_method;
use crate::negotiate::{self, Form, Number};
use crate::query::Query;
use crate::request::RequestInfo;
use crate::respond::{Manner, Renderer};
use crate::server::Inner;
use crate::storage::{Ownership, Scope};
use crate::user::UserInfo;

pub(crate) use patch::TAKEN as PATCHES;

/// Names of field managers are at most so long (characters).
pub(crate) const LONGEST_MANAGER: usize = 128;

/// A request for a resource, let in.
pub(crate) struct Call {
    pub(crate) server: Arc<Inner>,
    pub(crate) resource: Arc<Resource>,
    /// All kinds, as they were when the request came.
    pub(crate) kinds: Arc<Registry>,
    pub(crate) info: Arc<RequestInfo>,
    pub(crate) user: UserInfo,
    pub(crate) record: Record,
    pub(crate) query: Query,
    pub(crate) parts: Parts,
    /// What is said about the request beside its answer.
    pub(crate) notes: Arc<Notes>,
    /// When the request came.
    pub(crate) began: Instant,
    /// When the request has to be over, if it is not meant to last.
    pub(crate) deadline: Option<Instant>,
    /// The seats of a watch, until it has begun.
    pub(crate) permit: Mutex<Option<Permit>>,
}

impl Call {
    fn scope(&self, dry_run: bool) -> Scope<'_> {
        Scope {
            resource: &self.resource,
            kinds: &self.kinds,
            // The namespace of a Namespace is itself for authorization, and none for storage.
            namespace: if self.resource.namespaced { &self.info.namespace } else { "" },
            subresource: &self.info.subresource,
            user: &self.user,
            dry_run,
            ownership: Ownership::Changed(self.manager()),
            asked: Some(Asked {
                verb: &self.info.verb,
                query: &self.query,
                notes: &self.notes,
                until: self.deadline,
            }),
            admitted: false,
        }
    }

    /// Asks admission about an operation that is no write of an object of the resource: the creation of this body.
    async fn admit(&self, dry_run: bool, body: &mut Value) -> Result<(), Status> {
        let scope = self.scope(dry_run);
        let options = scope.options("CreateOptions");
        let attributes = Attributes::new(Operation::Create, &scope, &self.info.name, None, options);
        self.server.storage().admission.pass(&attributes, Some(body)).await
    }

    /// Who owns what the request changes: the field manager, or the first word of the user agent.
    fn manager(&self) -> &str {
        let agent = || {
            let header = self.parts.headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
            let name = header.unwrap_or_default().split('/').next().unwrap_or_default();
            let end = name.char_indices().nth(LONGEST_MANAGER).map_or(name.len(), |(end, _)| end);
            if name.is_empty() { "unknown" } else { &name[..end] }
        };
        self.query.get("fieldManager").filter(|name| !name.is_empty()).unwrap_or_else(agent)
    }

    /// Whether the kind still is what it was when the request came.
    fn is_current(&self) -> bool {
        let resource = &self.resource;
        let kinds = self.server.kinds().current();
        kinds
            .find(&resource.group, &resource.version, &resource.plural)
            .is_some_and(|one| Arc::ptr_eq(one, resource))
    }

    /// How the client wants its answer, which is one object, or a list.
    ///
    /// # Errors
    ///
    /// 406 when it wants it in no form that there is, or in one of the other. Upstream finds the latter out when it writes
    /// the answer, and has changed the object by then.
    fn manner(&self, number: Number) -> Result<Manner, Status> {
        let manner = self.any_manner()?;
        let Form::Metadata(wanted) = manner.form else { return Ok(manner) };
        let message = match (wanted, number) {
            (Number::One, Number::Many) => {
                let list = self.resource.internal_type("List");
                format!("you requested PartialObjectMetadata, but the requested object is a list ({list})")
            }
            (Number::Many, Number::One) => {
                let one = self.resource.internal_type("");
                format!(
                    "you requested PartialObjectMetadataList, but the requested object is not a list ({one})"
                )
            }
            _ => return Ok(manner),
        };
        Err(Status::new(406, "NotAcceptable", message))
    }

    fn any_manner(&self) -> Result<Manner, Status> {
        Manner::of(&self.parts, &self.query, self.has_protobuf())
    }

    /// Whether the client wants its answer in a form that can be watched in.
    fn is_streamable(&self) -> Result<(), Status> {
        negotiate::streamable(&self.parts.headers, self.has_protobuf())
    }

    fn has_protobuf(&self) -> bool {
        protobuf::has_kind(&self.resource.group_version(), &self.resource.kind)
    }

    fn renderer(&self, manner: &Manner) -> Renderer {
        Renderer::new(self.resource.clone(), manner, self.server.ids().now())
    }

    fn object(&self, manner: &Manner, code: StatusCode, object: &Object) -> Response<Body> {
        let _writing = self.notes.latencies.enter(Layer::Serialize);
        self.renderer(manner).respond(code, object)
    }

    /// Reads the body, whatever it is.
    async fn read(&self, body: Body) -> Result<Bytes, Status> {
        let bytes = content::read(body).await?;
        self.server.metrics().requests().body(&self.info, bytes.len());
        Ok(bytes)
    }

    /// Reads the body of a subresource that has a kind of its own.
    async fn sub_body(&self, body: Body, mode: FieldValidation) -> Result<Value, Status> {
        let encoding = negotiate::encoding(&self.parts.headers)?;
        let bytes = self.read(body).await?;
        let subresource =
            self.resource.subresource(&self.info.subresource).ok_or_else(Status::no_such_path)?;
        let (object, warnings) = decode::subresource(&self.resource, subresource, &bytes, encoding, mode)?;
        warnings.into_iter().for_each(|warning| self.notes.warn(warning));
        self.record.requested(&self.resource, &self.info.subresource, &object);
        Ok(object)
    }
}

/// Handles a request for a resource.
pub(crate) async fn handle(call: Call, body: Body) -> Result<Response<Body>, Status> {
    let part = &call.info.subresource;
    let is_there = part.is_empty() || call.resource.subresource(part).is_some();
    if let Some(deprecation) = deprecation(&call.resource).filter(|_| is_there) {
        call.notes.warn(deprecation);
        call.notes.annotate("k8s.io/deprecated", "true");
        call.server.metrics().deprecated(&call.resource, &call.info.subresource);
    }
    route(call, body).await
}

/// What everybody is told who uses a kind on its way out.
fn deprecation(resource: &Resource) -> Option<String> {
    match &resource.custom {
        Some(custom) => custom.deprecation.clone(),
        None => validation::deprecation(resource).map(str::to_owned),
    }
}

impl Call {
    /// Refuses new objects of a kind that is on its way out; who is let in is waited for before the kind goes.
    async fn enter(&self) -> Result<Option<OwnedRwLockReadGuard<()>>, Status> {
        let resource = &self.resource;
        let Some(custom) = &resource.custom else { return Ok(None) };
        let inside = self.server.kinds().enter(&custom.definition).await;
        let kinds = self.server.kinds().current();
        let now = kinds.find(&resource.group, &resource.version, &resource.plural);
        let now = now.and_then(|now| now.custom.as_ref()).ok_or_else(Status::no_such_path)?;
        if !now.terminating {
            return Ok(Some(inside));
        }
        let mut status = Status::method_not_allowed(&resource.group, &resource.plural, "create");
        status.message = "create not allowed while custom resource definition is terminating".into();
        Err(status)
    }

    /// Asks for the right to create, of who came to change something that is not there.
    async fn is_allowed_to_create(&self) -> Result<(), Status> {
        let create = RequestInfo { verb: "create".into(), ..(*self.info).clone() };
        self.server.gate().authorize(&self.user, &create).await
    }
}

async fn route(call: Call, body: Body) -> Result<Response<Body>, Status> {
    let subresource = call.info.subresource.as_str();
    let named = !call.info.name.is_empty();
    let unknown = || match &call.resource.custom {
        Some(_) => Status::method_not_allowed(&call.resource.group, &call.resource.plural, &call.info.verb),
        None => no_such_method(),
    };
    if !subresource.is_empty() {
        let found = call.resource.subresource(subresource).ok_or_else(Status::no_such_path)?;
        if !found.verbs.contains(&call.info.verb) {
            return Err(unknown());
        }
        return subresources(call, body).await;
    }
    if !call.resource.has_verb(&call.info.verb) {
        return Err(unknown());
    }
    if call.resource.group.is_empty() {
        match (call.resource.plural.as_str(), call.info.verb.as_str()) {
            ("bindings", _) if call.info.namespace.is_empty() || named => return Err(Status::no_such_path()),
            ("bindings", _) => return binding::create(&call, body).await,
            ("componentstatuses", "get") => return components::get(&call).await,
            ("componentstatuses", _) => return components::list(&call).await,
            _ => {}
        }
    }
    match call.info.verb.as_str() {
        "get" => read::get(&call).await,
        "list" => read::list(&call).await,
        "watch" => watch::watch(&call).await,
        "create" if !named && (!call.resource.namespaced || !call.info.namespace.is_empty()) => {
            write::create(&call, body).await
        }
        "update" if named => write::update(&call, body).await,
        "patch" if named => patch::patch(&call, body).await,
        "delete" => delete::delete(&call, body).await,
        "deletecollection" => delete::collection(&call, body).await,
        _ => Err(unknown()),
    }
}

async fn subresources(call: Call, body: Body) -> Result<Response<Body>, Status> {
    match (call.info.subresource.as_str(), call.info.verb.as_str()) {
        ("status" | "ephemeralcontainers" | "resize" | "approval", verb) => match verb {
            "get" => read::get(&call).await,
            "update" => write::update(&call, body).await,
            "patch" => patch::patch(&call, body).await,
            _ => Err(Status::no_such_path()),
        },
        ("finalize", "update") => write::finalize(&call, body).await,
        ("binding", "create") => binding::bind(&call, body).await,
        ("eviction", "create") => eviction::evict(&call, body).await,
        ("scale", "get") => scale::get(&call).await,
        ("scale", "update" | "patch") => scale::set(&call, body).await,
        ("token", "create") => write::token(&call, body).await,
        _ => Err(Status::no_such_path()),
    }
}
