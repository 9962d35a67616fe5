//! CEL, the language of rules in custom resources (and of whatever else asks an expression about an object).
//!
//! The parser and its macros are those of the `cel` crate; evaluation is here, for three reasons: it counts what it does
//! and ends an expression that costs too much, it reads objects in place with the types of their schema, and it knows the
//! functions that Kubernetes adds. An expression is checked before it is kept: names, functions, fields of a schema, and
//! operands whose types are known.

mod amounts;
mod authz;
mod binding;
mod compare;
pub(crate) mod estimate;
mod evaluate;
mod functions;
#[cfg(test)]
pub(crate) mod hostile_tests;
mod infer;
pub(crate) mod json;
mod lists;
mod local;
mod net;
mod optional;
mod shown;
mod texts;
mod time;
mod value;
mod versions;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ::cel::common::ast::{EntryExpr, Expr, IdedEntryExpr, IdedExpr, LiteralValue, SourceInfo, operators};
use ::cel::parser::Parser;
use regex::Regex;

pub(crate) use authz::Asked;
pub use authz::{Asker, Authority, Question, Ruling};
pub(crate) use infer::Type;
use infer::Wrong;
pub(crate) use value::{RESERVED, Value};

/// What one expression may cost: about a value looked at, or a dozen bytes of text.
pub(crate) const EXPRESSION: u64 = 1_000_000;
/// What all expressions about one object may cost.
pub(crate) const OBJECT: u64 = 10_000_000;
/// The longest expression (bytes).
const LONGEST: usize = 16 << 10;
/// The deepest nesting of an expression.
const DEEPEST: usize = 200;
/// What the parser has for its recursion (bytes): the depth is only known behind it.
const STACK: usize = 128 << 20;

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It makes no sense for these values.
    Error(String),
    /// It costs too much.
    Cost,
}

impl Fault {
    fn error(why: impl Into<String>) -> Self {
        Self::Error(why.into())
    }
}

type Outcome<T> = Result<T, Fault>;

/// What is left to spend, and what was paid for and may be used again.
#[derive(Debug)]
pub(crate) struct Budget {
    left: u64,
    /// The regular expressions that the expression itself has, compiled with it.
    known: Arc<HashMap<String, Regex>>,
    /// Those that were compiled since.
    patterns: HashMap<String, Regex>,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Self {
        Self { left: limit, known: Arc::default(), patterns: HashMap::new() }
    }

    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    pub(crate) fn spend(&mut self, cost: u64) -> Outcome<()> {
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(Fault::Cost)
            }
        }
    }
}

/// An expression that was checked.
#[derive(Debug)]
pub(crate) struct Program {
    expression: IdedExpr,
    /// The regular expressions that are written in it.
    patterns: Arc<HashMap<String, Regex>>,
}

impl Program {
    /// Reads and checks an expression of these variables; it must have the type wanted, as far as that can be told.
    ///
    /// # Errors
    /// Why it is none.
    pub(crate) fn compile(
        source: &str,
        variables: &[(&str, Type<'_>)],
        wanted: &Type<'_>,
    ) -> Result<Self, String> {
        Self::compile_with(source, variables, wanted, false)
    }

    /// The same, where the expression may give names to values by `cel.bind`.
    ///
    /// # Errors
    /// Why it is none.
    pub(crate) fn compile_binding(
        source: &str,
        variables: &[(&str, Type<'_>)],
        wanted: &Type<'_>,
    ) -> Result<Self, String> {
        let (mut expression, places) = parse(source)?;
        local::expand(&mut expression);
        Self::checked(source, (expression, places), variables, wanted, false)
    }

    /// The same; with `messages`, an expression may make an `Object` or a `JSONPatch`.
    ///
    /// # Errors
    /// Why it is none.
    pub(crate) fn compile_with(
        source: &str,
        variables: &[(&str, Type<'_>)],
        wanted: &Type<'_>,
        messages: bool,
    ) -> Result<Self, String> {
        Self::checked(source, parse(source)?, variables, wanted, messages)
    }

    fn checked(
        source: &str,
        (expression, places): (IdedExpr, SourceInfo),
        variables: &[(&str, Type<'_>)],
        wanted: &Type<'_>,
        messages: bool,
    ) -> Result<Self, String> {
        let show = |wrong: Vec<Wrong>| {
            let located = |(id, why)| (places.offset_for(id).map(|(start, _)| start as usize), why);
            shown::at_offsets(source, wrong.into_iter().map(located).collect())
        };
        let found = infer::check(&expression, variables, messages).map_err(show)?;
        if !found.may_be(wanted) {
            return Err(format!("must evaluate to {} but got {}", wanted.shown(), found.shown()));
        }
        let mut patterns = HashMap::new();
        texts::written_patterns(&expression, &mut patterns).map_err(|wrong| show(vec![wrong]))?;
        Ok(Self { expression, patterns: Arc::new(patterns) })
    }

    /// The value of the expression.
    ///
    /// # Errors
    /// When it makes no sense for these values, or costs too much.
    pub(crate) fn evaluate<'a>(
        &'a self,
        variables: &[(&'a str, Value<'a>)],
        budget: &mut Budget,
    ) -> Outcome<Value<'a>> {
        budget.known = self.patterns.clone();
        evaluate::run(&self.expression, variables, budget)
    }

    /// The fields of a variable that it mentions.
    pub(crate) fn fields_of(&self, variable: &str) -> BTreeSet<&str> {
        let mut fields = BTreeSet::new();
        fields_of(&self.expression, variable, &mut fields);
        fields
    }

    /// Whether it mentions a variable.
    pub(crate) fn mentions(&self, variable: &str) -> bool {
        mentions(&self.expression, variable)
    }

    /// Whether it looks at this field of a variable, plainly or as an optional one.
    pub(crate) fn selects(&self, variable: &str, field: &str) -> bool {
        selects(&self.expression, variable, field)
    }
}

/// Parses on a thread of its own, with a stack that the longest expression cannot exhaust.
fn parse(source: &str) -> Result<(IdedExpr, SourceInfo), String> {
    if source.is_empty() {
        // Upstream counts columns of nothing from zero.
        return Err("ERROR: <input>:1:0: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', \
            'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}"
            .into());
    }
    if source.trim().is_empty() {
        return Err("an expression is required".into());
    }
    if source.len() > LONGEST {
        return Err(format!("the expression is longer than {LONGEST} bytes"));
    }
    let source = source.to_owned();
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(move || {
        let parser = Parser::new().enable_optional_syntax(true).enable_ident_escape_syntax(true);
        let (expression, places) = parser.parse_with_source_info(&source).map_err(|errors| {
            let place = |at: isize| usize::try_from(at).unwrap_or(0);
            let errors = errors.errors.into_iter().map(|one| (place(one.pos.0), place(one.pos.1), one.msg));
            shown::at_places(&source, errors.collect())
        })?;
        if depth(&expression) > DEEPEST {
            return Err(format!("the expression is nested deeper than {DEEPEST} levels"));
        }
        Ok((expression, places))
    });
    let thread = thread.map_err(|why| format!("the expression cannot be read now: {why}"))?;
    thread.join().unwrap_or_else(|_| Err("the expression cannot be read".into()))
}

/// The expressions of the entries of a literal.
fn entries(entries: &[IdedEntryExpr]) -> Vec<&IdedExpr> {
    let both = entries.iter().map(|entry| match &entry.expr {
        EntryExpr::StructField(field) => (None, &field.value),
        EntryExpr::MapEntry(entry) => (Some(&entry.key), &entry.value),
    });
    both.flat_map(|(key, value)| key.into_iter().chain([value])).collect()
}

/// The expressions directly within an expression.
fn within(expression: &IdedExpr) -> Vec<&IdedExpr> {
    match &expression.expr {
        Expr::Call(call) => call.target.iter().map(|one| &**one).chain(&call.args).collect(),
        Expr::Comprehension(one) => {
            vec![&one.iter_range, &one.accu_init, &one.loop_cond, &one.loop_step, &one.result]
        }
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => entries(&map.entries),
        Expr::Struct(one) => entries(&one.entries),
        Expr::Select(select) => vec![&select.operand],
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => Vec::new(),
    }
}

fn depth(expression: &IdedExpr) -> usize {
    1 + within(expression).into_iter().map(depth).max().unwrap_or(0)
}

fn fields_of<'e>(expression: &'e IdedExpr, variable: &str, fields: &mut BTreeSet<&'e str>) {
    match &expression.expr {
        Expr::Select(select) if matches!(&select.operand.expr, Expr::Ident(name) if name == variable) => {
            fields.insert(&select.field);
        }
        // `variables.?name`
        Expr::Call(call) => {
            if let [IdedExpr { expr: Expr::Ident(name), .. }, IdedExpr { expr: Expr::Literal(literal), .. }] =
                &call.args[..]
                && name == variable
                && let ::cel::common::ast::LiteralValue::String(field) = literal
            {
                fields.insert(field.inner());
            }
        }
        _ => {}
    }
    for one in within(expression) {
        fields_of(one, variable, fields);
    }
}

fn mentions(expression: &IdedExpr, variable: &str) -> bool {
    matches!(&expression.expr, Expr::Ident(name) if name == variable)
        || within(expression).into_iter().any(|one| mentions(one, variable))
}

fn selects(expression: &IdedExpr, variable: &str, field: &str) -> bool {
    let is_variable = |one: &IdedExpr| matches!(&one.expr, Expr::Ident(name) if name == variable);
    let found = match &expression.expr {
        Expr::Select(select) => is_variable(&select.operand) && select.field == field,
        Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
            (
                operators::OPT_SELECT,
                [of, IdedExpr { expr: Expr::Literal(LiteralValue::String(name)), .. }],
            ) => is_variable(of) && name.inner() == field,
            _ => false,
        },
        _ => false,
    };
    found || within(expression).into_iter().any(|one| selects(one, variable, field))
}

#[cfg(test)]
mod tests;
