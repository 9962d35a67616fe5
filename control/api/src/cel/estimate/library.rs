//! What the functions cost that Kubernetes and CEL's extensions add.

use ::cel::common::ast::{Expr, LiteralValue, operators as op};

use super::calls::{Estimated, PATTERN, TEXT};
use super::kinds::Kind;
use super::range::Range;
use super::walk::{Operand, Path, Walk};

/// The bytes of an address.
const ADDRESS: Range = Range { least: 4, most: 16 };
/// The longest name of a format, and its longest regular expression.
const FORMAT: u64 = 64;
const FORMAT_PATTERN: f64 = 128.0;
/// Each call that makes a list.
const NEW_LIST: u64 = 11;

/// How large an operand is, by itself or by its schema.
fn size(operand: &Operand<'_>) -> Range {
    operand.computed.or_else(|| Walk::declared_size(&operand.path)).unwrap_or(Range::ANY)
}

/// A text that is gone through once.
fn once(operand: &Operand<'_>) -> Estimated {
    Estimated::cost(size(operand).by(TEXT))
}

fn literal(operand: &Operand<'_>) -> Option<i64> {
    match &operand.expression.expr {
        Expr::Literal(LiteralValue::Int(number)) => Some(*number.inner()),
        _ => None,
    }
}

/// A number that is written, not below zero.
fn count(operand: &Operand<'_>, otherwise: u64) -> u64 {
    literal(operand).map_or(otherwise, |number| u64::try_from(number).unwrap_or(0))
}

/// A list of this size that is made at this cost per item.
fn new_list(factor: f64, size: Range) -> Estimated {
    Estimated::sized(size.by(factor).plus(Range::fixed(NEW_LIST)), size)
}

impl<'e> Walk<'e> {
    /// The estimate of a function that is not CEL's own; nothing where CEL's rules count.
    pub(super) fn added(
        &mut self,
        name: &str,
        target: Option<&Operand<'e>>,
        operands: &[Operand<'e>],
    ) -> Option<Estimated> {
        let nominal = Some(Estimated::cost(Range::fixed(1)));
        if let Some(list) = of_lists(name, target, operands) {
            return Some(list);
        }
        match (name, target, operands) {
            ("check", ..) => Some(Estimated::cost(Range::fixed(350_000))),
            (
                "serviceAccount"
                | "path"
                | "group"
                | "resource"
                | "subresource"
                | "namespace"
                | "name"
                | "allowed"
                | "reason"
                | "error"
                | "errored"
                | "masked"
                | "prefixLength"
                | "family"
                | "isUnspecified"
                | "isLoopback"
                | "isLinkLocalMulticast"
                | "isLinkLocalUnicast"
                | "isGlobalUnicast"
                | "format.named"
                | "sign"
                | "asInteger"
                | "isInteger"
                | "asApproximateFloat"
                | "isGreaterThan"
                | "isLessThan"
                | "compareTo"
                | "add"
                | "sub"
                | "major"
                | "minor"
                | "patch"
                | "getScheme"
                | "getHostname"
                | "getHost"
                | "getPort"
                | "getEscapedPath"
                | "getQuery",
                ..,
            ) => nominal,
            ("fieldSelector" | "labelSelector", _, [selector]) => {
                // Each requirement takes two characters, a list and a struct.
                let size = size(selector);
                let requirements = size.by(0.5).by(50.0);
                Some(Estimated::cost(Range::fixed(10).plus(size.by(TEXT)).plus(requirements)))
            }
            ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", Some(of), _) => {
                Some(Estimated::cost(self.each_item(of)))
            }
            ("url" | "jsonpatch.escapeKey", _, [text]) => {
                Some(Estimated::sized(size(text).by(TEXT), size(text)))
            }
            ("lowerAscii" | "upperAscii" | "substring" | "trim", Some(text), _) => {
                Some(Estimated::sized(size(text).by(TEXT), size(text)))
            }
            ("replace", Some(text), [old, new, ..]) => {
                let text = size(text);
                Some(Estimated::sized(text.by(2.0 * TEXT), replaced(text, size(old), size(new))))
            }
            ("split", Some(text), _) => {
                // At worst every character is an item.
                let limit = operands.get(1).and_then(literal).map(|limit| limit as u64);
                let items = Range::to(limit.unwrap_or(size(text).most));
                Some(Estimated::sized(size(text).by(2.0 * TEXT), items))
            }
            ("join", Some(list), _) => Some(self.joined(list, operands.first())),
            ("find" | "findAll", Some(text), [pattern, ..]) => {
                let cost = size(text).plus(Range::fixed(1)).by(TEXT).times(size(pattern).by(PATTERN));
                Some(Estimated::sized(cost, Range::to(size(text).most)))
            }
            ("ip", Some(_), _) => nominal,
            (
                "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver",
                _,
                [text, ..],
            ) => Some(once(text)),
            ("ip.isCanonical", _, [text, ..]) => Some(Estimated::cost(size(text).by(2.0 * TEXT))),
            ("containsIP" | "containsCIDR", _, [other, ..]) => Some(Estimated::cost(contains(name, other))),
            ("validate", _, [text, ..]) => {
                Some(Estimated::cost(size(text).by(TEXT).by(FORMAT_PATTERN * PATTERN)))
            }
            (op::EQUALS, _, [a, b]) if a.kind.same(&b.kind) => equality(&a.kind, b),
            _ => None,
        }
    }

    /// A step through the items of a list, or the characters of a text.
    fn each_item(&self, of: &Operand<'_>) -> Range {
        let Some((kind, item)) = self.item(of) else { return size(of).by(TEXT) };
        let mut each = Range::fixed(1);
        if matches!(kind, Kind::Text | Kind::Bytes) {
            each = each.plus(item.by(TEXT));
        }
        size(of).times(each)
    }

    /// The type of the items of what has some, and their size.
    fn item(&self, of: &Operand<'_>) -> Option<(Kind, Range)> {
        let kind = match &of.kind {
            // The first type that a type is made of.
            Kind::List(inner) | Kind::Map(inner, _) | Kind::Optional(inner) => Kind::clone(inner),
            _ => return None,
        };
        let path = match &of.path {
            Path::Nowhere => Path::Nowhere,
            path => self.step(path, |declared| declared.item.as_ref()),
        };
        Some((kind, Self::declared_size(&path).unwrap_or(Range::ANY)))
    }

    fn joined(&self, list: &Operand<'_>, separator: Option<&Operand<'_>>) -> Estimated {
        let items = size(list);
        let mut text = self.item(list).map_or(Range::fixed(0), |(_, item)| items.times(item));
        if let Some(separator) = separator {
            let between = Range { least: items.least.saturating_sub(1), most: items.most.saturating_sub(1) };
            text = text.plus(size(separator).times(between));
        }
        Estimated::sized(text.by(TEXT), text)
    }
}

fn of_lists(name: &str, target: Option<&Operand<'_>>, operands: &[Operand<'_>]) -> Option<Estimated> {
    Some(match (name, target, operands) {
        ("sets.contains" | "sets.intersects" | "sets.equivalent", None, [a, b]) => {
            // Each set is looked for in the other one.
            let factor = if name == "sets.equivalent" { 2.0 } else { 1.0 };
            Estimated::cost(size(a).times(size(b)).by(factor).plus(Range::fixed(1)))
        }
        ("slice", Some(list), [start, end]) => {
            let (start, end) = (count(start, 0), count(end, size(list).most));
            new_list(1.0, Range::fixed(end.wrapping_sub(start)))
        }
        ("lists.range", None, [most]) => new_list(1.0, Range::fixed(count(most, u64::MAX))),
        ("reverse", Some(list), []) => new_list(1.0, size(list)),
        ("flatten", Some(list), []) => new_list(1.0, size(list)),
        ("flatten", Some(list), [depth]) => new_list(count(depth, u64::MAX) as f64, size(list)),
        ("distinct", Some(list), []) => new_list(2.0, size(list).times(size(list))),
        ("sort", Some(list), []) => {
            let texts =
                matches!(&list.kind, Kind::List(inner) if matches!(**inner, Kind::Text | Kind::Bytes));
            new_list(if texts { 2.0 + TEXT } else { 2.0 }, size(list).times(size(list)))
        }
        _ => return None,
    })
}

/// How long a text is in which one is replaced by another one.
fn replaced(text: Range, old: Range, new: Range) -> Range {
    let (mut times, mut kept) = (Range::fixed(0), Range::fixed(0));
    // At most: the smallest are replaced by the largest, as often as they fit.
    if old.least == 0 {
        times.most = text.most.saturating_add(1);
        kept.most = text.most;
    } else if new.most <= old.least {
        kept.most = text.most;
    } else {
        times.most = (text.most as f64 / old.least as f64).ceil() as u64;
    }
    // At least: the largest by the smallest.
    if old.most == 0 {
        times.least = text.least.saturating_add(1);
        kept.least = text.least;
    } else if old.most <= new.least {
        kept.least = text.least;
    } else {
        times.least = (text.least as f64 / old.most as f64).ceil() as u64;
    }
    times.times(new).plus(kept)
}

/// To look whether a network has an address or another network in it.
fn contains(name: &str, other: &Operand<'_>) -> Range {
    let mut cost = ADDRESS.plus(ADDRESS).by(TEXT);
    if name == "containsCIDR" {
        cost = cost.plus(ADDRESS.by(TEXT)).plus(Range::fixed(1));
    }
    // A text has to be read before.
    let read = cost.plus(size(other).by(TEXT));
    match other.kind {
        Kind::Text => read,
        Kind::Dyn => cost.or(read),
        _ => cost,
    }
}

fn equality(kind: &Kind, other: &Operand<'_>) -> Option<Estimated> {
    let Kind::Other(name) = kind else { return None };
    Some(Estimated::cost(match *name {
        "format" => Range { least: 1, most: FORMAT }.by(TEXT),
        "url" => {
            let most = other.computed.map_or(1, |size| size.most);
            Range { least: 1, most }.by(TEXT)
        }
        _ => Range::fixed(1),
    }))
}
