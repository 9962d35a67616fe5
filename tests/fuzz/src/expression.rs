//! CEL: an expression about a pod, read and evaluated. It has a value, is refused, or ends when it costs too much.

use skep_api::expression::{Expression, Wanted};

use crate::objects;

/// Evaluates.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(expression) = Expression::compile(text, &["self"], Wanted::Anything) {
        let _ = expression.evaluate(&[("self", &objects::pod())]);
    }
}
