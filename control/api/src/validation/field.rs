//! One broken rule: which field, what kind of rule, in upstream's wording (`apimachinery/pkg/util/validation/field`).

use std::fmt;

use serde_json::{Value, json};

use crate::protobuf;

/// The kind of a broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The value is not there.
    Required,
    /// The value is not acceptable.
    Invalid,
    /// The value is none of those that are allowed.
    NotSupported,
    /// The value is there twice.
    Duplicate,
    /// The value must not be set.
    Forbidden,
    /// The value has too many bytes.
    TooLong,
    /// The list has too many items.
    TooMany,
    /// The value is of the wrong type.
    TypeInvalid,
    /// The value refers to something that is not there.
    NotFound,
}

impl Rule {
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Rule::Required => ("FieldValueRequired", "Required value"),
            Rule::Invalid => ("FieldValueInvalid", "Invalid value"),
            Rule::NotSupported => ("FieldValueNotSupported", "Unsupported value"),
            Rule::Duplicate => ("FieldValueDuplicate", "Duplicate value"),
            Rule::Forbidden => ("FieldValueForbidden", "Forbidden"),
            Rule::TooLong => ("FieldValueTooLong", "Too long"),
            Rule::TooMany => ("FieldValueTooMany", "Too many"),
            Rule::TypeInvalid => ("FieldValueTypeInvalid", "Invalid value"),
            Rule::NotFound => ("FieldValueNotFound", "Not found"),
        }
    }
}

/// A broken rule.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// The path of the field: `spec.containers[0].name`.
    pub field: String,
    /// The kind of the rule.
    pub rule: Rule,
    /// What stood there, where that helps.
    pub value: Option<Value>,
    /// The same as upstream writes it, where that is not the JSON of the API.
    pub shown: Option<String>,
    /// What is expected.
    pub detail: String,
}

impl FieldError {
    fn new(field: impl Into<String>, rule: Rule, value: Option<Value>, detail: impl Into<String>) -> Self {
        Self { field: field.into(), rule, value, shown: None, detail: detail.into() }
    }

    /// The error with its value as upstream writes it: some are Go's structs, whose members have other names and order.
    #[must_use]
    pub fn shown_as(self, shown: impl Into<String>) -> Self {
        Self { shown: Some(shown.into()), ..self }
    }

    /// A value is missing.
    pub fn required(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(field, Rule::Required, None, detail)
    }

    /// A value is not acceptable.
    pub fn invalid(field: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(field, Rule::Invalid, Some(value.into()), detail)
    }

    /// A value is not acceptable, which upstream shows as its struct of that type (`meta/v1.ObjectMeta`).
    pub fn invalid_struct(
        field: impl Into<String>,
        of: &str,
        value: &Value,
        detail: impl Into<String>,
    ) -> Self {
        Self::invalid(field, value.clone(), detail).shown_as(protobuf::shown(of, value))
    }

    /// A value is none of those allowed.
    pub fn not_supported<S: AsRef<str>>(
        field: impl Into<String>,
        value: impl Into<Value>,
        choices: &[S],
    ) -> Self {
        let choices: Vec<String> = choices.iter().map(|one| format!("{:?}", one.as_ref())).collect();
        let detail = format!("supported values: {}", choices.join(", "));
        Self::new(field, Rule::NotSupported, Some(value.into()), detail)
    }

    /// A value refers to something that is not there.
    pub fn not_found(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::new(field, Rule::NotFound, Some(value.into()), "")
    }

    /// A value is there twice.
    pub fn duplicate(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::new(field, Rule::Duplicate, Some(value.into()), "")
    }

    /// A value must not be set.
    pub fn forbidden(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(field, Rule::Forbidden, None, detail)
    }

    /// A value has more than `limit` bytes.
    pub fn too_long(field: impl Into<String>, limit: usize) -> Self {
        Self::new(field, Rule::TooLong, None, format!("may not be more than {limit} bytes"))
    }

    /// A list has more than `limit` items.
    pub fn too_many(field: impl Into<String>, count: usize, limit: usize) -> Self {
        Self::new(field, Rule::TooMany, Some(count.into()), format!("must have at most {limit} items"))
    }

    /// The cause without the field's name: what `details.causes[].message` has.
    pub fn body(&self) -> String {
        let (_, title) = self.rule.words();
        let mut text = title.to_owned();
        match (&self.value, self.rule) {
            (
                Some(value),
                Rule::Invalid | Rule::NotSupported | Rule::Duplicate | Rule::TypeInvalid | Rule::NotFound,
            ) => {
                text.push_str(": ");
                text.push_str(&self.shown.clone().unwrap_or_else(|| value.to_string()));
            }
            (Some(value), Rule::TooMany) => text.push_str(&format!(": {value}")),
            _ => {}
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }

    /// Several errors in one sentence; what is said twice counts once.
    pub fn together(errors: &[Self]) -> String {
        let mut texts: Vec<String> = Vec::new();
        for text in errors.iter().map(Self::to_string) {
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        }
    }

    /// The `StatusCause` of this rule.
    pub fn to_cause(&self) -> Value {
        json!({ "reason": self.rule.words().0, "message": self.body(), "field": self.field })
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_print_as_upstream_prints_them() {
        let cases = [
            (FieldError::required("spec.containers", ""), "spec.containers: Required value"),
            (
                FieldError::not_supported("spec.type", "x", &["A", "B"]),
                r#"spec.type: Unsupported value: "x": supported values: "A", "B""#,
            ),
            (
                FieldError::invalid("spec.replicas", -1, "must be greater than or equal to 0"),
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            ),
            (FieldError::duplicate("spec.ports[1].name", "a"), r#"spec.ports[1].name: Duplicate value: "a""#),
            (FieldError::forbidden("data", "field is immutable"), "data: Forbidden: field is immutable"),
            (FieldError::too_long("x", 5), "x: Too long: may not be more than 5 bytes"),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
    }
}
