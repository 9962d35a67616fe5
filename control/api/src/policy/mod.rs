//! Policies: expressions that decide on writes (`ValidatingAdmissionPolicy`), change them (`MutatingAdmissionPolicy`), or
//! say whether a webhook is asked (`matchConditions`).
//!
//! Owns compiling and evaluating them, with what it may cost. Which policies apply to a request, where their parameters
//! come from and what becomes of a verdict, the server decides. Pure: rights are asked of an [`Authority`] passed in.

mod conditions;
mod mutating;
mod overlay;
mod session;
mod types;
mod validating;

use serde_json::Value;

pub use crate::cel::{Asker, Authority, Question, Ruling};
use crate::cel::{Program, Type};

pub use conditions::{Conditions, Match};
pub use mutating::{MutatingPolicy, Patch};
pub use overlay::lay;
pub use types::warnings;
pub use validating::{Decision, ValidatingPolicy, Verdict};

/// What all expressions of one policy may cost for one request and one parameter, as upstream has it.
const POLICY: u64 = 10_000_000;
/// What match conditions may cost.
const CONDITIONS: u64 = 2_500_000;

/// The names that an expression may use, besides `object`, `oldObject`, `request` and `namespaceObject`.
#[derive(Clone, Copy, Debug)]
pub struct Names<'n> {
    /// Whether there is `params`.
    pub params: bool,
    /// Whether there is `authorizer`.
    pub authorizer: bool,
    /// The fields of `variables`.
    pub variables: &'n [String],
}

impl<'n> Names<'n> {
    fn types(&self) -> Vec<(&'n str, Type<'n>)> {
        let mut types: Vec<(&str, Type<'_>)> =
            ["object", "oldObject", "request", "namespaceObject"].map(|name| (name, Type::Any)).into();
        if self.params {
            types.push(("params", Type::Any));
        }
        if self.authorizer {
            types.push(("authorizer", Type::Any));
        }
        if !self.variables.is_empty() {
            types.push(("variables", Type::Record(self.variables)));
        }
        types
    }

    fn compile(&self, source: &str, wanted: &Type<'_>, messages: bool) -> Result<Program, String> {
        Program::compile_with(source, &self.types(), wanted, messages)
    }
}

/// Whether an expression can be kept as a condition.
///
/// # Errors
/// Why not.
pub fn check_bool(source: &str, names: &Names<'_>) -> Result<(), String> {
    names.compile(source, &Type::Bool, false).map(drop)
}

/// How a reason begins that is about the type of an expression alone.
pub(crate) const OTHER_TYPE: &str = "must evaluate to ";

/// Whether an expression can be kept as one that gives text.
///
/// # Errors
/// Why not.
pub fn check_text(source: &str, names: &Names<'_>) -> Result<(), String> {
    names.compile(source, &Type::Text, false).map(drop)
}

/// Whether an expression can be kept as one that gives text or nothing.
///
/// # Errors
/// Why not.
pub fn check_annotation(source: &str, names: &Names<'_>) -> Result<(), String> {
    // Nothing has no type of its own, so that it may be one that gives text.
    names.compile(source, &Type::Text, false).map(drop).map_err(|why| {
        why.replacen("must evaluate to string", "must evaluate to one of [string null_type]", 1)
    })
}

/// Whether an expression can be kept as one that gives anything.
///
/// # Errors
/// Why not.
pub fn check_any(source: &str, names: &Names<'_>) -> Result<(), String> {
    names.compile(source, &Type::Any, false).map(drop)
}

/// Whether an expression can be kept as a mutation.
///
/// # Errors
/// Why not.
pub fn check_mutation(source: &str, json_patch: bool, names: &Names<'_>) -> Result<(), String> {
    mutating::compile(source, json_patch, names).map(drop)
}

/// What a request is, for expressions.
pub struct Inputs<'a> {
    /// The new object, null for deletions.
    pub object: &'a Value,
    /// The old object, null for creations.
    pub old: &'a Value,
    /// The request, as in an admission review.
    pub request: &'a Value,
    /// The parameters, null where there are none.
    pub params: &'a Value,
    /// The namespace, null for cluster scope.
    pub namespace: &'a Value,
    /// Who knows what the author may do.
    pub authority: &'a dyn Authority,
    /// What the request itself is about, for `authorizer.requestResource`.
    pub resource: &'a Question,
}

impl std::fmt::Debug for Inputs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inputs").field("request", self.request).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
