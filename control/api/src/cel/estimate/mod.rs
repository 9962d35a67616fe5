//! What an expression may cost at most, told from the sizes that its schema allows: rules that could never be paid for
//! are refused with their definition, not with the first large object.
//!
//! Estimates as upstream does, to the unit: which definitions are taken depends on it. The rules are those of cel-go's
//! `checker/cost.go`, Kubernetes' `cel/library/cost.go` for its own functions, and `cel/common/schemas.go` for sizes.

mod calls;
mod declared;
mod expand;
mod kinds;
mod library;
mod range;
#[cfg(test)]
mod tests;
mod walk;

use std::rc::Rc;

use super::Program;
pub(crate) use declared::Declared;

/// What a rule may cost, for all values that it is about together (`StaticEstimatedCostLimit` of upstream).
pub(crate) const LIMIT: u64 = 10_000_000;

impl Program {
    /// What it may cost for one value that is declared so. `optional_old`: the value before may not have been there.
    pub(crate) fn estimate(&self, declared: &Rc<Declared>, optional_old: bool) -> u64 {
        let own = declared.kind();
        let old = if optional_old { kinds::Kind::Optional(Rc::new(own.clone())) } else { own.clone() };
        self.cost(declared, vec![("self", own), ("oldSelf", old)])
    }

    /// What it may cost for a variable of this name.
    pub(crate) fn estimate_of(&self, name: &str, declared: &Rc<Declared>) -> u64 {
        self.cost(declared, vec![(name, declared.kind())])
    }

    fn cost(&self, root: &Rc<Declared>, names: Vec<(&str, kinds::Kind)>) -> u64 {
        let expression = expand::Expansion::of(&self.expression);
        walk::estimate(&expression, root, names).most
    }
}
