//! Makes of an expression the one that upstream estimates: macros of two variables become loops, functions with a name
//! before their dot are called without a receiver, and every part has a number of its own.

use ::cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, ListExpr, MapExpr, operators as op,
};

use super::super::{binding, functions};

/// The function that puts an entry into a map that is being made.
pub(super) const INSERT: &str = "cel.@mapInsert";
/// The variable of a loop in which it gathers its result.
const RESULT: &str = "@result";

/// Numbers parts.
#[derive(Default)]
pub(super) struct Expansion {
    last: u64,
}

impl Expansion {
    pub(super) fn of(expression: &IdedExpr) -> IdedExpr {
        Self::default().expand(expression)
    }

    fn number(&mut self, expr: Expr) -> IdedExpr {
        self.last += 1;
        IdedExpr { id: self.last, expr }
    }

    fn all(&mut self, many: &[IdedExpr]) -> Vec<IdedExpr> {
        many.iter().map(|one| self.expand(one)).collect()
    }

    fn expand(&mut self, expression: &IdedExpr) -> IdedExpr {
        let expr = match &expression.expr {
            Expr::Call(call) => self.call(call),
            Expr::Select(select) => {
                let mut select = select.clone();
                select.operand = Box::new(self.expand(&select.operand));
                Expr::Select(select)
            }
            Expr::List(list) => Expr::List(ListExpr { elements: self.all(&list.elements), ..list.clone() }),
            Expr::Map(map) => {
                let mut entries = map.entries.clone();
                for entry in &mut entries {
                    if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                        entry.key = self.expand(&entry.key);
                        entry.value = self.expand(&entry.value);
                    }
                }
                Expr::Map(MapExpr { entries })
            }
            Expr::Comprehension(one) => Expr::Comprehension(Box::new(ComprehensionExpr {
                iter_range: self.expand(&one.iter_range),
                accu_init: self.expand(&one.accu_init),
                loop_cond: self.expand(&one.loop_cond),
                loop_step: self.expand(&one.loop_step),
                result: self.expand(&one.result),
                iter_var: one.iter_var.clone(),
                iter_var2: one.iter_var2.clone(),
                accu_var: one.accu_var.clone(),
            })),
            other => other.clone(),
        };
        self.number(expr)
    }

    fn call(&mut self, call: &CallExpr) -> Expr {
        if let Some(target) = call.target.as_deref()
            && binding::variables(&call.func_name, &call.args) == Some(2)
        {
            return self.two_variables(&call.func_name, target, &call.args);
        }
        let qualified = call.target.as_deref().and_then(functions::namespace);
        let qualified = qualified.map(|space| format!("{space}.{}", call.func_name));
        let qualified = qualified.filter(|name| functions::NAMES.contains(&name.as_str()));
        let (func_name, target) = match (qualified, &call.target) {
            (Some(name), _) => (name, None),
            (None, target) => {
                (call.func_name.clone(), target.as_deref().map(|one| Box::new(self.expand(one))))
            }
        };
        Expr::Call(CallExpr { func_name, target, args: self.all(&call.args) })
    }

    fn result(&mut self) -> IdedExpr {
        self.number(Expr::Ident(RESULT.to_owned()))
    }

    fn made(&mut self, name: &str, args: Vec<IdedExpr>) -> IdedExpr {
        self.number(Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }))
    }

    fn truth(&mut self, is_so: bool) -> IdedExpr {
        self.number(Expr::Literal(::cel::common::ast::LiteralValue::Boolean(is_so.into())))
    }

    fn one(&mut self, number: i64) -> IdedExpr {
        self.number(Expr::Literal(::cel::common::ast::LiteralValue::Int(number.into())))
    }

    fn two_variables(&mut self, name: &str, target: &IdedExpr, arguments: &[IdedExpr]) -> Expr {
        let variable = |at: usize| binding::name_of(&arguments[at]).unwrap_or_default().to_owned();
        let iter_range = self.expand(target);
        let last = self.expand(&arguments[arguments.len() - 1]);
        let filter = (arguments.len() == 4).then(|| self.expand(&arguments[2]));
        let always = self.truth(true);
        let own = self.result();
        let (accu_init, loop_cond, loop_step, result) = match name {
            "all" => {
                let again = self.result();
                let cond = self.made(op::NOT_STRICTLY_FALSE, vec![again]);
                (always, cond, self.made(op::LOGICAL_AND, vec![own, last]), self.result())
            }
            "exists" => {
                let again = self.result();
                let no = self.made(op::LOGICAL_NOT, vec![again]);
                let cond = self.made(op::NOT_STRICTLY_FALSE, vec![no]);
                (self.truth(false), cond, self.made(op::LOGICAL_OR, vec![own, last]), self.result())
            }
            "transformList" => {
                let made = self.number(Expr::List(ListExpr::new(vec![last])));
                let step = self.made(op::ADD, vec![own, made]);
                let empty = self.number(Expr::List(ListExpr::new(Vec::new())));
                (empty, always, self.filtered(filter, step), self.result())
            }
            "transformMap" => {
                let key = self.number(Expr::Ident(variable(0)));
                let step = self.made(INSERT, vec![own, key, last]);
                let empty = self.number(Expr::Map(MapExpr { entries: Vec::new() }));
                (empty, always, self.filtered(filter, step), self.result())
            }
            _ => {
                let (one, again, end) = (self.one(1), self.result(), self.result());
                let more = self.made(op::ADD, vec![own, one]);
                let step = self.made(op::CONDITIONAL, vec![last, more, again]);
                let one = self.one(1);
                (self.one(0), always, step, self.made(op::EQUALS, vec![end, one]))
            }
        };
        Expr::Comprehension(Box::new(ComprehensionExpr {
            iter_range,
            iter_var: variable(0),
            iter_var2: Some(variable(1)),
            accu_var: RESULT.to_owned(),
            accu_init,
            loop_cond,
            loop_step,
            result,
        }))
    }

    fn filtered(&mut self, filter: Option<IdedExpr>, step: IdedExpr) -> IdedExpr {
        match filter {
            Some(filter) => {
                let unchanged = self.result();
                self.made(op::CONDITIONAL, vec![filter, step, unchanged])
            }
            None => step,
        }
    }
}
