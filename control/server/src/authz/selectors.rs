//! What a request selects, as authorizers are told (KEP-4601): the conditions of its field and label selectors.
//!
//! Only conditions that narrow what is answered count; what cannot be read is left out, which can only lead to a broader
//! question. Whether the selector is a good one, its handler says.

use serde_json::{Value, json};
use skep_api::select::{LabelSelector, Operator as LabelOperator};
use skep_api::validation::{FieldError, names};

/// How a condition compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The value is one of these.
    In,
    /// The value is none of these.
    NotIn,
    /// There is a value.
    Exists,
    /// There is none.
    DoesNotExist,
}

impl Operator {
    /// Upstream's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::In => "In",
            Self::NotIn => "NotIn",
            Self::Exists => "Exists",
            Self::DoesNotExist => "DoesNotExist",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::In, Self::NotIn, Self::Exists, Self::DoesNotExist].into_iter().find(|one| one.as_str() == text)
    }
}

/// One condition of a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The field or label.
    pub key: String,
    /// How it compares.
    pub operator: Operator,
    /// What it compares with.
    pub values: Vec<String>,
}

impl Requirement {
    /// The one value that it demands of a field or label.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        match self.values.as_slice() {
            [one] if self.key == key && self.operator == Operator::In => Some(one),
            _ => None,
        }
    }

    fn to_value(&self) -> Value {
        let mut value = json!({ "key": self.key, "operator": self.operator.as_str() });
        if !self.values.is_empty() {
            value["values"] = json!(self.values);
        }
        value
    }
}

/// `{requirements: [...]}` of a review, nothing where there are none.
pub fn to_value(requirements: &[Requirement]) -> Option<Value> {
    let all: Vec<Value> = requirements.iter().map(Requirement::to_value).collect();
    (!all.is_empty()).then(|| json!({ "requirements": all }))
}

/// The conditions of the text of a field selector. A text with a part that cannot be read has none.
pub fn of_fields(text: &str) -> Vec<Requirement> {
    split(text).filter(|part| !part.is_empty()).map(field).collect::<Option<_>>().unwrap_or_default()
}

fn field(part: &str) -> Option<Requirement> {
    let at = part.find('=')?;
    let (key, operator) = match part[..at].strip_suffix('!') {
        Some(key) => (key, Operator::NotIn),
        None => (&part[..at], Operator::In),
    };
    let value = &part[at + 1..];
    let value = if operator == Operator::In { value.strip_prefix('=').unwrap_or(value) } else { value };
    Some(Requirement { key: key.to_owned(), operator, values: vec![unescape(value)?] })
}

/// Parts between commas that are not escaped.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    text.split(move |c| {
        let ends = c == ',' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })
}

fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next().filter(|next| matches!(next, '\\' | ',' | '='))?),
            ',' | '=' => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

/// The conditions of the text of a label selector, those that compare numbers left out.
pub fn of_labels(text: &str) -> Vec<Requirement> {
    let Ok(selector) = LabelSelector::parse(text) else { return Vec::new() };
    let requirement = |one: &skep_api::select::Requirement| {
        let operator = match one.operator {
            LabelOperator::In => Operator::In,
            LabelOperator::NotIn => Operator::NotIn,
            LabelOperator::Exists => Operator::Exists,
            LabelOperator::DoesNotExist => Operator::DoesNotExist,
            LabelOperator::GreaterThan | LabelOperator::LessThan => return None,
        };
        Some(Requirement { key: one.key.clone(), operator, values: one.values.clone() })
    };
    selector.requirements().iter().filter_map(requirement).collect()
}

/// The conditions of a selector in an access review, and whether some of it was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reviewed {
    pub(crate) requirements: Vec<Requirement>,
    pub(crate) ignored: bool,
}

/// Reads the `fieldSelector` or `labelSelector` at `path` of an access review.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn of_review(path: &str, selector: &Value, is_field: bool) -> Result<Reviewed, Vec<FieldError>> {
    if selector.is_null() {
        return Ok(Reviewed::default());
    }
    let raw = selector["rawSelector"].as_str().unwrap_or_default();
    let list = selector["requirements"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut errors = Vec::new();
    if !raw.is_empty() && !list.is_empty() {
        let why = "may not specified at the same time as requirements";
        errors.push(FieldError::invalid(format!("{path}.rawSelector"), raw, why));
    }
    if raw.is_empty() && list.is_empty() {
        let why = format!("when {path} is specified, requirements or rawSelector is required");
        errors.push(FieldError::required(format!("{path}.requirements"), why));
    }
    for (at, one) in list.iter().enumerate() {
        errors.extend(wrong(&format!("{path}.requirements[{at}]"), one, is_field));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    if list.is_empty() {
        let requirements = if is_field { of_fields(raw) } else { of_labels(raw) };
        return Ok(Reviewed { ignored: requirements.is_empty(), requirements });
    }
    let requirements: Vec<Requirement> = list.iter().filter_map(|one| requirement(one, is_field)).collect();
    Ok(Reviewed { ignored: requirements.len() < list.len(), requirements })
}

fn wrong(path: &str, one: &Value, is_field: bool) -> Vec<FieldError> {
    let (key, mut errors) = (one["key"].as_str().unwrap_or_default(), Vec::new());
    let values = one["values"].as_array().map(Vec::as_slice).unwrap_or_default();
    let given = !values.is_empty();
    if is_field && key.is_empty() {
        errors.push(FieldError::required(format!("{path}.key"), "must be specified"));
    }
    match one["operator"].as_str().and_then(Operator::parse) {
        Some(Operator::In | Operator::NotIn) if !given => {
            let why = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(FieldError::required(format!("{path}.values"), why));
        }
        Some(Operator::Exists | Operator::DoesNotExist) if given => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(format!("{path}.values"), why));
        }
        // One of a newer client is left out.
        _ => {}
    }
    if is_field {
        return errors;
    }
    for why in names::label_key_faults(key) {
        errors.push(FieldError::invalid(format!("{path}.key"), key, why));
    }
    for (at, value) in values.iter().enumerate() {
        let value = value.as_str().unwrap_or_default();
        for why in names::label_value_faults(value) {
            errors.push(FieldError::invalid(format!("{path}.values[{at}]"), value, why));
        }
    }
    errors
}

/// A condition that means something: fields are compared with one value, by newer operators not at all.
fn requirement(one: &Value, is_field: bool) -> Option<Requirement> {
    let operator = one["operator"].as_str().and_then(Operator::parse)?;
    let values = one["values"].as_array().into_iter().flatten();
    let values: Vec<String> = values.filter_map(|value| value.as_str().map(str::to_owned)).collect();
    if is_field && values.len() != 1 {
        return None;
    }
    Some(Requirement { key: one["key"].as_str().unwrap_or_default().to_owned(), operator, values })
}
