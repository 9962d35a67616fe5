//! What stays as it is once a definition is established: names that objects and clients go by.

use serde_json::Value;

use crate::object::at;
use crate::validation::FieldError;

pub(super) fn check(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let always = [["spec", "group"].as_slice(), &["spec", "names", "plural"]];
    let established = [["spec", "scope"].as_slice(), &["spec", "names", "kind"]];
    let established = if super::is_established(old) { &established[..] } else { &[] };
    for path in always.iter().chain(established) {
        if at(new, path) != at(old, path) {
            let value = at(new, path).cloned().unwrap_or_default();
            errors.push(FieldError::invalid(path.join("."), value, "field is immutable"));
        }
    }
}
