//! Rules in CEL (`x-kubernetes-validations`) of a schema, evaluated over an object.
//!
//! A rule sees the value beside which it stands as `self`, and on an update the value that it follows as `oldSelf`; a rule
//! that asks for `oldSelf` is about changes alone. Of a successor, rules about values that did not change are not broken
//! by them (ratcheting).

use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;

use super::Node;
use super::prune::is_of_object;
use super::sets::Former;
use crate::cel::estimate::Declared;
use crate::cel::{Budget, EXPRESSION, Fault, OBJECT, Program, Type, Value as Cel};
use crate::object::{flag, items, text};
use crate::validation::FieldError;

/// A rule.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) source: String,
    program: Result<Arc<Program>, String>,
    message: String,
    message_expression: Option<Result<Arc<Program>, String>>,
    reason: String,
    field_path: String,
    optional_old: bool,
    pub(crate) about_changes: bool,
}

impl Rule {
    /// What the rule may cost for one value that is declared so.
    pub(crate) fn estimate(&self, declared: &Rc<Declared>) -> u64 {
        self.program.as_ref().map_or(0, |program| program.estimate(declared, self.optional_old))
    }

    /// The same of the expression that makes its message, if both are good.
    pub(crate) fn message_estimate(&self, declared: &Rc<Declared>) -> Option<u64> {
        let message = self.message_expression.as_ref()?.as_ref().ok().filter(|_| self.program.is_ok())?;
        Some(message.estimate(declared, self.optional_old))
    }

    /// What is wrong with the expressions of the rule: the member, and why.
    pub(crate) fn faults(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let rule = self.program.as_ref().err().map(|why| ("rule", why));
        let message = self.message_expression.as_ref().and_then(|one| one.as_ref().err());
        rule.into_iter().chain(message.map(|why| ("messageExpression", why)))
    }
}

/// Reads the rules beside a schema. An expression that is none is kept as why it is none.
pub(super) fn read(schema: &Value, node: &Node) -> Vec<Rule> {
    let one = |rule: &Value| {
        let source = text(rule, &["rule"]);
        let optional_old = flag(rule, &["optionalOldSelf"]);
        let own = if node.int_or_string { Type::Any } else { Type::of(node) };
        let old = if optional_old { Type::Any } else { own.clone() };
        let compile = |source: &str, wanted: &Type<'_>| {
            let variables = [("self", own.clone()), ("oldSelf", old.clone())];
            Program::compile(source, &variables, wanted).map(Arc::new)
        };
        let program = compile(source, &Type::Bool);
        let message_expression = text(rule, &["messageExpression"]);
        Rule {
            about_changes: program.as_ref().is_ok_and(|program| program.mentions("oldSelf")),
            program,
            source: source.to_owned(),
            message: text(rule, &["message"]).trim().to_owned(),
            message_expression: (!message_expression.is_empty())
                .then(|| compile(message_expression, &Type::Text)),
            reason: text(rule, &["reason"]).to_owned(),
            field_path: text(rule, &["fieldPath"]).to_owned(),
            optional_old,
        }
    };
    items(schema, &["x-kubernetes-validations"]).iter().map(one).collect()
}

/// Whether a schema has rules, or anything within it has.
pub(super) fn are_there(node: &Node) -> bool {
    !node.rules.is_empty()
        || node.properties.values().any(are_there)
        || node.items.as_deref().is_some_and(are_there)
        || matches!(&node.more, super::More::Like(inner) if are_there(inner))
}

/// Where a member is: one that the schema names below its object, any other one by its key.
fn place(node: &Node, path: &str, name: &str) -> String {
    match (node.properties.contains_key(name), path) {
        (true, "") => name.to_owned(),
        (true, path) => format!("{path}.{name}"),
        (false, path) => format!("{path}[{name}]"),
    }
}

/// The rules that an object breaks.
pub(super) fn check(node: &Node, object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let mut walk = Walk { budget: Budget::new(OBJECT), errors, frozen: false };
    let _ = walk.value(node, "", object, old);
}

struct Walk<'e> {
    budget: Budget,
    errors: &'e mut Vec<FieldError>,
    /// Whether the list around the value did not change: then neither did its items, though they follow none.
    frozen: bool,
}

impl Walk<'_> {
    fn value(&mut self, node: &Node, path: &str, value: &Value, old: Option<&Value>) -> Result<(), Fault> {
        let unchanged = self.frozen || old == Some(value);
        for rule in &node.rules {
            // What did not change breaks no rule but one about changes.
            if !unchanged || rule.about_changes {
                self.rule(rule, node, path, value, old)?;
            }
        }
        match value {
            Value::Object(members) => {
                for (name, inner) in members {
                    let skipped = node.embedded && is_of_object(name);
                    if let Some(inner_node) = node.member(name).filter(|node| !skipped && are_there(node)) {
                        let at = place(node, path, name);
                        self.value(inner_node, &at, inner, old.and_then(|old| old.get(name)))?;
                    }
                }
            }
            Value::Array(items) => {
                let Some(inner) = node.items.as_deref().filter(|inner| are_there(inner)) else {
                    return Ok(());
                };
                let before = Former::of(node, old);
                let outside = std::mem::replace(&mut self.frozen, unchanged);
                for (index, item) in items.iter().enumerate() {
                    let old = before.counterpart(node, item);
                    self.value(inner, &format!("{path}[{index}]"), item, old)?;
                }
                self.frozen = outside;
            }
            _ => {}
        }
        Ok(())
    }

    fn rule(
        &mut self,
        rule: &Rule,
        node: &Node,
        path: &str,
        value: &Value,
        old: Option<&Value>,
    ) -> Result<(), Fault> {
        let program = match &rule.program {
            Ok(program) => program,
            Err(why) => {
                self.broken(rule, node, path, format!("rule compile error: {why}"));
                return Ok(());
            }
        };
        let mut variables = vec![("self", Cel::of(value, Some(node)))];
        if rule.about_changes {
            let old = old.map(|old| Cel::of(old, Some(node)));
            match (rule.optional_old, old) {
                (true, old) => variables.push(("oldSelf", Cel::Optional(old.map(Rc::new)))),
                (false, Some(old)) => variables.push(("oldSelf", old)),
                // Nothing changed: there was nothing.
                (false, None) => return Ok(()),
            }
        }
        match self.evaluate(program, &variables) {
            Ok(Cel::Bool(true)) => {}
            Ok(Cel::Bool(false)) => {
                let message = self.message(rule, &variables);
                // Objects and lists would be long.
                let shown = (!value.is_object() && !value.is_array()).then(|| value.clone());
                self.report(rule, node, path, shown, message);
            }
            Ok(_) => self.broken(rule, node, path, "rule evaluation error: the result is no bool".to_owned()),
            Err(Fault::Error(why)) => {
                let of = if rule.message.is_empty() { &rule.source } else { &rule.message };
                self.broken(rule, node, path, format!("{why} evaluating rule: {of}"));
            }
            Err(Fault::Cost) => {
                let why = "no further validation rules will be run due to call cost exceeds limit for rule";
                self.broken(rule, node, path, format!("{why}: {}", rule.source));
                return Err(Fault::Cost);
            }
        }
        Ok(())
    }

    /// Evaluates within the limit of one expression and what is left for all.
    fn evaluate<'a>(
        &mut self,
        program: &'a Program,
        variables: &[(&'a str, Cel<'a>)],
    ) -> Result<Cel<'a>, Fault> {
        let limit = EXPRESSION.min(self.budget.left());
        let mut own = Budget::new(limit);
        let outcome = program.evaluate(variables, &mut own);
        self.budget.spend(limit - own.left())?;
        outcome
    }

    /// What to say of a broken rule: what its expression says, or else what is written, or the rule itself.
    fn message<'a>(&mut self, rule: &'a Rule, variables: &[(&'a str, Cel<'a>)]) -> String {
        if let Some(Ok(program)) = &rule.message_expression
            && let Ok(Cel::Text(text)) = self.evaluate(program, variables)
            && !text.trim().is_empty()
            && !text.contains('\n')
        {
            return text.trim().to_owned();
        }
        if rule.message.is_empty() {
            format!("failed rule: {}", rule.source.trim())
        } else {
            rule.message.clone()
        }
    }

    /// Reports a rule that could not be asked.
    fn broken(&mut self, rule: &Rule, node: &Node, path: &str, message: String) {
        let kind = node.kind.map_or("", super::Kind::as_str);
        self.report(rule, node, path, Some(kind.into()), message);
    }

    fn report(&mut self, rule: &Rule, node: &Node, path: &str, shown: Option<Value>, message: String) {
        let field = match (path, rule.field_path.as_str()) {
            (path, "") => path.to_owned(),
            ("", below) => below.trim_start_matches('.').to_owned(),
            (path, below) => format!("{path}{below}"),
        };
        let kind = node.kind.map_or("", super::Kind::as_str);
        self.errors.push(match rule.reason.as_str() {
            "FieldValueForbidden" => FieldError::forbidden(field, message),
            "FieldValueRequired" => FieldError::required(field, message),
            "FieldValueDuplicate" => FieldError { detail: message, ..FieldError::duplicate(field, kind) },
            _ => FieldError { value: shown, ..FieldError::invalid(field, kind, message) },
        });
    }
}
