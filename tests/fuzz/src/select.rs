//! Label and field selectors, amounts; the first byte chooses. A selector that was read selects the same after it was
//! written and read again.

use skep_api::quantity::Quantity;
use skep_api::select::{FieldSelector, LabelSelector};

use crate::{chosen, objects};

/// Selects.
pub fn run(data: &[u8]) {
    let (first, text) = chosen(data);
    let Ok(text) = std::str::from_utf8(text) else { return };
    let pod = objects::pod();
    match first % 3 {
        0 => {
            let Ok(selector) = LabelSelector::parse(text) else { return };
            let again = LabelSelector::parse(&selector.to_string()).expect("a selector can be read again");
            assert_eq!(again.matches(&pod), selector.matches(&pod));
        }
        1 => {
            if let Ok(selector) = FieldSelector::parse(objects::pods(), text) {
                selector.matches(&pod);
            }
        }
        _ => {
            let Ok(amount) = Quantity::parse(text) else { return };
            let again = Quantity::parse(&amount.to_string()).expect("an amount can be read again");
            assert_eq!(again, amount);
        }
    }
}
