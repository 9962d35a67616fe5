//! Label and field selectors, as `labelSelector` and `fieldSelector` of a request carry them.

mod field;
mod label;

pub use field::{FieldSelector, selectable};
pub use label::{LabelSelector, Operator, Requirement};
