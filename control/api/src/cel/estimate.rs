//! What an expression may cost at most, told from the sizes that its schema allows: rules that could never be paid for
//! are refused with their definition, not with the first large object.
//!
//! Counts steps and loops. Texts are not counted, and what no schema describes counts as one item: a rule that is refused
//! here is one that upstream refuses, too; the budget at run time holds for the others.

use ::cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, operators as op};

use super::value::unescape;
use super::{Program, within};
use crate::custom::{Kind, More, Node};

/// What a rule may cost, for all values that it is about together (`StaticEstimatedCostLimit` of upstream).
pub(crate) const LIMIT: u64 = 10_000_000;
/// The largest request (bytes): what bounds a list that nothing else bounds.
const REQUEST: u64 = 3 << 20;

/// The fewest bytes that a value takes in JSON.
pub(crate) fn least_size(node: &Node) -> u64 {
    match node.kind {
        Some(Kind::String) => 2 + node.limits.min_length.unwrap_or_default(),
        Some(Kind::Boolean) => 4,
        Some(Kind::Array) => 2,
        Some(Kind::Object) => {
            let member =
                |name: &String| name.len() as u64 + 3 + node.properties.get(name).map_or(1, least_size);
            2 + node.required.iter().map(member).sum::<u64>()
        }
        _ => 1,
    }
}

/// The most values of a schema that fit into a request.
pub(crate) fn most_values(node: &Node) -> u64 {
    REQUEST / (least_size(node) + 1)
}

/// The most items or members that a value has; one where there are none.
fn most_items(node: &Node) -> u64 {
    match (node.kind, &node.more) {
        (Some(Kind::Array), _) => {
            let fit = node.items.as_deref().map_or(REQUEST, most_values);
            node.limits.max_items.unwrap_or(fit)
        }
        (Some(Kind::Object), More::Like(inner)) => {
            let fit = REQUEST / (least_size(inner) + 5);
            node.limits.max_properties.unwrap_or(fit)
        }
        _ => 1,
    }
}

impl Program {
    /// What it may cost for one value of `node`.
    pub(crate) fn estimate(&self, node: &Node) -> u64 {
        Estimate { names: vec![("self", Some(node)), ("oldSelf", Some(node))] }.cost(&self.expression)
    }
}

struct Estimate<'n> {
    /// What is known of names; the last one of a name counts.
    names: Vec<(&'n str, Option<&'n Node>)>,
}

impl<'n> Estimate<'n> {
    fn cost(&mut self, expression: &'n IdedExpr) -> u64 {
        match &expression.expr {
            Expr::Comprehension(one) => self.comprehension(one),
            _ => {
                let inner = within(expression);
                inner.into_iter().fold(1, |sum: u64, one| sum.saturating_add(self.cost(one)))
            }
        }
    }

    fn comprehension(&mut self, one: &'n ComprehensionExpr) -> u64 {
        let range = self.node(&one.iter_range);
        let times = range.map_or(1, most_items);
        let item = range.and_then(|range| range.items.as_deref());
        let start = self.cost(&one.iter_range).saturating_add(self.cost(&one.accu_init));
        let before = self.names.len();
        self.names.push((&one.accu_var, None));
        self.names.push((&one.iter_var, item));
        if let Some(second) = &one.iter_var2 {
            self.names.push((second, None));
        }
        let step = self.cost(&one.loop_cond).saturating_add(self.cost(&one.loop_step));
        let last = self.cost(&one.result);
        self.names.truncate(before);
        start.saturating_add(times.saturating_mul(step)).saturating_add(last)
    }

    /// The schema of what an expression gives, if that can be told.
    fn node(&self, expression: &'n IdedExpr) -> Option<&'n Node> {
        match &expression.expr {
            Expr::Ident(name) => self.names.iter().rev().find(|(known, _)| known == name)?.1,
            Expr::Select(select) if !select.test => {
                let node = self.node(&select.operand)?;
                let unescaped = unescape(&select.field);
                node.member(&select.field).or_else(|| node.member(unescaped.as_deref()?))
            }
            Expr::Call(CallExpr { func_name, args, .. }) if func_name == op::INDEX => {
                let node = self.node(args.first()?)?;
                match &node.more {
                    More::Like(inner) => Some(inner),
                    _ => node.items.as_deref(),
                }
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Type;
    use super::*;

    #[track_caller]
    fn check(schema: serde_json::Value, source: &str, most: u64) {
        let node = Node::read(&schema).unwrap();
        let program = Program::compile(source, &[("self", Type::of(&node))], &Type::Bool).unwrap();
        let cost = program.estimate(&node);
        assert!(cost <= most && cost > most / 3, "{source} costs {cost}, not about {most}");
    }

    #[test]
    fn loops_cost_what_their_ranges_allow() {
        let text = json!({ "type": "string" });
        let list = |most: u64| json!({ "type": "array", "maxItems": most, "items": text });
        check(json!({ "type": "integer" }), "self > 1 && self < 5", 8);
        check(list(100), "self.all(s, s == 'x')", 1000);
        check(list(100), "self.all(s, self.all(t, s == t))", 100_000);
        check(json!({ "type": "array", "items": text }), "self.all(s, s == 'x')", 10_000_000);
        let nested = json!({ "type": "object", "properties": { "a": list(10) } });
        check(nested, "self.a.all(s, s != '')", 100);
    }
}
