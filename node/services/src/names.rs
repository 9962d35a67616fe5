//! One copy of each text that many objects have: namespaces, nodes.
//!
//! Owns the set of such texts. One that nobody has any more stays until [`Names::sweep`].

use std::collections::HashSet;
use std::sync::Arc;

/// The texts.
#[derive(Debug, Default)]
pub struct Names(HashSet<Arc<str>>);

impl Names {
    /// Puts the shared copy of `name` in its place.
    pub fn share(&mut self, name: &mut Arc<str>) {
        match self.0.get(&**name) {
            Some(known) => *name = known.clone(),
            None => {
                self.0.insert(name.clone());
            }
        }
    }

    /// Lets go of the texts that nobody else has.
    pub fn sweep(&mut self) {
        self.0.retain(|name| Arc::strong_count(name) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shared_until_nobody_has_them() {
        let mut names = Names::default();
        let (mut one, mut two): (Arc<str>, Arc<str>) = ("n1".into(), "n1".into());
        names.share(&mut one);
        names.share(&mut two);
        assert!(Arc::ptr_eq(&one, &two));
        drop(one);
        names.sweep();
        assert_eq!(names.0.len(), 1);
        drop(two);
        names.sweep();
        assert!(names.0.is_empty());
    }
}
