//! `cel.bind(name, value, expression)`: the macro of upstream's selectors of devices that the parser leaves as a call.
//!
//! It becomes what upstream's compiler makes of it: a comprehension of nothing, whose result is the expression.

use ::cel::common::ast::{
    ComprehensionExpr, EntryExpr, Expr, IdedEntryExpr, IdedExpr, ListExpr, LiteralValue,
};

use super::binding::name_of;

/// The variable of a comprehension that has none.
pub(super) const UNUSED: &str = "#unused";

/// Puts comprehensions in place of all such calls.
pub(super) fn expand(expression: &mut IdedExpr) {
    children(&mut expression.expr, &mut expand);
    let id = expression.id;
    let Expr::Call(call) = &mut expression.expr else { return };
    let of_cel = call.target.as_deref().and_then(name_of) == Some("cel");
    if !of_cel || call.func_name != "bind" || call.args.len() != 3 {
        return;
    }
    let Some(name) = name_of(&call.args[0]).map(str::to_owned) else { return };
    let (result, value) = (call.args.pop().unwrap_or_default(), call.args.pop().unwrap_or_default());
    let at = |expr: Expr| IdedExpr { id, expr };
    expression.expr = Expr::Comprehension(Box::new(ComprehensionExpr {
        iter_range: at(Expr::List(ListExpr { elements: Vec::new(), optional_indices: Vec::new() })),
        iter_var: UNUSED.to_owned(),
        iter_var2: None,
        accu_var: name.clone(),
        accu_init: value,
        loop_cond: at(Expr::Literal(LiteralValue::Boolean(false.into()))),
        loop_step: at(Expr::Ident(name)),
        result,
    }));
}

fn children(expression: &mut Expr, each: &mut dyn FnMut(&mut IdedExpr)) {
    match expression {
        Expr::Call(call) => {
            call.target.iter_mut().for_each(|one| each(one));
            call.args.iter_mut().for_each(each);
        }
        Expr::Comprehension(one) => {
            let all = [
                &mut one.iter_range,
                &mut one.accu_init,
                &mut one.loop_cond,
                &mut one.loop_step,
                &mut one.result,
            ];
            all.into_iter().for_each(each);
        }
        Expr::List(list) => list.elements.iter_mut().for_each(each),
        Expr::Map(map) => entries(&mut map.entries, each),
        Expr::Struct(one) => entries(&mut one.entries, each),
        Expr::Select(select) => each(&mut select.operand),
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => {}
    }
}

fn entries(entries: &mut [IdedEntryExpr], each: &mut dyn FnMut(&mut IdedExpr)) {
    for entry in entries {
        match &mut entry.expr {
            EntryExpr::StructField(field) => each(&mut field.value),
            EntryExpr::MapEntry(entry) => {
                each(&mut entry.key);
                each(&mut entry.value);
            }
        }
    }
}
