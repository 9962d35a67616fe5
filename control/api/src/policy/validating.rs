//! `ValidatingAdmissionPolicy`: validations that must hold, and annotations for the audit log.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::session::{self, Session, Variable};
use super::{Conditions, Inputs, Match, Names, POLICY};
use crate::cel::{Program, Type, Value as Cel};
use crate::object::{at, items, text};

/// The longest message that an expression may give (bytes).
const LONGEST_MESSAGE: usize = 5 << 10;

#[derive(Debug)]
struct Validation {
    source: String,
    program: Program,
    message: String,
    message_expression: Option<(String, Program)>,
    reason: String,
}

#[derive(Debug)]
struct Annotation {
    key: String,
    source: String,
    program: Program,
}

#[derive(Debug)]
struct Programs {
    variables: Vec<Variable>,
    validations: Vec<Validation>,
    annotations: Vec<Annotation>,
}

/// A compiled policy.
#[derive(Debug)]
pub struct ValidatingPolicy {
    /// Whether what cannot be evaluated is as good as refused.
    pub fails: bool,
    conditions: Conditions,
    programs: Result<Programs, String>,
}

/// What one validation says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing against it.
    Admit,
    /// Refused.
    Deny {
        /// What to tell the author.
        message: String,
        /// The reason of the failure; nothing for what could not be evaluated.
        reason: String,
    },
}

/// What a policy says about a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// One for each validation, in order.
    pub decisions: Vec<Decision>,
    /// How long each of them took.
    pub took: Vec<Duration>,
    /// Key and value of audit annotations.
    pub annotations: Vec<(String, String)>,
    /// Annotations that could not be made, where that means refusal; why, and how long it took to find out.
    pub broken: Vec<(String, Duration)>,
    /// What could not be evaluated, where that means nothing.
    pub ignored: Vec<(String, Duration)>,
    /// What came of match conditions, if there are any, and how long that took.
    pub conditions: Option<(Match, Duration)>,
}

impl Verdict {
    /// Adds a decision, or what kept it from being made.
    fn push(&mut self, decision: Result<Decision, String>, fails: bool, took: Duration) {
        self.decisions.push(match decision {
            Ok(decision) => decision,
            Err(message) if fails => Decision::Deny { message, reason: String::new() },
            Err(message) => {
                self.ignored.push((message, took));
                Decision::Admit
            }
        });
        self.took.push(took);
    }
}

impl ValidatingPolicy {
    /// Compiles the `spec` of a policy. One that cannot be compiled fails for every request.
    pub fn read(spec: &Value) -> Self {
        let params = at(spec, &["paramKind"]).is_some();
        Self {
            fails: text(spec, &["failurePolicy"]) != "Ignore",
            conditions: Conditions::read(items(spec, &["matchConditions"]), params),
            programs: Programs::read(spec, params),
        }
    }

    /// What it says about a request.
    pub fn evaluate(&self, inputs: &Inputs<'_>) -> Verdict {
        let mut verdict = Verdict::default();
        let began = Instant::now();
        let programs = match &self.programs {
            Ok(programs) => programs,
            Err(why) => {
                verdict.push(Err(format!("compilation error: {why}")), self.fails, began.elapsed());
                return verdict;
            }
        };
        if !self.conditions.are_empty() {
            let found = self.conditions.hold(inputs);
            verdict.conditions = Some((found.clone(), began.elapsed()));
            match found {
                Match::Yes => {}
                Match::No => return verdict,
                Match::Unknown(_) if !self.fails => return verdict,
                Match::Unknown(why) => {
                    verdict.push(Err(why), self.fails, began.elapsed());
                    return verdict;
                }
            }
        }
        let mut session = Session::new(inputs, &programs.variables, POLICY);
        for one in &programs.validations {
            let began = Instant::now();
            verdict.push(decide(one, &mut session), self.fails, began.elapsed());
        }
        let mut session = Session::new(inputs, &programs.variables, POLICY);
        for one in &programs.annotations {
            let began = Instant::now();
            match session.evaluate(&one.source, &one.program) {
                Ok(Cel::Text(text)) if !text.trim().is_empty() => {
                    verdict.annotations.push((one.key.clone(), text.trim().to_owned()));
                }
                Ok(Cel::Text(_) | Cel::Null) => {}
                Ok(other) => {
                    let why = format!(
                        "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either \
                         string or null.",
                        one.source,
                        other.type_name()
                    );
                    verdict.broken.push((why, began.elapsed()));
                }
                Err(why) if self.fails => verdict.broken.push((why, began.elapsed())),
                Err(_) => {}
            }
        }
        verdict
    }
}

fn decide<'a>(one: &'a Validation, session: &mut Session<'a>) -> Result<Decision, String> {
    Ok(match session.evaluate(&one.source, &one.program)? {
        Cel::Bool(true) => Decision::Admit,
        _ => Decision::Deny { message: one.message(session), reason: one.reason.clone() },
    })
}

impl Validation {
    /// What its expression says, or else what is written, or the expression itself.
    fn message<'a>(&'a self, session: &mut Session<'a>) -> String {
        if let Some((source, program)) = &self.message_expression
            && let Ok(Cel::Text(text)) = session.evaluate(source, program)
        {
            let text = text.trim();
            if !text.is_empty() && text.len() <= LONGEST_MESSAGE && !text.contains('\n') {
                return text.to_owned();
            }
        }
        match self.message.as_str() {
            "" => format!("failed expression: {}", self.source.trim()),
            message => message.to_owned(),
        }
    }
}

impl Programs {
    fn read(spec: &Value, params: bool) -> Result<Self, String> {
        let variables = session::variables(spec, params)?;
        let known = session::names(&variables);
        let names = Names { params, authorizer: true, variables: &known };
        let quiet = Names { authorizer: false, ..names };
        let validation = |one: &Value| {
            let source = text(one, &["expression"]).to_owned();
            let message = text(one, &["messageExpression"]);
            let message_expression = match message.trim() {
                "" => None,
                _ => Some((message.to_owned(), quiet.compile(message, &Type::Text, false)?)),
            };
            let reason = match text(one, &["reason"]) {
                "" => "Invalid",
                reason => reason,
            };
            Ok::<_, String>(Validation {
                program: names.compile(&source, &Type::Bool, false)?,
                source,
                message: text(one, &["message"]).trim().to_owned(),
                message_expression,
                reason: reason.to_owned(),
            })
        };
        let annotation = |one: &Value| {
            let source = text(one, &["valueExpression"]).trim().to_owned();
            let program = names.compile(&source, &Type::Any, false)?;
            Ok::<_, String>(Annotation { key: text(one, &["key"]).to_owned(), program, source })
        };
        Ok(Self {
            validations: items(spec, &["validations"]).iter().map(validation).collect::<Result<_, _>>()?,
            annotations: items(spec, &["auditAnnotations"])
                .iter()
                .map(annotation)
                .collect::<Result<_, _>>()?,
            variables,
        })
    }
}
