//! CEL expressions over plain JSON: what configuration files ask about requests, tokens and users.
//!
//! The same language, functions and bounds as rules of custom resources have (`cel`), without a schema: names of variables
//! and functions are checked when an expression is read, fields when it is evaluated.

use std::sync::LazyLock;

use serde_json::{Value as Json, json};

use crate::cel::estimate::Declared;
use crate::cel::{Budget, EXPRESSION, Fault, Program, Type, Value};
use crate::custom::Node;

/// What a selector of devices may cost at most (`CELSelectorExpressionMaxCost` of upstream).
const DEVICE_SELECTOR: u64 = 1_000_000;

/// Whether an expression that selects devices costs no more than it may.
///
/// # Errors
/// Why it is none.
pub(crate) fn device_selector(source: &str) -> Result<bool, String> {
    static DEVICE: LazyLock<Node> = LazyLock::new(|| {
        let by_domain = json!({ "type": "object", "additionalProperties": {
            "type": "object", "additionalProperties": { "x-kubernetes-int-or-string": true } } });
        let device = json!({ "type": "object", "properties": {
            "driver": { "type": "string" }, "allowMultipleAllocations": { "type": "boolean" },
            "attributes": by_domain, "capacity": by_domain } });
        Node::read(&device).unwrap_or_default()
    });
    let program = Program::compile_binding(source, &[("device", Type::of(&DEVICE))], &Type::Bool);
    let program = program.map_err(|why| match why.strip_prefix("must evaluate to bool but got ") {
        Some(found) => format!("must evaluate to bool or the unknown type, not {found}"),
        None => format!("compilation failed: {why}"),
    })?;
    Ok(program.estimate_of("device", &Declared::device()) <= DEVICE_SELECTOR)
}

/// What an expression must evaluate to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A truth value.
    Bool,
    /// A text.
    Text,
    /// Anything.
    Anything,
}

/// An expression that was read and checked.
#[derive(Debug)]
pub struct Expression {
    source: String,
    program: Program,
}

impl Expression {
    /// Reads an expression about these variables.
    ///
    /// # Errors
    /// Why it is none, in the words of upstream's compiler as far as it has any.
    pub fn compile(source: &str, variables: &[&str], wanted: Wanted) -> Result<Self, String> {
        let variables: Vec<(&str, Type<'_>)> = variables.iter().map(|name| (*name, Type::Any)).collect();
        let wanted = match wanted {
            Wanted::Bool => Type::Bool,
            Wanted::Text => Type::Text,
            Wanted::Anything => Type::Any,
        };
        let program = Program::compile(source, &variables, &wanted)?;
        Ok(Self { source: source.to_owned(), program })
    }

    /// The text that it was read from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it looks at this field of a variable.
    pub fn selects(&self, variable: &str, field: &str) -> bool {
        self.program.selects(variable, field)
    }

    /// The value of the expression. Bounded in what it may cost.
    ///
    /// # Errors
    /// When it makes no sense for these values, costs too much, or is nothing that JSON knows.
    pub fn evaluate(&self, variables: &[(&str, &Json)]) -> Result<Json, String> {
        let variables: Vec<(&str, Value<'_>)> =
            variables.iter().map(|(name, value)| (*name, Value::of(value, None))).collect();
        let found =
            self.program.evaluate(&variables, &mut Budget::new(EXPRESSION)).map_err(|fault| match fault {
                Fault::Error(why) => why,
                Fault::Cost => "operation cancelled: actual cost limit exceeded".to_owned(),
            })?;
        found
            .to_json()
            .ok_or_else(|| format!("a value of the type {} has no form in JSON", found.type_name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expression_over_json_has_its_value() {
        let claims = json!({"sub": "jane", "groups": ["a", "b"], "nested": {"x": 1}, "n": null});
        for (source, expected) in [
            ("claims.sub", json!("jane")),
            ("'oidc:' + claims.sub", json!("oidc:jane")),
            ("claims.groups.map(g, 'g:' + g)", json!(["g:a", "g:b"])),
            ("claims.nested", json!({"x": 1})),
            ("claims.?email_verified.orValue(true) == true", json!(true)),
            ("has(claims.email)", json!(false)),
            ("claims.n == null", json!(true)),
            ("claims.groups.exists(g, g == 'a') && claims.nested.x == 1", json!(true)),
        ] {
            let expression = Expression::compile(source, &["claims"], Wanted::Anything).unwrap();
            assert_eq!(expression.evaluate(&[("claims", &claims)]), Ok(expected), "{source}");
        }
    }

    #[test]
    fn expression_that_is_wrong_is_refused_early_or_late() {
        for source in ["", "claims.", "users.name", "claims.sub.nonsense()", "1 + 'a'"] {
            assert!(Expression::compile(source, &["claims"], Wanted::Anything).is_err(), "{source}");
        }
        assert!(Expression::compile("1", &[], Wanted::Bool).is_err());
        assert!(Expression::compile("true", &[], Wanted::Text).is_err());
        let missing = Expression::compile("claims.sub", &["claims"], Wanted::Anything).unwrap();
        assert!(missing.evaluate(&[("claims", &json!({}))]).unwrap_err().contains("sub"));
        let costly = "claims.l.all(a, claims.l.all(b, claims.l.all(c, a + b + c >= 0)))";
        let list = json!({"l": (0..500).collect::<Vec<i64>>()});
        let costly = Expression::compile(costly, &["claims"], Wanted::Bool).unwrap();
        assert!(costly.evaluate(&[("claims", &list)]).unwrap_err().contains("cost"));
    }

    #[test]
    fn fields_that_are_looked_at_are_known() {
        for (source, expected) in [
            ("claims.email", true),
            ("claims.?email.orValue('')", true),
            ("['a'].exists(x, x == claims.email)", true),
            ("claims.nested.email", false),
            ("'claims.email'", false),
        ] {
            let expression = Expression::compile(source, &["claims"], Wanted::Anything).unwrap();
            assert_eq!(expression.selects("claims", "email"), expected, "{source}");
        }
    }
}
