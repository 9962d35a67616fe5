//! `authorizer`: questions about rights, asked one step after the other and answered by whoever evaluates.
//!
//! `authorizer.group('apps').resource('deployments').namespace('n').check('get').allowed()`,
//! `authorizer.path('/metrics').check('get')`, `authorizer.requestResource`, `authorizer.serviceAccount(...)`.

use std::rc::Rc;

use super::{Budget, Fault, Outcome, Value};

/// What a question costs, as upstream has it.
const COST: u64 = 350_000;

/// Who is asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Asker {
    /// The author of the request.
    #[default]
    Author,
    /// A service account.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// A question about a right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Who wants to.
    pub asker: Asker,
    /// What they want to do.
    pub verb: String,
    /// A path that is no resource; else the rest counts.
    pub path: Option<String>,
    /// API group.
    pub group: String,
    /// Plural name.
    pub resource: String,
    /// Subresource, or nothing.
    pub subresource: String,
    /// Namespace, empty for cluster scope.
    pub namespace: String,
    /// Name of the object, empty for any.
    pub name: String,
    /// Only objects with such fields, as a list selects them; empty for all.
    pub field_selector: String,
    /// Only objects with such labels; empty for all.
    pub label_selector: String,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruling {
    /// Whether they may.
    pub allowed: bool,
    /// Why.
    pub reason: String,
    /// What went wrong on the way, empty if nothing did.
    pub error: String,
}

/// Answers questions about rights.
pub trait Authority {
    /// The answer.
    fn rule(&self, question: &Question) -> Ruling;
}

/// How far a question is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Start,
    Path,
    Group,
    Resource,
}

/// A question that is being asked.
#[derive(Clone)]
pub(crate) struct Asked<'a> {
    authority: &'a dyn Authority,
    /// What the request itself is about.
    request: Rc<Question>,
    question: Rc<Question>,
    stage: Stage,
}

impl std::fmt::Debug for Asked<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked").field("question", &self.question).finish_non_exhaustive()
    }
}

impl<'a> Asked<'a> {
    /// The value of the variable `authorizer`.
    pub(crate) fn start(authority: &'a dyn Authority, request: Question) -> Self {
        Self { authority, request: Rc::new(request), question: Rc::default(), stage: Stage::Start }
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self.stage {
            Stage::Start => "kubernetes.authorization.Authorizer",
            Stage::Path => "kubernetes.authorization.PathCheck",
            Stage::Group => "kubernetes.authorization.GroupCheck",
            Stage::Resource => "kubernetes.authorization.ResourceCheck",
        }
    }

    /// `requestResource`.
    pub(super) fn member(&self, name: &str) -> Option<Value<'a>> {
        let found = name == "requestResource" && self.stage == Stage::Start;
        found.then(|| self.with(Stage::Resource, |question| *question = Question::clone(&self.request)))
    }

    fn with(&self, stage: Stage, change: impl FnOnce(&mut Question)) -> Value<'a> {
        let mut question = Question::clone(&self.question);
        let asker = question.asker.clone();
        change(&mut question);
        if !matches!(asker, Asker::Author) {
            question.asker = asker;
        }
        Value::Asked(Self { question: Rc::new(question), stage, ..self.clone() })
    }
}

pub(super) fn call<'a>(
    name: &str,
    arguments: &[Value<'a>],
    budget: &mut Budget,
) -> Option<Outcome<Value<'a>>> {
    match arguments {
        [Value::Ruling(ruling)] => Some(Ok(match name {
            "allowed" => Value::Bool(ruling.allowed),
            "reason" => Value::text(ruling.reason.as_str()),
            "errored" => Value::Bool(!ruling.error.is_empty()),
            "error" => Value::text(ruling.error.as_str()),
            _ => return None,
        })),
        [Value::Asked(asked), Value::Text(one)] => ask(name, asked, one, budget),
        [Value::Asked(asked), Value::Text(namespace), Value::Text(account)]
            if name == "serviceAccount" && asked.stage == Stage::Start =>
        {
            let asker = Asker::ServiceAccount { namespace: namespace.to_string(), name: account.to_string() };
            Some(Ok(asked.with(Stage::Start, |question| question.asker = asker)))
        }
        _ => None,
    }
}

fn ask<'a>(name: &str, asked: &Asked<'a>, text: &str, budget: &mut Budget) -> Option<Outcome<Value<'a>>> {
    let text = text.to_owned();
    Some(Ok(match (asked.stage, name) {
        (Stage::Start, "path") if text.is_empty() => {
            return Some(Err(Fault::error("path must not be empty")));
        }
        (Stage::Start, "path") => asked.with(Stage::Path, |question| question.path = Some(text)),
        (Stage::Start, "group") => asked.with(Stage::Group, |question| question.group = text),
        (Stage::Group, "resource") => asked.with(Stage::Resource, |question| question.resource = text),
        (Stage::Resource, "subresource") => {
            asked.with(Stage::Resource, |question| question.subresource = text)
        }
        (Stage::Resource, "namespace") => asked.with(Stage::Resource, |question| question.namespace = text),
        (Stage::Resource, "name") => asked.with(Stage::Resource, |question| question.name = text),
        (Stage::Resource, "fieldSelector") => {
            asked.with(Stage::Resource, |question| question.field_selector = text)
        }
        (Stage::Resource, "labelSelector") => {
            asked.with(Stage::Resource, |question| question.label_selector = text)
        }
        (Stage::Path | Stage::Resource, "check") => {
            if let Err(fault) = budget.spend(COST) {
                return Some(Err(fault));
            }
            let question = Question { verb: text, ..Question::clone(&asked.question) };
            Value::Ruling(Rc::new(asked.authority.rule(&question)))
        }
        _ => return None,
    }))
}
