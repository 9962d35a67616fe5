//! `MutatingAdmissionPolicy`: what is to become of an object, as a patch or as an apply configuration.

use serde_json::Value;

use super::session::{self, Session, Variable};
use super::{Conditions, Inputs, Match, Names, POLICY};
use crate::cel::{Program, Type, json};
use crate::object::{at, items, text};

#[derive(Debug)]
struct Mutation {
    source: String,
    json_patch: bool,
    program: Program,
}

#[derive(Debug)]
struct Programs {
    variables: Vec<Variable>,
    mutations: Vec<Mutation>,
}

/// A compiled policy.
#[derive(Debug)]
pub struct MutatingPolicy {
    /// Whether what cannot be evaluated is as good as refused.
    pub fails: bool,
    /// Whether it looks again at an object that others changed after it.
    pub again: bool,
    conditions: Conditions,
    programs: Result<Programs, String>,
}

/// What a mutation makes of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Patch {
    /// Operations of RFC 6902.
    Json(Value),
    /// Laid over the object, as by server-side apply.
    Apply(Value),
}

/// Compiles a mutation.
///
/// # Errors
/// Why it is none.
pub(super) fn compile(source: &str, json_patch: bool, names: &Names<'_>) -> Result<Program, String> {
    let wanted = if json_patch { Type::List(Box::new(Type::Any)) } else { Type::Other("Object") };
    names.compile(source, &wanted, true)
}

impl MutatingPolicy {
    /// Compiles the `spec` of a policy. One that cannot be compiled fails for every request.
    pub fn read(spec: &Value) -> Self {
        let params = at(spec, &["paramKind"]).is_some();
        Self {
            fails: text(spec, &["failurePolicy"]) != "Ignore",
            again: text(spec, &["reinvocationPolicy"]) == "IfNeeded",
            conditions: Conditions::read(items(spec, &["matchConditions"]), params),
            programs: Programs::read(spec, params),
        }
    }

    /// Whether it has anything to say about a request.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn applies(&self, inputs: &Inputs<'_>) -> Result<bool, String> {
        if let Err(why) = &self.programs {
            return Err(format!("compilation error: {why}"));
        }
        match self.conditions.hold(inputs) {
            Match::Yes => Ok(true),
            Match::No => Ok(false),
            Match::Unknown(why) => Err(why),
        }
    }

    /// Whether it has match conditions, and can be evaluated.
    pub fn has_conditions(&self) -> bool {
        self.programs.is_ok() && !self.conditions.are_empty()
    }

    /// How many mutations there are.
    pub fn mutations(&self) -> usize {
        self.programs.as_ref().map_or(0, |programs| programs.mutations.len())
    }

    /// What the mutation at `index` makes of the object as it is by now.
    ///
    /// # Errors
    /// When it cannot be evaluated.
    pub fn patch(&self, index: usize, inputs: &Inputs<'_>) -> Result<Patch, String> {
        let programs = self.programs.as_ref().map_err(|why| format!("compilation error: {why}"))?;
        let one = programs.mutations.get(index).ok_or("there is no such mutation")?;
        let mut session = Session::new(inputs, &programs.variables, POLICY);
        let value = session.evaluate(&one.source, &one.program)?;
        let value = json::of(&value).map_err(|_| {
            format!("expression '{}' resulted in error: its value has no JSON form", one.source)
        })?;
        match (one.json_patch, value) {
            (true, patch @ Value::Array(_)) => Ok(Patch::Json(patch)),
            (false, patch @ Value::Object(_)) => Ok(Patch::Apply(patch)),
            (true, _) => Err("unexpected evaluation result type: a list of JSONPatch is wanted".to_owned()),
            (false, _) => Err("unexpected evaluation result type: an Object is wanted".to_owned()),
        }
    }
}

impl Programs {
    fn read(spec: &Value, params: bool) -> Result<Self, String> {
        let variables = session::variables(spec, params)?;
        let known = session::names(&variables);
        let names = Names { params, authorizer: true, variables: &known };
        let mutation = |one: &Value| {
            let json_patch = text(one, &["patchType"]) == "JSONPatch";
            let member = if json_patch { "jsonPatch" } else { "applyConfiguration" };
            let source = text(one, &[member, "expression"]).to_owned();
            let program = compile(&source, json_patch, &names)?;
            Ok::<_, String>(Mutation { source, json_patch, program })
        };
        let mutations = items(spec, &["mutations"]).iter().map(mutation).collect::<Result<_, _>>()?;
        Ok(Self { variables, mutations })
    }
}
