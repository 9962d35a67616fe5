//! `matchConditions`: all must hold, one that does not decides, whatever is wrong with the others.

use serde_json::Value;

use super::session::Session;
use super::{CONDITIONS, Inputs, Names};
use crate::cel::{Program, Type, Value as Cel};
use crate::object::text;

#[derive(Debug)]
struct Condition {
    source: String,
    program: Result<Program, String>,
}

/// The conditions of a webhook or policy.
#[derive(Debug)]
pub struct Conditions(Vec<Condition>);

/// Whether conditions hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// All do.
    Yes,
    /// One does not.
    No,
    /// That cannot be told, and the others hold.
    Unknown(String),
}

impl Conditions {
    /// Compiles conditions; one that cannot be compiled fails when it is asked.
    pub fn read(all: &[Value], params: bool) -> Self {
        let names = Names { params, authorizer: true, variables: &[] };
        let condition = |one: &Value| {
            let source = text(one, &["expression"]).to_owned();
            Condition { program: names.compile(source.trim(), &Type::Bool, false), source }
        };
        Self(all.iter().map(condition).collect())
    }

    /// Whether there are none, so that no inputs are needed.
    pub fn are_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether they hold for a request.
    pub fn hold(&self, inputs: &Inputs<'_>) -> Match {
        let mut session = Session::new(inputs, &[], CONDITIONS);
        let mut errors: Vec<String> = Vec::new();
        for condition in &self.0 {
            let outcome = match &condition.program {
                Ok(program) => session.evaluate(&condition.source, program),
                Err(why) => Err(format!("compilation error: {why}")),
            };
            match outcome {
                Ok(Cel::Bool(true)) => {}
                Ok(Cel::Bool(false)) => return Match::No,
                Ok(other) => {
                    let kind = other.type_name();
                    errors.push(format!("expression '{}' gave {kind}, not bool", condition.source));
                }
                Err(why) if !errors.contains(&why) => errors.push(why),
                Err(_) => {}
            }
        }
        match errors.as_slice() {
            [] => Match::Yes,
            [one] => Match::Unknown(one.clone()),
            many => Match::Unknown(format!("[{}]", many.join(", "))),
        }
    }
}
