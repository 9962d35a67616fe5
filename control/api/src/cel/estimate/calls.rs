//! What the functions and operators of CEL itself cost, by the overloads that their operands may choose.

use ::cel::common::ast::{CallExpr, IdedExpr, operators as op};

use super::kinds::Kind;
use super::range::Range;
use super::walk::{Operand, Walk};

/// To go through a text once, per character.
pub(super) const TEXT: f64 = 0.1;
/// To match a regular expression, per character of it and character of the text.
pub(super) const PATTERN: f64 = 0.25;

/// What a call costs beside its operands, and how large its result is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Estimated {
    pub(super) cost: Range,
    pub(super) size: Option<Range>,
}

impl Estimated {
    pub(super) fn cost(cost: Range) -> Self {
        Self { cost, size: None }
    }

    pub(super) fn sized(cost: Range, size: Range) -> Self {
        Self { cost, size: Some(size) }
    }
}

/// Overloads that cost alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overload {
    /// The same for all operands.
    Plain,
    Either,
    Conditional,
    /// Texts or bytes one behind the other.
    Concatenation,
    Lists,
    /// Until operands differ.
    Comparison,
    InList,
    InMap,
    ListIndex,
    MapIndex,
    Ends,
    Matches,
    Contains,
    Format,
    ToBytes,
    FromBytes,
    Quote,
}

impl<'e> Walk<'e> {
    pub(super) fn call(&mut self, one: &'e IdedExpr, call: &'e CallExpr) -> Range {
        let name = call.func_name.as_str();
        if let ("dyn", [inner]) = (name, &call.args[..]) {
            let cost = self.cost(inner);
            self.copy_sizes(one.id, inner);
            return cost.plus(Range::fixed(1));
        }
        if matches!(name, "optMap" | "optFlatMap")
            && let Some(cost) = self.optional_map(one, call)
        {
            return cost;
        }
        let mut costs = Vec::new();
        let mut operands = Vec::new();
        for argument in &call.args {
            costs.push(self.cost(argument));
            operands.push(self.operand(argument));
        }
        let (mut sum, mut target) = (Range::fixed(0), None);
        if let Some(receiver) = call.target.as_deref() {
            sum = self.cost(receiver);
            target = Some(self.operand(receiver));
        }
        let (mut cost, mut size) = (Range::NONE, None::<Range>);
        for overload in overloads(name, target.as_ref(), &operands) {
            let own = self.overload(one, name, overload, target.as_ref(), &operands, &costs);
            cost = cost.or(own.cost);
            if let Some(own) = own.size {
                size = Some(size.map_or(own, |size| size.or(own)));
            }
            let container = call.args.first();
            match (overload, container) {
                (Overload::ListIndex, Some(list)) => {
                    size = self.item_size(list);
                    let path = self.below(list, |declared| declared.item.as_ref());
                    self.set_path(one.id, path);
                }
                (Overload::MapIndex, Some(map)) => {
                    size = self.item_size(map);
                    let path = self.below(map, |declared| declared.item.as_ref());
                    self.set_path(one.id, path);
                }
                _ => {}
            }
            if size.is_none() {
                size = self.size(one);
            }
        }
        self.set_size(one.id, size);
        sum.plus(cost)
    }

    fn overload(
        &mut self,
        one: &'e IdedExpr,
        name: &str,
        overload: Overload,
        target: Option<&Operand<'e>>,
        operands: &[Operand<'e>],
        costs: &[Range],
    ) -> Estimated {
        let all = costs.iter().fold(Range::fixed(0), |sum, cost| sum.plus(*cost));
        if let Some(own) = self.added(name, target, operands) {
            return Estimated { cost: own.cost.plus(all), ..own };
        }
        let size = |operand: &Operand<'_>| operand.computed.unwrap_or(Range::ANY);
        let own = match (overload, target, operands) {
            (Overload::Either, ..) => {
                let [left, right] = costs else { return Estimated::cost(all) };
                // The right one may not be asked.
                let most = left.plus(*right).most;
                return Estimated::cost(Range { least: left.least, most });
            }
            (Overload::Conditional, _, [_, yes, no]) => {
                self.join_entries(one.id, yes.expression, no.expression);
                let cost = costs[0].plus(costs[1].or(costs[2]));
                return Estimated::sized(cost, size(yes).or(size(no)));
            }
            (Overload::Concatenation | Overload::Lists, _, [a, b]) => {
                let both = size(a).plus(size(b));
                self.join_entries(one.id, a.expression, b.expression);
                match overload {
                    Overload::Lists => Estimated::sized(Range::fixed(1), both),
                    _ => Estimated::sized(both.by(TEXT), both),
                }
            }
            (Overload::Comparison, _, [a, b]) => {
                let most = size(a).most.min(size(b).most);
                Estimated::cost(Range { least: most.min(1), most }.by(TEXT))
            }
            (Overload::InList, _, [_, list]) => Estimated::cost(size(list).by(1.0)),
            (Overload::Ends, _, [part]) => Estimated::cost(size(part).by(TEXT)),
            (Overload::Matches, Some(text), [pattern]) => {
                // Of an empty text the pattern costs something, too.
                let text = size(text).plus(Range::fixed(1)).by(TEXT);
                Estimated::cost(text.times(size(pattern).by(PATTERN)))
            }
            (Overload::Contains, Some(text), [part]) => {
                Estimated::cost(size(text).by(TEXT).times(size(part).by(TEXT)))
            }
            (Overload::Format, Some(text), _) => Estimated::cost(size(text).by(TEXT)),
            (Overload::ToBytes, _, [text]) => {
                let size = size(text);
                Estimated::sized(size.by(TEXT), Range { most: size.most.wrapping_mul(4), ..size })
            }
            (Overload::FromBytes, _, [bytes]) => {
                let size = size(bytes);
                Estimated::sized(size.by(TEXT), Range { least: size.least / 4, ..size })
            }
            (Overload::Quote, _, [text]) => {
                let size = size(text);
                let quoted = Range {
                    least: size.least.wrapping_add(2),
                    most: size.most.wrapping_mul(2).wrapping_add(2),
                };
                Estimated::sized(size.by(TEXT), quoted)
            }
            _ => Estimated::cost(Range::fixed(1)),
        };
        Estimated { cost: own.cost.plus(all), ..own }
    }
}

/// The overloads that operands may choose, in upstream's order.
fn overloads(name: &str, target: Option<&Operand<'_>>, operands: &[Operand<'_>]) -> Vec<Overload> {
    let kinds: Vec<&Kind> = operands.iter().map(|operand| &operand.kind).collect();
    let both = |kind: Kind| kinds.iter().all(|one| one.may_be(&kind));
    let mut found = Vec::new();
    let mut may = |is_so: bool, overload: Overload| {
        if is_so {
            found.push(overload);
        }
    };
    match (name, &kinds[..]) {
        (op::LOGICAL_AND | op::LOGICAL_OR, _) => may(true, Overload::Either),
        (op::CONDITIONAL, _) => may(true, Overload::Conditional),
        (op::EQUALS | op::NOT_EQUALS, _) => may(true, Overload::Comparison),
        (op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS, [a, b]) => {
            let plain = |one: &Kind| matches!(one, Kind::Dyn) || one.is_scalar();
            may(plain(a) && plain(b), Overload::Plain);
            may(both(Kind::Text) || both(Kind::Bytes), Overload::Comparison);
        }
        (op::ADD, [a, b]) => {
            let plain = |one: &Kind| matches!(one, Kind::Dyn) || one.is_scalar();
            may(both(Kind::Bytes), Overload::Concatenation);
            may(plain(a) && plain(b), Overload::Plain);
            may(a.may_be_list() && b.may_be_list(), Overload::Lists);
            may(both(Kind::Text), Overload::Concatenation);
        }
        (op::IN, [_, many]) => {
            may(many.may_be_list(), Overload::InList);
            may(many.may_be_map(), Overload::InMap);
        }
        (op::INDEX, [many, index]) => {
            may(many.may_be_list() && index.may_be(&Kind::Int), Overload::ListIndex);
            may(many.may_be_map(), Overload::MapIndex);
        }
        ("startsWith" | "endsWith", _) => may(true, Overload::Ends),
        ("matches", _) => may(target.is_some(), Overload::Matches),
        ("contains", _) => may(true, Overload::Contains),
        ("format", _) => may(true, Overload::Format),
        ("bytes", [of]) => {
            may(of.may_be(&Kind::Bytes), Overload::Plain);
            may(of.may_be(&Kind::Text), Overload::ToBytes);
        }
        ("string", [of]) => {
            may(!matches!(of, Kind::Bytes), Overload::Plain);
            may(of.may_be(&Kind::Bytes), Overload::FromBytes);
        }
        ("strings.quote", _) => may(true, Overload::Quote),
        _ => {}
    }
    if found.is_empty() {
        found.push(Overload::Plain);
    }
    found
}
