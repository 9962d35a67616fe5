//! Macros that the parser leaves as calls: those of optional values, and those with two variables.
//!
//! `x.optMap(v, e)`, `x.optFlatMap(v, e)`; `m.all(k, v, e)`, `exists`, `existsOne`; `m.transformList(k, v, e)` and
//! `m.transformMap(k, v, e)`, each with a condition before the last argument, if wanted.

use std::rc::Rc;

use ::cel::common::ast::{Expr, IdedExpr};

use super::evaluate::{Evaluation, Scope};
use super::{Fault, Outcome, Value};

/// How many of a call's arguments are variables, if it is such a macro.
pub(super) fn variables(name: &str, arguments: &[IdedExpr]) -> Option<usize> {
    let count = match (name, arguments.len()) {
        ("optMap" | "optFlatMap", 2) => 1,
        ("all" | "exists" | "existsOne" | "exists_one", 3) => 2,
        ("transformList" | "transformMap", 3 | 4) => 2,
        _ => return None,
    };
    arguments[..count].iter().all(|one| name_of(one).is_some()).then_some(count)
}

/// The name that an identifier is.
pub(super) fn name_of(expression: &IdedExpr) -> Option<&str> {
    match &expression.expr {
        Expr::Ident(name) => Some(name),
        _ => None,
    }
}

impl Evaluation<'_> {
    /// The value of such a macro.
    pub(super) fn binding<'a>(
        &mut self,
        name: &str,
        target: &'a IdedExpr,
        arguments: &'a [IdedExpr],
        scope: Option<&Scope<'_, 'a>>,
    ) -> Outcome<Value<'a>> {
        let range = self.value(target, scope)?;
        let variable = |at: usize| name_of(&arguments[at]).unwrap_or_default();
        if name.starts_with("opt") {
            let Value::Optional(inner) = &range else {
                return Err(Fault::error(format!("no such overload: {name} of {}", range.type_name())));
            };
            let Some(inner) = inner else { return Ok(Value::Optional(None)) };
            let inner = Scope { name: variable(0), value: Value::clone(inner), outer: scope };
            let value = self.value(&arguments[1], Some(&inner))?;
            return Ok(if name == "optMap" { Value::Optional(Some(Rc::new(value))) } else { value });
        }
        let pairs = range
            .pairs()
            .ok_or_else(|| Fault::error(format!("no such overload: {} has no items", range.type_name())))?;
        let (last, condition) = (&arguments[arguments.len() - 1], arguments.get(2));
        let condition = condition.filter(|_| arguments.len() == 4);
        let (mut list, mut map, mut held) = (Vec::new(), Vec::new(), 0usize);
        let mut fault = None;
        for (key, value) in pairs {
            self.budget.spend(1)?;
            let outer = Scope { name: variable(0), value: key.clone(), outer: scope };
            let inner = Scope { name: variable(1), value, outer: Some(&outer) };
            if let Some(condition) = condition
                && !self.truth(condition, Some(&inner))?
            {
                continue;
            }
            match name {
                "transformList" => list.push(self.value(last, Some(&inner))?),
                "transformMap" => map.push((key, self.value(last, Some(&inner))?)),
                _ => match (self.truth(last, Some(&inner)), name) {
                    (Err(Fault::Cost), _) => return Err(Fault::Cost),
                    (Ok(false), "all") => return Ok(Value::Bool(false)),
                    (Ok(true), "exists") => return Ok(Value::Bool(true)),
                    (Ok(one), _) => held += usize::from(one),
                    (Err(why), _) => fault = Some(why),
                },
            }
        }
        match (fault, name) {
            (_, "transformList") => Ok(Value::list(list)),
            (_, "transformMap") => Ok(Value::Map(Rc::new(map))),
            (Some(fault), _) => Err(fault),
            (None, "all") => Ok(Value::Bool(true)),
            (None, "exists") => Ok(Value::Bool(false)),
            (None, _) => Ok(Value::Bool(held == 1)),
        }
    }
}
