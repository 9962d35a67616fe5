//! Evaluation: a walk over the expression that pays for each step.

use std::borrow::Cow;
use std::rc::Rc;

use ::cel::common::ast::{
    ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators as op,
};

use super::{Budget, Fault, Outcome, Value, binding, compare, functions};

/// The variables that an expression sees, the innermost first.
pub(super) struct Scope<'s, 'a> {
    pub(super) name: &'s str,
    pub(super) value: Value<'a>,
    pub(super) outer: Option<&'s Scope<'s, 'a>>,
}

impl<'a> Scope<'_, 'a> {
    fn find(&self, name: &str) -> Option<&Value<'a>> {
        let mut scope = Some(self);
        while let Some(one) = scope {
            if one.name == name {
                return Some(&one.value);
            }
            scope = one.outer;
        }
        None
    }
}

pub(super) fn run<'a>(
    expression: &'a IdedExpr,
    variables: &[(&'a str, Value<'a>)],
    budget: &mut Budget,
) -> Outcome<Value<'a>> {
    match variables.split_first() {
        None => Evaluation { budget }.value(expression, None),
        Some(_) => bind(expression, variables, None, budget),
    }
}

fn bind<'a>(
    expression: &'a IdedExpr,
    variables: &[(&'a str, Value<'a>)],
    outer: Option<&Scope<'_, 'a>>,
    budget: &mut Budget,
) -> Outcome<Value<'a>> {
    match variables.split_first() {
        None => Evaluation { budget }.value(expression, outer),
        Some(((name, value), rest)) => {
            let scope = Scope { name, value: value.clone(), outer };
            bind(expression, rest, Some(&scope), budget)
        }
    }
}

pub(super) struct Evaluation<'b> {
    pub(super) budget: &'b mut Budget,
}

impl Evaluation<'_> {
    pub(super) fn value<'a>(
        &mut self,
        expression: &'a IdedExpr,
        scope: Option<&Scope<'_, 'a>>,
    ) -> Outcome<Value<'a>> {
        self.budget.spend(1)?;
        match &expression.expr {
            Expr::Literal(literal) => Ok(of_literal(literal)),
            Expr::Ident(name) => match scope.and_then(|scope| scope.find(name)) {
                Some(value) => Ok(value.clone()),
                None => functions::type_named(name)
                    .map(Value::Type)
                    .ok_or_else(|| Fault::error(format!("undeclared reference to '{name}'"))),
            },
            Expr::Select(select) => self.select(select, scope),
            Expr::Call(call) => {
                let (name, target) = (call.func_name.as_str(), call.target.as_deref());
                self.call(name, target, &call.args, scope)
            }
            Expr::List(list) => {
                let mut items = Vec::with_capacity(list.elements.len());
                for (at, element) in list.elements.iter().enumerate() {
                    let value = self.value(element, scope)?;
                    match value {
                        Value::Optional(inner) if list.optional_indices.contains(&at) => {
                            items.extend(inner.map(|inner| Value::clone(&inner)));
                        }
                        value => items.push(value),
                    }
                }
                Ok(Value::list(items))
            }
            Expr::Map(map) => {
                let mut entries = Vec::with_capacity(map.entries.len());
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else { continue };
                    let (key, value) = (self.value(&entry.key, scope)?, self.value(&entry.value, scope)?);
                    match value {
                        Value::Optional(inner) if entry.optional => {
                            entries.extend(inner.map(|inner| (key, Value::clone(&inner))));
                        }
                        value => entries.push((key, value)),
                    }
                }
                Ok(Value::Map(Rc::new(entries)))
            }
            Expr::Comprehension(one) => self.comprehension(one, scope),
            Expr::Struct(one) => {
                let mut fields = Vec::with_capacity(one.entries.len());
                for entry in &one.entries {
                    let EntryExpr::StructField(field) = &entry.expr else { continue };
                    match self.value(&field.value, scope)? {
                        Value::Optional(inner) if field.optional => {
                            fields.extend(inner.map(|inner| (field.field.as_str(), Value::clone(&inner))));
                        }
                        value => fields.push((field.field.as_str(), value)),
                    }
                }
                Ok(Value::Message(Rc::new(fields)))
            }
            Expr::Unspecified => Err(Fault::error("there is no expression")),
        }
    }

    fn select<'a>(&mut self, select: &'a SelectExpr, scope: Option<&Scope<'_, 'a>>) -> Outcome<Value<'a>> {
        let operand = self.value(&select.operand, scope)?;
        let (operand, optional) = match operand {
            Value::Optional(None) if select.test => return Ok(Value::Bool(false)),
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => (Value::clone(&inner), true),
            operand => (operand, false),
        };
        if let Value::Variables(known) = &operand {
            let found = known.iter().find(|(name, _)| *name == select.field);
            return match found {
                found if select.test => Ok(Value::Bool(found.is_some())),
                Some((_, outcome)) => outcome.clone(),
                None => Err(Fault::error(format!("no such key: {}", select.field))),
            };
        }
        if !operand.is_map() {
            let why = format!("no such overload: {} has no fields", operand.type_name());
            return Err(Fault::error(why));
        }
        let found = operand.member(&select.field);
        match found {
            found if select.test => Ok(Value::Bool(found.is_some())),
            found if optional => Ok(Value::Optional(found.map(Rc::new))),
            Some(found) => Ok(found),
            None => Err(Fault::error(format!("no such key: {}", select.field))),
        }
    }

    fn call<'a>(
        &mut self,
        name: &'a str,
        target: Option<&'a IdedExpr>,
        arguments: &'a [IdedExpr],
        scope: Option<&Scope<'_, 'a>>,
    ) -> Outcome<Value<'a>> {
        match (name, arguments) {
            (op::LOGICAL_AND, [left, right]) => return self.either(left, right, false, scope),
            (op::LOGICAL_OR, [left, right]) => return self.either(left, right, true, scope),
            (op::CONDITIONAL, [condition, yes, no]) => {
                let branch = if self.truth(condition, scope)? { yes } else { no };
                return self.value(branch, scope);
            }
            (op::NOT_STRICTLY_FALSE, [one]) => {
                return match self.value(one, scope) {
                    Ok(Value::Bool(false)) => Ok(Value::Bool(false)),
                    Err(Fault::Cost) => Err(Fault::Cost),
                    _ => Ok(Value::Bool(true)),
                };
            }
            _ => {}
        }
        if let Some(target) = target
            && binding::variables(name, arguments).is_some()
        {
            return self.binding(name, target, arguments, scope);
        }
        let space = target
            .and_then(|target| functions::namespace(target))
            .filter(|space| scope.is_none_or(|scope| scope.find(space).is_none()));
        let full = space.map(|space| format!("{space}.{name}"));
        let mut values = Vec::with_capacity(arguments.len() + 1);
        if let (None, Some(target)) = (space, target) {
            values.push(self.value(target, scope)?);
        }
        for argument in arguments {
            values.push(self.value(argument, scope)?);
        }
        self.budget.spend(values.iter().map(Value::weight).sum())?;
        functions::call(full.as_deref().unwrap_or(name), &values, self.budget)
    }

    pub(super) fn truth<'a>(
        &mut self,
        expression: &'a IdedExpr,
        scope: Option<&Scope<'_, 'a>>,
    ) -> Outcome<bool> {
        match self.value(expression, scope)? {
            Value::Bool(one) => Ok(one),
            other => Err(Fault::error(format!("no such overload: {} is no bool", other.type_name()))),
        }
    }

    /// `&&` and `||`: one side alone may decide, whatever is wrong with the other.
    fn either<'a>(
        &mut self,
        left: &'a IdedExpr,
        right: &'a IdedExpr,
        decides: bool,
        scope: Option<&Scope<'_, 'a>>,
    ) -> Outcome<Value<'a>> {
        let first = self.truth(left, scope);
        if matches!(first, Ok(one) if one == decides) || first == Err(Fault::Cost) {
            return first.map(Value::Bool);
        }
        let second = self.truth(right, scope);
        match (first, second) {
            (_, Err(Fault::Cost)) => Err(Fault::Cost),
            (_, Ok(one)) if one == decides => Ok(Value::Bool(decides)),
            (Err(fault), _) | (_, Err(fault)) => Err(fault),
            _ => Ok(Value::Bool(!decides)),
        }
    }

    /// `all`, `exists`, `map`, `filter` and the like, which the parser made into one form.
    fn comprehension<'a>(
        &mut self,
        one: &'a ComprehensionExpr,
        scope: Option<&Scope<'_, 'a>>,
    ) -> Outcome<Value<'a>> {
        let range = self.value(&one.iter_range, scope)?;
        self.budget.spend(range.count().unwrap_or_default() as u64)?;
        let pairs = range
            .pairs()
            .ok_or_else(|| Fault::error(format!("no such overload: {} has no items", range.type_name())))?;
        let list = !range.is_map();
        let mut result = self.value(&one.accu_init, scope)?;
        if let (Value::List(empty), Some(step)) = (&result, Growth::of(one))
            && empty.is_empty()
        {
            return self.grow(one, &step, pairs, list, scope);
        }
        for (key, item) in pairs {
            // With one variable, a list gives its items and a map its keys.
            let (first, second) = match (&one.iter_var2, list) {
                (Some(_), _) => (key, item),
                (None, true) => (item, Value::Null),
                (None, false) => (key, Value::Null),
            };
            let outer = Scope { name: &one.accu_var, value: result.clone(), outer: scope };
            let inner = Scope { name: &one.iter_var, value: first, outer: Some(&outer) };
            let name = one.iter_var2.as_deref().unwrap_or_default();
            let innermost = Scope { name, value: second, outer: Some(&inner) };
            if !self.truth(&one.loop_cond, Some(&innermost))? {
                break;
            }
            result = self.value(&one.loop_step, Some(&innermost))?;
        }
        let last = Scope { name: &one.accu_var, value: result, outer: scope };
        self.value(&one.result, Some(&last))
    }
}

/// How `map` and `filter` make their list: an item at a time, perhaps only if a condition holds.
struct Growth<'e> {
    condition: Option<&'e IdedExpr>,
    item: &'e IdedExpr,
}

impl<'e> Growth<'e> {
    /// The form that the parser gives these two, in which nothing else mentions the list.
    fn of(one: &'e ComprehensionExpr) -> Option<Self> {
        let is_list = |expression: &IdedExpr| binding::name_of(expression) == Some(&one.accu_var);
        if !is_list(&one.result) || !matches!(one.loop_cond.expr, Expr::Literal(LiteralValue::Boolean(_))) {
            return None;
        }
        let appended = |step: &'e IdedExpr| match &step.expr {
            Expr::Call(call) if call.func_name == op::ADD => match &call.args[..] {
                [list, IdedExpr { expr: Expr::List(items), .. }] if is_list(list) => items.elements.first(),
                _ => None,
            },
            _ => None,
        };
        if let Some(item) = appended(&one.loop_step) {
            return Some(Self { condition: None, item });
        }
        match &one.loop_step.expr {
            Expr::Call(call) if call.func_name == op::CONDITIONAL => match &call.args[..] {
                [condition, yes, no] if is_list(no) => {
                    Some(Self { condition: Some(condition), item: appended(yes)? })
                }
                _ => None,
            },
            _ => None,
        }
    }
}

impl Evaluation<'_> {
    fn grow<'a>(
        &mut self,
        one: &'a ComprehensionExpr,
        step: &Growth<'a>,
        pairs: Vec<(Value<'a>, Value<'a>)>,
        list: bool,
        scope: Option<&Scope<'_, 'a>>,
    ) -> Outcome<Value<'a>> {
        let mut grown = Vec::new();
        for (key, value) in pairs {
            self.budget.spend(2)?;
            let (first, second) = match (&one.iter_var2, list) {
                (Some(_), _) => (key, value),
                (None, true) => (value, Value::Null),
                (None, false) => (key, Value::Null),
            };
            let inner = Scope { name: &one.iter_var, value: first, outer: scope };
            let name = one.iter_var2.as_deref().unwrap_or_default();
            let innermost = Scope { name, value: second, outer: Some(&inner) };
            let wanted = match step.condition {
                Some(condition) => self.truth(condition, Some(&innermost))?,
                None => true,
            };
            if wanted {
                grown.push(self.value(step.item, Some(&innermost))?);
            }
        }
        Ok(Value::list(grown))
    }
}

fn of_literal<'a>(literal: &'a LiteralValue) -> Value<'a> {
    match literal {
        LiteralValue::Boolean(one) => Value::Bool(*one.inner()),
        LiteralValue::Bytes(one) => Value::Bytes(one.inner().into()),
        LiteralValue::Double(one) => Value::Double(*one.inner()),
        LiteralValue::Int(one) => Value::Int(*one.inner()),
        LiteralValue::Null => Value::Null,
        LiteralValue::String(one) => Value::Text(Cow::Borrowed(one.inner())),
        LiteralValue::UInt(one) => Value::Uint(*one.inner()),
    }
}

/// Whether a value is in a list, or a key of a map.
pub(super) fn is_in(one: &Value<'_>, many: &Value<'_>, budget: &mut Budget) -> Outcome<bool> {
    if let (Value::Text(name), true) = (one, many.is_map()) {
        return Ok(many.member(name).is_some());
    }
    match (many.items(), many.entries()) {
        (Some(items), _) => compare::any(items.iter(), one, budget),
        (_, Some(entries)) => compare::any(entries.iter().map(|(key, _)| key), one, budget),
        _ => Err(Fault::error(format!("no such overload: @in({})", many.type_name()))),
    }
}
