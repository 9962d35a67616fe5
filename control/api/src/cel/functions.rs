//! Operators and functions: those of CEL, and those that Kubernetes adds.

use ::cel::common::ast::{Expr, IdedExpr, operators as op};

use super::{
    Budget, Fault, Outcome, Value, amounts, authz, compare, evaluate, lists, net, optional, texts, time,
    versions,
};

/// What stands before a dot and is no value.
const NAMESPACES: [&str; 8] = ["optional", "sets", "math", "ip", "format", "strings", "lists", "jsonpatch"];

/// Every function that there is, but for operators.
pub(super) const NAMES: [&str; 132] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "int",
    "uint",
    "double",
    "string",
    "bool",
    "bytes",
    "duration",
    "timestamp",
    "type",
    "dyn",
    "getFullYear",
    "getMonth",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
    "charAt",
    "indexOf",
    "lastIndexOf",
    "lowerAscii",
    "upperAscii",
    "replace",
    "split",
    "join",
    "substring",
    "trim",
    "reverse",
    "find",
    "findAll",
    "isSorted",
    "sum",
    "min",
    "max",
    "distinct",
    "flatten",
    "slice",
    "sets.contains",
    "sets.equivalent",
    "sets.intersects",
    "optional.of",
    "optional.none",
    "optional.ofNonZeroValue",
    "hasValue",
    "value",
    "orValue",
    "or",
    "url",
    "isURL",
    "getScheme",
    "getHost",
    "getHostname",
    "getPort",
    "getEscapedPath",
    "getQuery",
    "ip",
    "isIP",
    "ip.isCanonical",
    "family",
    "isLoopback",
    "isUnspecified",
    "isGlobalUnicast",
    "cidr",
    "isCIDR",
    "containsIP",
    "containsCIDR",
    "prefixLength",
    "masked",
    "quantity",
    "isQuantity",
    "isGreaterThan",
    "isLessThan",
    "compareTo",
    "sign",
    "isInteger",
    "asInteger",
    "asApproximateFloat",
    "math.greatest",
    "math.least",
    "math.abs",
    "math.ceil",
    "math.floor",
    "math.round",
    "format",
    "add",
    "sub",
    "sort",
    "lists.range",
    "strings.quote",
    "jsonpatch.escapeKey",
    "semver",
    "isSemver",
    "major",
    "minor",
    "patch",
    "validate",
    "format.named",
    "format.dns1123Label",
    "format.dns1123Subdomain",
    "format.dns1035Label",
    "format.qualifiedName",
    "format.dns1123LabelPrefix",
    "format.dns1123SubdomainPrefix",
    "format.dns1035LabelPrefix",
    "format.labelValue",
    "format.uri",
    "format.uuid",
    "format.byte",
    "format.date",
    "format.datetime",
    "group",
    "resource",
    "subresource",
    "namespace",
    "name",
    "path",
    "serviceAccount",
    "fieldSelector",
    "labelSelector",
    "check",
    "allowed",
    "reason",
    "errored",
    "error",
];

/// The namespace that an expression before a dot names.
pub(super) fn namespace(target: &IdedExpr) -> Option<&str> {
    match &target.expr {
        Expr::Ident(name) => NAMESPACES.contains(&name.as_str()).then_some(name),
        _ => None,
    }
}

/// Names of types are values, too.
pub(super) fn type_named(name: &str) -> Option<&'static str> {
    ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type"]
        .into_iter()
        .find(|one| *one == name)
}

/// Calls a function; the receiver of a method is the first argument.
pub(super) fn call<'a>(name: &str, arguments: &[Value<'a>], budget: &mut Budget) -> Outcome<Value<'a>> {
    let found = operator(name, arguments, budget)
        .or_else(|| plain(name, arguments))
        .or_else(|| texts::call(name, arguments, budget))
        .or_else(|| net::call(name, arguments))
        .or_else(|| lists::call(name, arguments, budget))
        .or_else(|| authz::call(name, arguments, budget))
        .or_else(|| versions::call(name, arguments))
        .or_else(|| optional::call(name, arguments))
        .or_else(|| amounts::call(name, arguments));
    found.unwrap_or_else(|| {
        let types: Vec<&str> = arguments.iter().map(Value::type_name).collect();
        Err(Fault::error(format!("no such overload: {name}({})", types.join(", "))))
    })
}

fn operator<'a>(name: &str, arguments: &[Value<'a>], budget: &mut Budget) -> Option<Outcome<Value<'a>>> {
    let truth = |outcome: Outcome<bool>| Some(outcome.map(Value::Bool));
    let order = |a, b, fits: fn(std::cmp::Ordering) -> bool| truth(compare::order(a, b).map(fits));
    match (name, arguments) {
        (op::EQUALS, [a, b]) => truth(compare::equal(a, b, budget)),
        (op::NOT_EQUALS, [a, b]) => truth(compare::equal(a, b, budget).map(|same| !same)),
        (op::LESS, [a, b]) => order(a, b, std::cmp::Ordering::is_lt),
        (op::LESS_EQUALS, [a, b]) => order(a, b, std::cmp::Ordering::is_le),
        (op::GREATER, [a, b]) => order(a, b, std::cmp::Ordering::is_gt),
        (op::GREATER_EQUALS, [a, b]) => order(a, b, std::cmp::Ordering::is_ge),
        (op::LOGICAL_NOT, [Value::Bool(one)]) => truth(Ok(!one)),
        (op::IN, [one, many]) => truth(evaluate::is_in(one, many, budget)),
        (op::INDEX, [many, index]) => Some(element(many, index, budget)),
        (op::OPT_INDEX | op::OPT_SELECT, [many, index]) => Some(optional::element(many, index, budget)),
        (op::NEGATE, [one]) => Some(match one {
            Value::Int(one) => one.checked_neg().map(Value::Int).ok_or_else(overflow),
            Value::Double(one) => Ok(Value::Double(-one)),
            _ => return None,
        }),
        (_, [a, b]) => arithmetic(name, a, b),
        _ => None,
    }
}

pub(super) fn overflow() -> Fault {
    Fault::error("integer overflow")
}

fn arithmetic<'a>(name: &str, a: &Value<'a>, b: &Value<'a>) -> Option<Outcome<Value<'a>>> {
    if !matches!(name, op::ADD | op::SUBSTRACT | op::MULTIPLY | op::DIVIDE | op::MODULO) {
        return None;
    }
    let zero = || Fault::error("division by zero");
    Some(match (name, a, b) {
        (op::DIVIDE | op::MODULO, Value::Int(_), Value::Int(0)) => Err(zero()),
        (op::DIVIDE | op::MODULO, Value::Uint(_), Value::Uint(0)) => Err(zero()),
        (_, Value::Int(a), Value::Int(b)) => match name {
            op::ADD => a.checked_add(*b),
            op::SUBSTRACT => a.checked_sub(*b),
            op::MULTIPLY => a.checked_mul(*b),
            op::DIVIDE => a.checked_div(*b),
            _ => a.checked_rem(*b),
        }
        .map(Value::Int)
        .ok_or_else(overflow),
        (_, Value::Uint(a), Value::Uint(b)) => match name {
            op::ADD => a.checked_add(*b),
            op::SUBSTRACT => a.checked_sub(*b),
            op::MULTIPLY => a.checked_mul(*b),
            op::DIVIDE => a.checked_div(*b),
            _ => a.checked_rem(*b),
        }
        .map(Value::Uint)
        .ok_or_else(overflow),
        (_, Value::Double(a), Value::Double(b)) => Ok(Value::Double(match name {
            op::ADD => a + b,
            op::SUBSTRACT => a - b,
            op::MULTIPLY => a * b,
            op::DIVIDE => a / b,
            _ => return None,
        })),
        (op::ADD, Value::Text(a), Value::Text(b)) => Ok(Value::text(format!("{a}{b}"))),
        (op::ADD, Value::Bytes(a), Value::Bytes(b)) => Ok(Value::Bytes([&a[..], &b[..]].concat().into())),
        (op::ADD, Value::Duration(a), Value::Duration(b)) => Ok(Value::Duration(a + b)),
        (op::SUBSTRACT, Value::Duration(a), Value::Duration(b)) => Ok(Value::Duration(a - b)),
        (op::ADD, Value::Time(a), Value::Duration(b)) | (op::ADD, Value::Duration(b), Value::Time(a)) => {
            later(*a, *b)
        }
        (op::SUBSTRACT, Value::Time(a), Value::Duration(b)) => later(*a, -b),
        (op::SUBSTRACT, Value::Time(a), Value::Time(b)) => {
            Ok(Value::Duration(a.as_nanosecond() - b.as_nanosecond()))
        }
        (op::ADD, a, b) => {
            let (a, b) = (a.items()?, b.items()?);
            Ok(Value::list([&a[..], &b[..]].concat()))
        }
        _ => return None,
    })
}

fn later<'a>(moment: jiff::Timestamp, by: i128) -> Outcome<Value<'a>> {
    let moment = jiff::Timestamp::from_nanosecond(moment.as_nanosecond().saturating_add(by));
    moment.map(Value::Time).map_err(|_| Fault::error("timestamp overflow"))
}

fn element<'a>(many: &Value<'a>, index: &Value<'a>, budget: &mut Budget) -> Outcome<Value<'a>> {
    if let (Some(_), false, Value::Int(at)) = (many.count(), many.is_map(), index) {
        let found = usize::try_from(*at).ok().and_then(|at| many.item(at));
        return found.ok_or_else(|| Fault::error(format!("index out of bounds: {at}")));
    }
    if let Value::Optional(_) = many {
        return optional::element(many, index, budget);
    }
    if let (Value::Text(name), true) = (index, many.is_map()) {
        return many.member(name).ok_or_else(|| Fault::error(format!("no such key: {name}")));
    }
    let entries = many.entries().ok_or_else(|| {
        Fault::error(format!("no such overload: {}[{}]", many.type_name(), index.type_name()))
    })?;
    let mut found = None;
    for (key, value) in entries.iter() {
        if compare::equal(key, index, budget)? {
            found = Some(value.clone());
            break;
        }
    }
    found.ok_or_else(|| match index {
        Value::Text(text) => Fault::error(format!("no such key: {text}")),
        _ => Fault::error("no such key"),
    })
}

/// Conversions and parts.
fn plain<'a>(name: &str, arguments: &[Value<'a>]) -> Option<Outcome<Value<'a>>> {
    let wrong = |kind: &str| Fault::error(format!("type conversion error: not a {kind}"));
    Some(match (name, arguments) {
        ("dyn", [one]) => Ok(one.clone()),
        ("type", [one]) => Ok(Value::Type(one.type_name())),
        ("size", [one]) => Ok(Value::Int(match one {
            Value::Text(text) => text.chars().count() as i64,
            Value::Bytes(bytes) => bytes.len() as i64,
            other => other.count()? as i64,
        })),
        ("int", [one]) => match one {
            Value::Int(one) => Ok(Value::Int(*one)),
            Value::Uint(one) => i64::try_from(*one).map(Value::Int).map_err(|_| overflow()),
            Value::Double(one) if one.is_finite() && one.abs() < 9.2e18 => Ok(Value::Int(*one as i64)),
            Value::Double(_) => Err(overflow()),
            Value::Text(text) => text.parse().map(Value::Int).map_err(|_| wrong("int")),
            Value::Time(moment) => Ok(Value::Int(moment.as_second())),
            _ => return None,
        },
        ("uint", [one]) => match one {
            Value::Uint(one) => Ok(Value::Uint(*one)),
            Value::Int(one) => u64::try_from(*one).map(Value::Uint).map_err(|_| overflow()),
            Value::Text(text) => text.parse().map(Value::Uint).map_err(|_| wrong("uint")),
            _ => return None,
        },
        ("double", [one]) => match one {
            Value::Double(one) => Ok(Value::Double(*one)),
            Value::Int(one) => Ok(Value::Double(*one as f64)),
            Value::Uint(one) => Ok(Value::Double(*one as f64)),
            Value::Text(text) => text.parse().map(Value::Double).map_err(|_| wrong("double")),
            _ => return None,
        },
        ("bool", [Value::Bool(one)]) => Ok(Value::Bool(*one)),
        ("bool", [Value::Text(text)]) => match &**text {
            "true" | "True" | "TRUE" | "t" | "1" => Ok(Value::Bool(true)),
            "false" | "False" | "FALSE" | "f" | "0" => Ok(Value::Bool(false)),
            _ => Err(wrong("bool")),
        },
        ("bytes", [Value::Text(text)]) => Ok(Value::Bytes(text.as_bytes().into())),
        ("bytes", [bytes @ Value::Bytes(_)]) => Ok(bytes.clone()),
        ("string", [one]) => texts::text_of(one)?.map(Value::text),
        ("duration", [Value::Text(text)]) => {
            time::duration(text).map(Value::Duration).ok_or_else(|| wrong("duration"))
        }
        ("duration", [one @ Value::Duration(_)]) | ("timestamp", [one @ Value::Time(_)]) => Ok(one.clone()),
        ("timestamp", [Value::Text(text)]) => text.parse().map(Value::Time).map_err(|_| wrong("timestamp")),
        (name, [one @ (Value::Time(_) | Value::Duration(_))]) if name.starts_with("get") => {
            time::part(name, one, None)
        }
        (name, [one @ Value::Time(_), Value::Text(zone)]) if name.starts_with("get") => {
            time::part(name, one, Some(zone))
        }
        _ => return None,
    })
}
