//! A value and where it is: the vocabulary in which the rules of kinds are written.

use serde_json::Value;

use super::field::FieldError;
use super::names::{self, Verdict};
use super::path::Path;
use crate::quantity::Quantity;

/// Broken rules.
pub(super) type Errors = Vec<FieldError>;

static NOTHING: Value = Value::Null;

/// The sentence for numbers that must not be below zero.
pub(super) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
/// The sentence for what may not change.
pub(super) const IMMUTABLE: &str = "field is immutable";

/// A value at a path; null where there is none.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    pub(super) path: Path<'a>,
    pub(super) value: &'a Value,
}

impl<'a> Place<'a> {
    /// A member of an object, by the name that is its path as well.
    pub(super) fn of(object: &'a Value, name: &'a str) -> Self {
        Self { path: Path::from("").member(name), value: object.get(name).unwrap_or(&NOTHING) }
    }

    /// A value at a path.
    pub(super) fn new(path: impl Into<Path<'a>>, value: &'a Value) -> Self {
        Self { path: path.into(), value }
    }

    /// A member.
    pub(super) fn get(&self, name: &'a str) -> Self {
        Self { path: self.child(name), value: self.value.get(name).unwrap_or(&NOTHING) }
    }

    /// The path of a member.
    pub(super) fn child(&self, name: &'a str) -> Path<'a> {
        self.path.member(name)
    }

    /// The items of a list.
    pub(super) fn items(&self) -> impl Iterator<Item = Place<'a>> + use<'a> {
        let path = self.path.clone();
        let items = self.value.as_array().into_iter().flatten().enumerate();
        items.map(move |(index, value)| Place { path: path.index(index), value })
    }

    /// The items of a list that is a member.
    pub(super) fn each(&self, name: &'a str) -> impl Iterator<Item = Place<'a>> + use<'a> {
        self.get(name).items()
    }

    /// The members of a map, with their keys.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, Place<'a>)> + use<'a> {
        let path = self.path.clone();
        let members = self.value.as_object().into_iter().flatten();
        members.map(move |(key, value)| (key.as_str(), Place { path: path.key(key), value }))
    }

    pub(super) fn count(&self) -> usize {
        match self.value {
            Value::Array(items) => items.len(),
            Value::Object(members) => members.len(),
            _ => 0,
        }
    }

    /// Whether something is there.
    pub(super) fn is_set(&self) -> bool {
        !self.value.is_null()
    }

    /// Whether something is there that is not empty text, an empty list or an empty object.
    pub(super) fn is_full(&self) -> bool {
        match self.value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(_) | Value::Object(_) => self.count() > 0,
            _ => true,
        }
    }

    pub(super) fn text(&self) -> &'a str {
        self.value.as_str().unwrap_or_default()
    }

    pub(super) fn number(&self) -> Option<i64> {
        self.value.as_i64()
    }

    pub(super) fn flag(&self) -> bool {
        self.value == true
    }

    pub(super) fn quantity(&self) -> Option<Quantity> {
        match self.value {
            Value::String(text) => Quantity::parse(text).ok(),
            Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
            _ => None,
        }
    }

    pub(super) fn required(&self, why: &str, errors: &mut Errors) {
        errors.push(FieldError::required(&self.path, why));
    }

    pub(super) fn invalid(&self, why: impl Into<String>, errors: &mut Errors) {
        errors.push(FieldError::invalid(&self.path, self.value.clone(), why));
    }

    /// Invalid, with the value shown as upstream's internal struct of that type.
    pub(super) fn invalid_struct(&self, of: &str, why: impl Into<String>, errors: &mut Errors) {
        errors.push(FieldError::invalid_struct(&self.path, of, self.value, why));
    }

    /// Invalid, without showing the value.
    pub(super) fn wrong(&self, why: &str, errors: &mut Errors) {
        let mut error = FieldError::invalid(&self.path, Value::Null, why);
        error.value = None;
        errors.push(error);
    }

    pub(super) fn forbidden(&self, why: impl Into<String>, errors: &mut Errors) {
        errors.push(FieldError::forbidden(&self.path, why));
    }

    pub(super) fn duplicate(&self, errors: &mut Errors) {
        errors.push(FieldError::duplicate(&self.path, self.value.clone()));
    }

    pub(super) fn too_long(&self, limit: usize, errors: &mut Errors) {
        errors.push(FieldError::too_long(&self.path, limit));
    }

    /// At most so many items.
    pub(super) fn at_most(&self, limit: usize, errors: &mut Errors) -> bool {
        let fits = self.count() <= limit;
        if !fits {
            errors.push(FieldError::too_many(&self.path, self.count(), limit));
        }
        fits
    }

    /// One of the choices.
    pub(super) fn one_of(&self, choices: &[&str], errors: &mut Errors) -> bool {
        let known = choices.contains(&self.text());
        if !known {
            errors.push(FieldError::not_supported(&self.path, self.text(), choices));
        }
        known
    }

    /// One of the choices, if anything.
    pub(super) fn maybe_one_of(&self, choices: &[&str], errors: &mut Errors) {
        if self.is_set() {
            self.one_of(choices, errors);
        }
    }

    /// Text by a rule, whether there is some or not.
    pub(super) fn judge(&self, rule: impl Fn(&str) -> Verdict, errors: &mut Errors) -> bool {
        match rule(self.text()) {
            Ok(()) => true,
            Err(why) => {
                errors.push(FieldError::invalid(&self.path, self.text(), why));
                false
            }
        }
    }

    /// The key of a label or the like.
    pub(super) fn judge_key(&self, errors: &mut Errors) -> bool {
        let faults = names::label_key_faults(self.text());
        let is_one = faults.is_empty();
        errors.extend(faults.into_iter().map(|why| FieldError::invalid(&self.path, self.text(), why)));
        is_one
    }

    /// The name of a port.
    pub(super) fn judge_port_name(&self, errors: &mut Errors) -> bool {
        let faults = names::port_name_faults(self.text());
        let is_one = faults.is_empty();
        errors.extend(faults.into_iter().map(|why| FieldError::invalid(&self.path, self.text(), why)));
        is_one
    }

    /// A port by number or name.
    pub(super) fn judge_port(&self, errors: &mut Errors) {
        match self.value {
            Value::String(_) => drop(self.judge_port_name(errors)),
            value => {
                let number = value.as_i64().unwrap_or(0);
                if let Err(why) = names::port_number(number) {
                    errors.push(FieldError::invalid(&self.path, number, why));
                }
            }
        }
    }

    /// Text by a rule, if the member is there, be it empty.
    pub(super) fn judge_set(&self, rule: impl Fn(&str) -> Verdict, errors: &mut Errors) {
        if self.is_set() {
            self.judge(rule, errors);
        }
    }

    /// Text by a rule, if there is some.
    pub(super) fn judge_full(&self, rule: impl Fn(&str) -> Verdict, errors: &mut Errors) {
        if self.is_full() {
            self.judge(rule, errors);
        }
    }

    /// Text that must be there, by a rule.
    pub(super) fn must(&self, rule: impl Fn(&str) -> Verdict, errors: &mut Errors) {
        if self.text().is_empty() {
            self.required("", errors);
        } else {
            self.judge(rule, errors);
        }
    }

    pub(super) fn not_negative(&self, errors: &mut Errors) {
        if self.number().is_some_and(|number| number < 0) {
            self.invalid(NOT_NEGATIVE, errors);
        }
    }

    /// Members that must not be below zero.
    pub(super) fn not_negative_at(&self, names: &[&'a str], errors: &mut Errors) {
        names.iter().for_each(|name| self.get(name).not_negative(errors));
    }

    /// An amount that must not be below zero.
    pub(super) fn amount_not_negative(&self, errors: &mut Errors) {
        if self.quantity().is_some_and(|amount| amount.is_negative()) {
            self.invalid(NOT_NEGATIVE, errors);
        }
    }

    /// The value stays as it was.
    pub(super) fn unchanged(&self, old: &Place<'_>, errors: &mut Errors) {
        if self.value != old.value {
            self.invalid(IMMUTABLE, errors);
        }
    }
}

/// What a number or a percentage says, rounded to nothing in particular: only whether it is zero matters.
pub(super) fn share(place: &Place<'_>) -> i64 {
    match place.value {
        // Text that is no percentage upstream reads as a number, if it is one.
        Value::String(text) => text.strip_suffix('%').unwrap_or(text).parse().unwrap_or(0),
        value => value.as_i64().unwrap_or(0),
    }
}

const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', \
regex used for validation is '[0-9]+%')";

/// A number that is not negative, or a percentage.
pub(super) fn number_or_percent(place: &Place<'_>, errors: &mut Errors) {
    match place.value {
        Value::String(text) => {
            let digits = text.strip_suffix('%').unwrap_or_default();
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                place.invalid(PERCENT, errors);
            }
        }
        _ => place.not_negative(errors),
    }
}

/// A percentage of the whole at most.
pub(super) fn at_most_all(place: &Place<'_>, errors: &mut Errors) {
    if place.text().ends_with('%') && share(place) > 100 {
        place.invalid("must not be greater than 100%", errors);
    }
}
