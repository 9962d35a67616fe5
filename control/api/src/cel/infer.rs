//! What can be told of an expression before it has values: every name is known, every function is there, fields are in
//! the schema, and operands whose types are known fit each other.

use ::cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators as op};

use super::value::unescape;
use super::{binding, functions, local};
use crate::custom::{Kind, More, Node};
use crate::schema::{Shape, TypeId, Types};

/// What is known of the type of an expression.
#[derive(Clone, Debug)]
pub(crate) enum Type<'n> {
    /// Nothing.
    Any,
    Bool,
    Int,
    Double,
    Text,
    /// A list of these.
    List(Box<Type<'n>>),
    /// What a schema describes: an object or map.
    Object(&'n Node),
    /// What the schema of a built-in kind describes.
    Known(&'n Types, TypeId),
    /// A map of these.
    MapOf(Box<Type<'n>>),
    /// Named values of any type.
    Record(&'n [String]),
    /// Another one, by its name.
    Other(&'static str),
}

impl<'n> Type<'n> {
    /// The type of what a schema describes.
    pub(crate) fn of(node: &'n Node) -> Self {
        if node.int_or_string || node.nullable {
            return Self::Any;
        }
        match node.kind {
            Some(Kind::Boolean) => Self::Bool,
            Some(Kind::Integer) => Self::Int,
            Some(Kind::Number) => Self::Double,
            Some(Kind::String) => match node.limits.format.as_str() {
                "date-time" => Self::Other("timestamp"),
                "duration" => Self::Other("duration"),
                "byte" => Self::Other("bytes"),
                _ => Self::Text,
            },
            Some(Kind::Array) => Self::List(Box::new(node.items.as_deref().map_or(Self::Any, Self::of))),
            Some(Kind::Object) => Self::Object(node),
            None => Self::Any,
        }
    }

    /// The type of what the schema of a built-in kind describes.
    pub(crate) fn of_shape(types: &'n Types, shape: &Shape) -> Self {
        match shape {
            Shape::String => Self::Text,
            Shape::Boolean => Self::Bool,
            Shape::Int32 | Shape::Int64 => Self::Int,
            Shape::Number => Self::Double,
            Shape::Bytes => Self::Other("bytes"),
            Shape::Time | Shape::MicroTime => Self::Other("timestamp"),
            Shape::Quantity | Shape::IntOrString | Shape::Any => Self::Any,
            Shape::Object(id) => Self::Known(types, *id),
            Shape::List(inner) => Self::List(Box::new(Self::of_shape(types, inner))),
            Shape::Map(inner) => Self::MapOf(Box::new(Self::of_shape(types, inner))),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Any => "dyn",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Double => "double",
            Self::Text => "string",
            Self::List(_) => "list",
            Self::Object(_) | Self::Known(..) | Self::MapOf(_) | Self::Record(_) => "map",
            Self::Other(name) => name,
        }
    }

    /// The name with what is inside: `list(int)`.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::List(inner) => format!("list({})", inner.shown()),
            Self::MapOf(inner) => format!("map(string, {})", inner.shown()),
            other => other.name().to_owned(),
        }
    }

    /// Whether a value of this type may be of the other.
    pub(super) fn may_be(&self, other: &Type<'_>) -> bool {
        matches!(self, Self::Any) || matches!(other, Type::Any) || self.name() == other.name()
    }

    fn item(&self) -> Type<'n> {
        match self {
            Self::List(inner) => (**inner).clone(),
            Self::Object(_) | Self::Known(..) | Self::MapOf(_) => Self::Text,
            _ => Self::Any,
        }
    }

    /// The type of a field.
    fn field(&self, name: &str) -> Result<Type<'n>, String> {
        match self {
            Self::Any | Self::Other(_) => Ok(Self::Any),
            Self::Record(fields) if fields.iter().any(|field| field == name) => Ok(Self::Any),
            Self::Record(_) => Err(format!("undefined field '{name}'")),
            Self::MapOf(inner) => Ok((**inner).clone()),
            Self::Known(types, id) => {
                let unescaped = unescape(name);
                let kind = types.get(*id);
                let found =
                    unescaped.as_deref().and_then(|name| kind.field(name)).or_else(|| kind.field(name));
                let found = found.map(|field| Self::of_shape(types, &field.shape));
                found.ok_or_else(|| format!("undefined field '{name}'"))
            }
            Self::Object(node) => {
                let of_object = matches!(name, "apiVersion" | "kind" | "metadata");
                if node.embedded && of_object {
                    return Ok(Self::Any);
                }
                let unescaped = unescape(name);
                let found =
                    unescaped.as_deref().and_then(|name| node.member(name)).or_else(|| node.member(name));
                match found {
                    Some(inner) => Ok(Self::of(inner)),
                    None if matches!(node.more, More::Any) => Ok(Self::Any),
                    None => Err(format!("undefined field '{name}'")),
                }
            }
            other => Err(format!("type '{}' does not support field selection", other.name())),
        }
    }
}

/// What is wrong with an expression, and with which part of it.
pub(super) type Wrong = (u64, String);

struct Check<'c, 'n> {
    variables: Vec<(&'c str, Type<'n>)>,
    wrong: Vec<Wrong>,
    /// Whether messages may be made.
    messages: bool,
}

/// Checks an expression of these variables.
///
/// # Errors
/// All that is wrong with it.
pub(super) fn check<'n>(
    expression: &IdedExpr,
    variables: &[(&str, Type<'n>)],
    messages: bool,
) -> Result<Type<'n>, Vec<Wrong>> {
    let variables = variables.iter().map(|(name, kind)| (*name, kind.clone())).collect();
    let mut check = Check { variables, wrong: Vec::new(), messages };
    let kind = check.expression(expression);
    if check.wrong.is_empty() { Ok(kind) } else { Err(check.wrong) }
}

impl<'c, 'n> Check<'c, 'n> {
    fn find(&self, name: &str) -> Option<&Type<'n>> {
        self.variables.iter().rev().find(|(known, _)| *known == name).map(|(_, kind)| kind)
    }

    /// The type of an expression; of what is wrong nothing is known.
    fn expression(&mut self, expression: &'c IdedExpr) -> Type<'n> {
        self.judge(expression).unwrap_or_else(|why| {
            self.wrong.push((expression.id, why));
            Type::Any
        })
    }

    fn judge(&mut self, expression: &'c IdedExpr) -> Result<Type<'n>, String> {
        match &expression.expr {
            Expr::Literal(literal) => Ok(match literal {
                LiteralValue::Boolean(_) => Type::Bool,
                LiteralValue::Int(_) => Type::Int,
                LiteralValue::Double(_) => Type::Double,
                LiteralValue::String(_) => Type::Text,
                LiteralValue::Bytes(_) => Type::Other("bytes"),
                LiteralValue::UInt(_) => Type::Other("uint"),
                LiteralValue::Null => Type::Any,
            }),
            Expr::Ident(name) => match self.find(name) {
                Some(kind) => Ok(kind.clone()),
                None if functions::type_named(name).is_some() => Ok(Type::Other("type")),
                None => Err(undeclared(name)),
            },
            Expr::Select(select) => {
                let kind = self.expression(&select.operand).field(&select.field)?;
                Ok(if select.test { Type::Bool } else { kind })
            }
            Expr::List(list) => {
                let kinds: Vec<_> = list.elements.iter().map(|one| self.expression(one)).collect();
                let alike = kinds.iter().all(|kind| kind.shown() == kinds[0].shown());
                let inner = kinds.into_iter().next().filter(|_| alike);
                Ok(Type::List(Box::new(inner.unwrap_or(Type::Any))))
            }
            Expr::Map(_) => {
                for one in super::within(expression) {
                    self.expression(one);
                }
                Ok(Type::Any)
            }
            Expr::Comprehension(one) => {
                let range = self.expression(&one.iter_range);
                if matches!(range, Type::Bool | Type::Int | Type::Double | Type::Text) {
                    return Err(format!(
                        "expression of type '{}' cannot be range of a comprehension",
                        range.name()
                    ));
                }
                let before = self.variables.len();
                let start = self.expression(&one.accu_init);
                let result = match start {
                    start if one.iter_var == local::UNUSED => start,
                    Type::Bool => Type::Bool,
                    _ => Type::Any,
                };
                self.variables.push((&one.accu_var, result));
                match &one.iter_var2 {
                    None => self.variables.push((&one.iter_var, range.item())),
                    Some(second) => {
                        self.variables.push((&one.iter_var, Type::Any));
                        self.variables.push((second, Type::Any));
                    }
                }
                self.expression(&one.loop_cond);
                self.expression(&one.loop_step);
                let result = self.expression(&one.result);
                self.variables.truncate(before);
                Ok(result)
            }
            Expr::Call(call) => self.call(call),
            Expr::Struct(one) => {
                let name = one.type_name.as_str();
                let known = name == "JSONPatch" || name == "Object" || name.starts_with("Object.");
                if !self.messages || !known {
                    return Err(undeclared(name));
                }
                if name == "JSONPatch" {
                    patch_fields(one)?;
                }
                for one in super::within(expression) {
                    self.expression(one);
                }
                Ok(Type::Other(if name == "JSONPatch" { "JSONPatch" } else { "Object" }))
            }
            Expr::Unspecified => Ok(Type::Any),
        }
    }

    fn call(&mut self, call: &'c CallExpr) -> Result<Type<'n>, String> {
        let target = call.target.as_deref();
        if let (Some(target), Some(count)) = (target, binding::variables(&call.func_name, &call.args)) {
            return Ok(self.binding(target, &call.func_name, &call.args, count));
        }
        let space = target.and_then(functions::namespace).filter(|space| self.find(space).is_none());
        let mut kinds = Vec::new();
        if let (None, Some(target)) = (space, target) {
            kinds.push(self.expression(target));
        }
        for argument in &call.args {
            kinds.push(self.expression(argument));
        }
        let name =
            space.map_or_else(|| call.func_name.clone(), |space| format!("{space}.{}", call.func_name));
        let mismatch = || {
            let types: Vec<String> = kinds.iter().map(Type::shown).collect();
            let types = match (space, target, types.split_first()) {
                (None, Some(_), Some((of, rest))) => format!("{of}.({})", rest.join(", ")),
                _ => format!("({})", types.join(", ")),
            };
            format!("found no matching overload for '{name}' applied to '{types}'")
        };
        let fit = |a: &Type<'_>, b: &Type<'_>| a.may_be(b) || is_number(a) && is_number(b);
        match (name.as_str(), &kinds[..]) {
            (op::LOGICAL_AND | op::LOGICAL_OR, [_, _]) => {
                for (one, kind) in call.args.iter().zip(&kinds).filter(|(_, kind)| !kind.may_be(&Type::Bool))
                {
                    self.wrong.push((one.id, format!("expected type 'bool' but found '{}'", kind.shown())));
                }
                Ok(Type::Bool)
            }
            (op::LOGICAL_NOT | op::NOT_STRICTLY_FALSE, [a]) if a.may_be(&Type::Bool) => Ok(Type::Bool),
            (op::EQUALS | op::NOT_EQUALS, [a, b]) if a.may_be(b) => Ok(Type::Bool),
            (op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS, [a, b]) if fit(a, b) => {
                Ok(Type::Bool)
            }
            (op::IN, [_, Type::Bool | Type::Int | Type::Double | Type::Text]) => Err(mismatch()),
            (op::IN, [_, _]) => Ok(Type::Bool),
            (op::CONDITIONAL, [test, yes, no]) if test.may_be(&Type::Bool) && yes.may_be(no) => {
                Ok(if yes.name() == no.name() { yes.clone() } else { Type::Any })
            }
            (op::INDEX, [Type::List(inner), _]) => Ok((**inner).clone()),
            (op::INDEX, [Type::Object(node), _]) => Ok(match &node.more {
                More::Like(inner) => Type::of(inner),
                _ => Type::Any,
            }),
            (op::INDEX, [Type::MapOf(inner), _]) => Ok((**inner).clone()),
            (op::INDEX, [Type::Any | Type::Other(_) | Type::Known(..) | Type::Record(_), _])
            | (op::OPT_INDEX, [_, _]) => Ok(Type::Any),
            (op::OPT_SELECT, [of, _]) => {
                if let Some(IdedExpr { expr: Expr::Literal(LiteralValue::String(field)), .. }) =
                    call.args.last()
                {
                    of.field(field.inner())?;
                }
                Ok(Type::Any)
            }
            (op::ADD | op::SUBSTRACT | op::MULTIPLY | op::DIVIDE | op::MODULO, [a, b]) => {
                self.sum(a, b).ok_or_else(mismatch)
            }
            (op::NEGATE, [a]) => Ok(a.clone()),
            (name, _) if name.starts_with(['_', '@', '!', '-']) => Err(mismatch()),
            (name, kinds) if functions::NAMES.contains(&name) => {
                if kinds.first().is_some_and(|first| refuses(name, first, target.is_some())) {
                    return Err(mismatch());
                }
                Ok(result(name))
            }
            (name, _) => Err(undeclared(name)),
        }
    }

    /// A call that gives names to values.
    fn binding(
        &mut self,
        target: &'c IdedExpr,
        name: &str,
        arguments: &'c [IdedExpr],
        count: usize,
    ) -> Type<'n> {
        self.expression(target);
        let before = self.variables.len();
        for one in &arguments[..count] {
            self.variables.push((binding::name_of(one).unwrap_or_default(), Type::Any));
        }
        arguments[count..].iter().for_each(|one| drop(self.expression(one)));
        self.variables.truncate(before);
        match name {
            "all" | "exists" | "existsOne" | "exists_one" => Type::Bool,
            "transformList" => Type::List(Box::new(Type::Any)),
            _ => Type::Any,
        }
    }

    /// Operands of arithmetic are alike, but for moments and durations.
    fn sum(&self, a: &Type<'n>, b: &Type<'n>) -> Option<Type<'n>> {
        match (a, b) {
            (Type::Bool, _) | (_, Type::Bool) => None,
            (Type::Any, _) | (_, Type::Any) | (Type::Other(_), _) | (_, Type::Other(_)) => Some(Type::Any),
            (Type::List(_), Type::List(_)) => Some(Type::List(Box::new(Type::Any))),
            (a, b) if a.name() == b.name() => Some(a.clone()),
            _ => None,
        }
    }
}

fn undeclared(name: &str) -> String {
    format!("undeclared reference to '{name}' (in container '')")
}

/// What a `JSONPatch` may say.
fn patch_fields(one: &::cel::common::ast::StructExpr) -> Result<(), String> {
    for entry in &one.entries {
        if let ::cel::common::ast::EntryExpr::StructField(field) = &entry.expr
            && !matches!(field.field.as_str(), "op" | "path" | "from" | "value")
        {
            return Err(format!("undefined field '{}'", field.field));
        }
    }
    Ok(())
}

fn is_number(kind: &Type<'_>) -> bool {
    matches!(kind, Type::Int | Type::Double | Type::Other("uint"))
}

/// Whether a function has nothing for a receiver of this type.
fn refuses(name: &str, first: &Type<'_>, method: bool) -> bool {
    match name {
        "size" => matches!(first, Type::Bool | Type::Int | Type::Double),
        "startsWith" | "endsWith" | "matches" | "lowerAscii" | "upperAscii" | "split" | "substring"
        | "trim" | "contains" | "replace" | "charAt" => method && !first.may_be(&Type::Text),
        "isSorted" | "sum" | "min" | "max" => !matches!(first, Type::List(_) | Type::Any),
        _ => false,
    }
}

fn result<'n>(name: &str) -> Type<'n> {
    match name {
        "size" | "int" | "indexOf" | "lastIndexOf" => Type::Int,
        "double" => Type::Double,
        "string" | "lowerAscii" | "upperAscii" | "replace" | "join" | "substring" | "trim" | "find"
        | "format" | "charAt" | "getScheme" | "getHost" | "getHostname" | "getPort" => Type::Text,
        "bool" | "contains" | "startsWith" | "endsWith" | "matches" | "isSorted" | "hasValue" | "isURL"
        | "isIP" | "isCIDR" | "isQuantity" | "sets.contains" | "sets.equivalent" | "sets.intersects"
        | "isGreaterThan" | "isLessThan" | "containsIP" | "containsCIDR" | "allowed" | "errored"
        | "isSemver" => Type::Bool,
        _ => Type::Any,
    }
}
