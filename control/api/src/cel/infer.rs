//! What can be told of an expression before it has values: every name is known, every function is there, fields are in
//! the schema, and operands whose types are known fit each other.

use ::cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators as op};

use super::functions;
use super::value::unescape;
use crate::custom::{Kind, More, Node};

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

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Any => "dyn",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Double => "double",
            Self::Text => "string",
            Self::List(_) => "list",
            Self::Object(_) => "map",
            Self::Other(name) => name,
        }
    }

    /// Whether a value of this type may be of the other.
    pub(super) fn may_be(&self, other: &Type<'_>) -> bool {
        matches!(self, Self::Any) || matches!(other, Type::Any) || self.name() == other.name()
    }

    fn item(&self) -> Type<'n> {
        match self {
            Self::List(inner) => (**inner).clone(),
            Self::Object(_) => Self::Text,
            _ => Self::Any,
        }
    }

    /// The type of a field.
    fn field(&self, name: &str) -> Result<Type<'n>, String> {
        match self {
            Self::Any | Self::Other(_) => Ok(Self::Any),
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

struct Check<'c, 'n> {
    variables: Vec<(&'c str, Type<'n>)>,
}

/// Checks an expression of these variables.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check<'n>(expression: &IdedExpr, variables: &[(&str, Type<'n>)]) -> Result<Type<'n>, String> {
    let variables = variables.iter().map(|(name, kind)| (*name, kind.clone())).collect();
    Check { variables }.expression(expression)
}

impl<'c, 'n> Check<'c, 'n> {
    fn find(&self, name: &str) -> Option<&Type<'n>> {
        self.variables.iter().rev().find(|(known, _)| *known == name).map(|(_, kind)| kind)
    }

    fn expression(&mut self, expression: &'c IdedExpr) -> Result<Type<'n>, String> {
        match &expression.expr {
            Expr::Literal(literal) => Ok(match literal {
                LiteralValue::Boolean(_) => Type::Bool,
                LiteralValue::Int(_) => Type::Int,
                LiteralValue::Double(_) => Type::Double,
                LiteralValue::String(_) => Type::Text,
                LiteralValue::Bytes(_) => Type::Other("bytes"),
                LiteralValue::UInt(_) | LiteralValue::Null => Type::Any,
            }),
            Expr::Ident(name) => match self.find(name) {
                Some(kind) => Ok(kind.clone()),
                None if functions::type_named(name).is_some() => Ok(Type::Other("type")),
                None => Err(format!("undeclared reference to '{name}'")),
            },
            Expr::Select(select) => {
                let kind = self.expression(&select.operand)?.field(&select.field)?;
                Ok(if select.test { Type::Bool } else { kind })
            }
            Expr::List(list) => {
                let mut inner = None;
                for element in &list.elements {
                    inner = Some(self.expression(element)?);
                }
                let inner = if list.elements.len() == 1 { inner } else { None };
                Ok(Type::List(Box::new(inner.unwrap_or(Type::Any))))
            }
            Expr::Map(_) => {
                for one in super::within(expression) {
                    self.expression(one)?;
                }
                Ok(Type::Any)
            }
            Expr::Comprehension(one) => {
                let range = self.expression(&one.iter_range)?;
                if matches!(range, Type::Bool | Type::Int | Type::Double | Type::Text) {
                    return Err(format!(
                        "expression of type '{}' cannot be range of a comprehension",
                        range.name()
                    ));
                }
                let before = self.variables.len();
                let start = self.expression(&one.accu_init)?;
                let result = if matches!(start, Type::Bool) { Type::Bool } else { Type::Any };
                self.variables.push((&one.accu_var, result));
                match &one.iter_var2 {
                    None => self.variables.push((&one.iter_var, range.item())),
                    Some(second) => {
                        self.variables.push((&one.iter_var, Type::Any));
                        self.variables.push((second, Type::Any));
                    }
                }
                let inner = self.expression(&one.loop_cond).and_then(|_| self.expression(&one.loop_step));
                let outcome = inner.and_then(|_| self.expression(&one.result));
                self.variables.truncate(before);
                outcome
            }
            Expr::Call(call) => self.call(call),
            Expr::Struct(one) => Err(format!("undeclared reference to '{}'", one.type_name)),
            Expr::Unspecified => Ok(Type::Any),
        }
    }

    fn call(&mut self, call: &'c CallExpr) -> Result<Type<'n>, String> {
        let target = call.target.as_deref();
        let space = target.and_then(functions::namespace).filter(|space| self.find(space).is_none());
        let mut kinds = Vec::new();
        if let (None, Some(target)) = (space, target) {
            kinds.push(self.expression(target)?);
        }
        for argument in &call.args {
            kinds.push(self.expression(argument)?);
        }
        let name =
            space.map_or_else(|| call.func_name.clone(), |space| format!("{space}.{}", call.func_name));
        let mismatch = || {
            let types: Vec<&str> = kinds.iter().map(Type::name).collect();
            format!("found no matching overload for '{name}' applied to '({})'", types.join(", "))
        };
        let fit = |a: &Type<'_>, b: &Type<'_>| a.may_be(b) || is_number(a) && is_number(b);
        match (name.as_str(), &kinds[..]) {
            (op::LOGICAL_AND | op::LOGICAL_OR, [a, b]) if a.may_be(&Type::Bool) && b.may_be(&Type::Bool) => {
                Ok(Type::Bool)
            }
            (op::LOGICAL_NOT | op::NOT_STRICTLY_FALSE, [a]) if a.may_be(&Type::Bool) => Ok(Type::Bool),
            (op::EQUALS | op::NOT_EQUALS, [a, b]) if a.may_be(b) => Ok(Type::Bool),
            (op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS, [a, b]) if fit(a, b) => {
                Ok(Type::Bool)
            }
            (op::IN, [_, Type::Any | Type::List(_) | Type::Object(_) | Type::Other(_)]) => Ok(Type::Bool),
            (op::CONDITIONAL, [test, yes, no]) if test.may_be(&Type::Bool) => {
                Ok(if yes.name() == no.name() { yes.clone() } else { Type::Any })
            }
            (op::INDEX, [Type::List(inner), _]) => Ok((**inner).clone()),
            (op::INDEX, [Type::Object(node), _]) => Ok(match &node.more {
                More::Like(inner) => Type::of(inner),
                _ => Type::Any,
            }),
            (op::INDEX, [Type::Any | Type::Other(_), _]) | (op::OPT_INDEX, [_, _]) => Ok(Type::Any),
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
            (name, _) => Err(format!("undeclared reference to '{name}'")),
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

fn is_number(kind: &Type<'_>) -> bool {
    matches!(kind, Type::Int | Type::Double)
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
        | "isGreaterThan" | "isLessThan" | "containsIP" | "containsCIDR" => Type::Bool,
        _ => Type::Any,
    }
}
