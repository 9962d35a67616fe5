//! The types of the parts of an expression, as far as they decide what a part costs: which overloads of a function an
//! operand chooses, and what has no size worth counting.

use std::collections::HashMap;
use std::rc::Rc;

use ::cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, operators as op};

use super::super::{entries, value::unescape};
use super::Declared;

/// A type.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Known only when the expression is evaluated.
    Dyn,
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    Duration,
    Timestamp,
    Null,
    Type,
    List(Rc<Kind>),
    Map(Rc<Kind>, Rc<Kind>),
    Object(Rc<Declared>),
    Optional(Rc<Kind>),
    /// One that Kubernetes adds, by its name.
    Other(&'static str),
}

impl Kind {
    /// Whether it has one size for all values.
    pub(super) fn is_scalar(&self) -> bool {
        match self {
            Self::Bool | Self::Int | Self::Uint | Self::Double | Self::Duration | Self::Timestamp => true,
            Self::Optional(inner) => inner.is_scalar(),
            _ => false,
        }
    }

    pub(super) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::List(a), Self::List(b)) | (Self::Optional(a), Self::Optional(b)) => a.same(b),
            (Self::Map(a, x), Self::Map(b, y)) => a.same(b) && x.same(y),
            (Self::Object(a), Self::Object(b)) => Rc::ptr_eq(a, b),
            (Self::Other(a), Self::Other(b)) => a == b,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    /// Whether a value may turn out to be of the plain type.
    pub(super) fn may_be(&self, other: &Self) -> bool {
        matches!(self, Self::Dyn) || std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    pub(super) fn may_be_list(&self) -> bool {
        matches!(self, Self::Dyn | Self::List(_))
    }

    pub(super) fn may_be_map(&self) -> bool {
        matches!(self, Self::Dyn | Self::Map(..))
    }

    fn list(inner: Self) -> Self {
        Self::List(Rc::new(inner))
    }

    fn optional(inner: Self) -> Self {
        Self::Optional(Rc::new(inner))
    }

    /// What a value of either type is.
    fn or(&self, other: &Self) -> Self {
        match (self, other) {
            (a, b) if a.same(b) => a.clone(),
            (Self::Null, other) | (other, Self::Null) => other.clone(),
            (Self::List(a), Self::List(b)) => Self::list(a.or(b)),
            (Self::Map(k, a), Self::Map(_, b)) => Self::Map(k.clone(), Rc::new(a.or(b))),
            (Self::Optional(a), Self::Optional(b)) => Self::optional(a.or(b)),
            _ => Self::Dyn,
        }
    }

    /// Of items, or of members by index.
    pub(super) fn item(&self) -> Self {
        match self {
            Self::List(inner) | Self::Map(_, inner) => Self::clone(inner),
            Self::Optional(inner) => Self::optional(inner.item()),
            _ => Self::Dyn,
        }
    }

    fn field(&self, name: &str) -> Self {
        match self {
            Self::Object(declared) => field_of(declared, name).map_or(Self::Dyn, Declared::kind),
            Self::Map(_, inner) => Self::clone(inner),
            Self::Optional(inner) => Self::optional(inner.field(name)),
            _ => Self::Dyn,
        }
    }
}

/// A field by the name that expressions have for it.
pub(super) fn field_of<'d>(declared: &'d Rc<Declared>, name: &str) -> Option<&'d Rc<Declared>> {
    let fields = declared.fields.as_ref()?;
    let unescaped = unescape(name);
    unescaped.and_then(|name| fields.get(&name)).or_else(|| fields.get(name))
}

/// Tells the types of all parts.
pub(super) struct Kinds<'e> {
    found: HashMap<u64, Kind>,
    names: Vec<(&'e str, Kind)>,
}

impl<'e> Kinds<'e> {
    /// The types of the parts of an expression about these variables, by their numbers.
    pub(super) fn of(expression: &'e IdedExpr, names: Vec<(&'e str, Kind)>) -> HashMap<u64, Kind> {
        let mut kinds = Self { found: HashMap::new(), names };
        kinds.kind(expression);
        kinds.found
    }

    fn kind(&mut self, expression: &'e IdedExpr) -> Kind {
        if let Some(known) = self.found.get(&expression.id) {
            return known.clone();
        }
        let kind = match &expression.expr {
            Expr::Literal(literal) => of_literal(literal),
            Expr::Ident(name) => match self.names.iter().rev().find(|(known, _)| known == name) {
                Some((_, kind)) => kind.clone(),
                None => Kind::Type,
            },
            Expr::Select(select) => {
                let kind = self.kind(&select.operand).field(&select.field);
                if select.test { Kind::Bool } else { kind }
            }
            Expr::List(list) => {
                let kinds: Vec<Kind> = list.elements.iter().map(|one| self.kind(one)).collect();
                Kind::list(joined(kinds))
            }
            Expr::Map(map) => {
                let both: Vec<Kind> = entries(&map.entries).into_iter().map(|one| self.kind(one)).collect();
                let (keys, values) = both.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).unzip();
                Kind::Map(Rc::new(joined(keys)), Rc::new(joined(values)))
            }
            Expr::Comprehension(one) => self.comprehension(one),
            Expr::Call(call) => self.call(call),
            Expr::Struct(_) | Expr::Unspecified => Kind::Dyn,
        };
        self.found.insert(expression.id, kind.clone());
        kind
    }

    fn comprehension(&mut self, one: &'e ComprehensionExpr) -> Kind {
        let range = self.kind(&one.iter_range);
        let start = self.kind(&one.accu_init);
        let before = self.names.len();
        match (&one.iter_var2, &range) {
            (Some(second), _) => {
                let key = match &range {
                    Kind::List(_) => Kind::Int,
                    Kind::Map(key, _) => Kind::clone(key),
                    _ => Kind::Dyn,
                };
                self.names.push((&one.iter_var, key));
                self.names.push((second, range.item()));
            }
            (None, Kind::Map(key, _)) => self.names.push((&one.iter_var, Kind::clone(key))),
            (None, _) => self.names.push((&one.iter_var, range.item())),
        }
        // What starts empty has the type of what is added to it.
        let gathered = match &one.accu_init.expr {
            Expr::List(_) | Expr::Map(_) => self.gathered(&one.loop_step),
            _ => None,
        };
        self.names.push((&one.accu_var, gathered.unwrap_or(start)));
        self.kind(&one.loop_cond);
        self.kind(&one.loop_step);
        let result = self.kind(&one.result);
        self.names.truncate(before);
        result
    }

    fn gathered(&mut self, step: &'e IdedExpr) -> Option<Kind> {
        let Expr::Call(call) = &step.expr else { return None };
        match (call.func_name.as_str(), &call.args[..]) {
            (op::CONDITIONAL, [_, step, _]) => self.gathered(step),
            (op::ADD, [_, more]) => Some(self.kind(more)),
            (super::expand::INSERT, [_, key, value]) => {
                Some(Kind::Map(Rc::new(self.kind(key)), Rc::new(self.kind(value))))
            }
            _ => None,
        }
    }

    fn call(&mut self, call: &'e CallExpr) -> Kind {
        let target = call.target.as_deref().map(|target| self.kind(target));
        if let ("optMap" | "optFlatMap", Some(Kind::Optional(inner))) = (call.func_name.as_str(), &target)
            && let [variable, last] = &call.args[..]
            && let Expr::Ident(name) = &variable.expr
        {
            self.names.push((name, Kind::clone(inner)));
            let kind = self.kind(last);
            self.names.pop();
            return if call.func_name == "optMap" { Kind::optional(kind) } else { kind };
        }
        let kinds: Vec<Kind> = call.args.iter().map(|one| self.kind(one)).collect();
        match (target, call.func_name.as_str(), &kinds[..]) {
            (None, op::CONDITIONAL, [_, yes, no]) => yes.or(no),
            (None, op::ADD, [a, b]) => sum(a, b),
            (None, op::SUBSTRACT, [a, b]) => difference(a, b),
            (None, op::MULTIPLY | op::DIVIDE | op::MODULO, [Kind::Dyn, other] | [other, _])
            | (None, op::NEGATE, [other]) => other.clone(),
            (None, op::INDEX, [of, _]) => of.item(),
            (None, op::OPT_INDEX, [of, _]) => match of.item() {
                optional @ Kind::Optional(_) => optional,
                item => Kind::optional(item),
            },
            (None, op::OPT_SELECT, [of, _]) => {
                let field = match &call.args[1].expr {
                    Expr::Literal(LiteralValue::String(name)) => of.field(name.inner()),
                    _ => Kind::Dyn,
                };
                if matches!(field, Kind::Optional(_)) { field } else { Kind::optional(field) }
            }
            (None, "optional.of" | "optional.ofNonZeroValue", [inner, ..]) => Kind::optional(inner.clone()),
            (Some(Kind::Optional(inner)), "value", []) => Kind::clone(&inner),
            (Some(Kind::Optional(inner)), "orValue", [other]) => inner.or(other),
            (Some(optional @ Kind::Optional(_)), "or", [other]) => optional.or(other),
            (Some(list), "sum" | "min" | "max", _) => list.item(),
            (Some(list @ Kind::List(_)), "distinct" | "slice" | "reverse" | "sort", _) => list,
            (Some(Kind::Other("cidr")), "ip", _) => Kind::Other("ip"),
            (_, name, _) => of_result(name),
        }
    }
}

fn of_literal(literal: &LiteralValue) -> Kind {
    match literal {
        LiteralValue::Boolean(_) => Kind::Bool,
        LiteralValue::Int(_) => Kind::Int,
        LiteralValue::UInt(_) => Kind::Uint,
        LiteralValue::Double(_) => Kind::Double,
        LiteralValue::String(_) => Kind::Text,
        LiteralValue::Bytes(_) => Kind::Bytes,
        LiteralValue::Null => Kind::Null,
    }
}

fn joined(kinds: Vec<Kind>) -> Kind {
    kinds.into_iter().reduce(|a, b| a.or(&b)).unwrap_or(Kind::Dyn)
}

fn sum(a: &Kind, b: &Kind) -> Kind {
    match (a, b) {
        (Kind::Timestamp, _) | (_, Kind::Timestamp) => Kind::Timestamp,
        (Kind::Duration, Kind::Duration) => Kind::Duration,
        // A moment or a duration.
        (Kind::Dyn, Kind::Duration) | (Kind::Duration, Kind::Dyn) => Kind::Dyn,
        (Kind::Dyn, other) | (other, Kind::Dyn) => other.clone(),
        _ => a.or(b),
    }
}

fn difference(a: &Kind, b: &Kind) -> Kind {
    match (a, b) {
        (Kind::Timestamp, Kind::Timestamp) => Kind::Duration,
        (Kind::Timestamp, Kind::Duration) => Kind::Timestamp,
        (Kind::Timestamp | Kind::Duration, Kind::Dyn) | (Kind::Dyn, Kind::Timestamp | Kind::Duration) => {
            Kind::Dyn
        }
        (Kind::Dyn, other) => other.clone(),
        _ => a.clone(),
    }
}

/// What a function gives whatever it is given.
fn of_result(name: &str) -> Kind {
    match name {
        "size" | "int" | "indexOf" | "lastIndexOf" | "compareTo" | "sign" | "asInteger" | "major"
        | "minor" | "patch" | "prefixLength" | "family" => Kind::Int,
        name if name.starts_with("get") => match name {
            "getScheme" | "getHost" | "getHostname" | "getPort" | "getEscapedPath" => Kind::Text,
            "getQuery" => Kind::Map(Rc::new(Kind::Text), Rc::new(Kind::list(Kind::Text))),
            _ => Kind::Int,
        },
        "uint" => Kind::Uint,
        "double" | "asApproximateFloat" => Kind::Double,
        "bytes" => Kind::Bytes,
        "duration" => Kind::Duration,
        "timestamp" => Kind::Timestamp,
        "type" => Kind::Type,
        "string"
        | "charAt"
        | "lowerAscii"
        | "upperAscii"
        | "replace"
        | "join"
        | "substring"
        | "trim"
        | "format"
        | "find"
        | "strings.quote"
        | "jsonpatch.escapeKey" => Kind::Text,
        "split" | "findAll" => Kind::list(Kind::Text),
        "lists.range" => Kind::list(Kind::Int),
        "flatten" => Kind::list(Kind::Dyn),
        "optional.none" => Kind::optional(Kind::Dyn),
        "url" => Kind::Other("url"),
        "ip" => Kind::Other("ip"),
        "cidr" | "masked" => Kind::Other("cidr"),
        "quantity" | "add" | "sub" => Kind::Other("quantity"),
        "semver" => Kind::Other("semver"),
        "format.named" => Kind::optional(Kind::Other("format")),
        "validate" => Kind::optional(Kind::list(Kind::Text)),
        name if name.starts_with("format.") => Kind::Other("format"),
        "dyn" | "value" | "orValue" | "or" => Kind::Dyn,
        _ => Kind::Bool,
    }
}
