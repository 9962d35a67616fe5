//! Scopes of quotas: which objects a quota is about.

use serde_json::Value;

use crate::object::{items, text};

/// One requirement: a scope and how it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// `Terminating`, `PriorityClass` and so on.
    pub scope: String,
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`.
    pub operator: String,
    /// For `In` and `NotIn`.
    pub values: Vec<String>,
}

impl Selector {
    /// The requirements of a quota's spec: its scopes and its selector.
    pub fn of_spec(spec: &Value) -> Vec<Self> {
        let plain = items(spec, &["scopes"]).iter().filter_map(Value::as_str);
        let plain = plain.map(|scope| Self {
            scope: scope.to_owned(),
            operator: "Exists".to_owned(),
            values: Vec::new(),
        });
        plain.chain(items(spec, &["scopeSelector", "matchExpressions"]).iter().map(Self::read)).collect()
    }

    /// One requirement, as objects and configurations carry it.
    pub fn read(value: &Value) -> Self {
        let values = items(value, &["values"]).iter().filter_map(Value::as_str).map(str::to_owned);
        Self {
            scope: text(value, &["scopeName"]).to_owned(),
            operator: text(value, &["operator"]).to_owned(),
            values: values.collect(),
        }
    }

    /// Whether something that has this class, or none, is meant.
    pub(super) fn admits(&self, class: Option<&str>) -> bool {
        let listed = |class: &str| self.values.iter().any(|value| value == class);
        match self.operator.as_str() {
            "Exists" => class.is_some(),
            "DoesNotExist" => class.is_none(),
            "In" => class.is_some_and(listed),
            "NotIn" => !class.is_some_and(listed),
            _ => false,
        }
    }
}

impl std::fmt::Display for Selector {
    /// In upstream's form, for messages.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{{{} {} [{}]}}", self.scope, self.operator, self.values.join(" "))
    }
}
