//! The expressions of one policy over one request: values of names, variables when they are first asked for, and what is
//! left to spend.

use std::rc::Rc;

use serde_json::Value;

use super::{Inputs, Names};
use crate::cel::{Asked, Budget, EXPRESSION, Fault, Program, Type, Value as Cel};
use crate::object::{items, text};

/// A variable of a policy.
#[derive(Debug)]
pub(super) struct Variable {
    name: String,
    program: Program,
    /// The places of the variables that it uses.
    uses: Vec<usize>,
}

/// Compiles the variables of a policy.
///
/// # Errors
/// Why one of them is none.
pub(super) fn variables(spec: &Value, params: bool) -> Result<Vec<Variable>, String> {
    let mut known: Vec<String> = Vec::new();
    let mut variables = Vec::new();
    for one in items(spec, &["variables"]) {
        let (name, source) = (text(one, &["name"]).to_owned(), text(one, &["expression"]));
        let names = Names { params, authorizer: true, variables: &known };
        let program = names.compile(source, &Type::Any, false)?;
        let uses = uses(&program, &known);
        known.push(name.clone());
        variables.push(Variable { name, program, uses });
    }
    Ok(variables)
}

/// The names of variables, for those who compile what uses them.
pub(super) fn names(variables: &[Variable]) -> Vec<String> {
    variables.iter().map(|variable| variable.name.clone()).collect()
}

fn uses(program: &Program, known: &[String]) -> Vec<usize> {
    let fields = program.fields_of("variables");
    let used = known.iter().enumerate().filter(|(_, name)| fields.contains(&name.as_str()));
    used.map(|(at, _)| at).collect()
}

pub(super) struct Session<'a> {
    given: Vec<(&'a str, Cel<'a>)>,
    variables: &'a [Variable],
    values: Vec<Option<Result<Cel<'a>, Fault>>>,
    left: Budget,
}

impl<'a> Session<'a> {
    pub(super) fn new(inputs: &Inputs<'a>, variables: &'a [Variable], limit: u64) -> Self {
        let given = vec![
            ("object", Cel::of(inputs.object, None)),
            ("oldObject", Cel::of(inputs.old, None)),
            ("request", Cel::of(inputs.request, None)),
            ("namespaceObject", Cel::of(inputs.namespace, None)),
            ("params", Cel::of(inputs.params, None)),
            ("authorizer", Cel::Asked(Asked::start(inputs.authority, inputs.resource.clone()))),
        ];
        let values = variables.iter().map(|_| None).collect();
        Self { given, variables, values, left: Budget::new(limit) }
    }

    /// The value of an expression.
    ///
    /// # Errors
    /// Why there is none, in upstream's words.
    pub(super) fn evaluate(&mut self, source: &str, program: &'a Program) -> Result<Cel<'a>, String> {
        let names = names(self.variables);
        for at in uses(program, &names) {
            self.prepare(at);
        }
        let outcome = self.run(program);
        outcome.map_err(|fault| match fault {
            Fault::Cost if self.left.left() == 0 => {
                "validation failed due to running out of cost budget, no further validation rules will be run"
                    .to_owned()
            }
            fault => format!("expression '{source}' resulted in error: {}", told(&fault)),
        })
    }

    /// Evaluates a variable and those that it uses, once. That it failed, whoever uses it finds out.
    fn prepare(&mut self, at: usize) {
        if self.values[at].is_some() {
            return;
        }
        let variable = &self.variables[at];
        for used in &variable.uses {
            self.prepare(*used);
        }
        let outcome = self.run(&variable.program).map_err(|fault| match fault {
            Fault::Cost => Fault::Cost,
            fault => {
                let why =
                    format!("composited variable {:?} fails to evaluate: {}", variable.name, told(&fault));
                Fault::Error(why)
            }
        });
        self.values[at] = Some(outcome);
    }

    fn run(&mut self, program: &'a Program) -> Result<Cel<'a>, Fault> {
        let known = self.variables.iter().zip(&self.values);
        let known = known.filter_map(|(variable, value)| Some((variable.name.as_str(), value.clone()?)));
        let mut given = self.given.clone();
        given.push(("variables", Cel::Variables(Rc::new(known.collect()))));
        let limit = EXPRESSION.min(self.left.left());
        let mut own = Budget::new(limit);
        let outcome = program.evaluate(&given, &mut own);
        self.left.spend(limit - own.left())?;
        outcome
    }
}

fn told(fault: &Fault) -> &str {
    match fault {
        Fault::Error(why) => why,
        Fault::Cost => "operation cancelled: actual cost limit exceeded",
    }
}
