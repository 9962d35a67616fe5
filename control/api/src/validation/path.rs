//! Paths of values, written out only when somebody reads them, and followed only where something is wrong.
//!
//! Rules take a path for every member that they look at, and nearly all objects break none of them. So the rules are asked
//! [`twice`]: first without paths, which then cost nothing, and once more, with them, when there is something to say.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

thread_local! {
    /// Whether paths that begin now are left out.
    static LEFT_OUT: Cell<bool> = const { Cell::new(false) };
}

/// What the rules say. They must not go by the text of a path.
pub(super) fn twice<T>(rules: impl Fn() -> Vec<T>) -> Vec<T> {
    let _restored = Restored(LEFT_OUT.replace(true));
    let found = rules();
    if found.is_empty() {
        return found;
    }
    LEFT_OUT.set(false);
    rules()
}

/// Puts back what was so before, also when a rule panics.
struct Restored(bool);

impl Drop for Restored {
    fn drop(&mut self) {
        LEFT_OUT.set(self.0);
    }
}

#[derive(Clone, Debug)]
enum Step<'a> {
    Start(Box<str>),
    Member(&'a str),
    Index(usize),
    Key(&'a str),
}

/// A path: `spec.containers[0].name`; nothing where it is left out.
#[derive(Clone, Debug)]
pub(super) struct Path<'a>(Option<Rc<Node<'a>>>);

#[derive(Debug)]
struct Node<'a> {
    before: Path<'a>,
    step: Step<'a>,
    text: OnceCell<Box<str>>,
}

impl<'a> Path<'a> {
    fn starting(start: Box<str>) -> Self {
        if LEFT_OUT.get() { Self(None) } else { Self::of(Self(None), Step::Start(start)) }
    }

    fn of(before: Self, step: Step<'a>) -> Self {
        Self(Some(Rc::new(Node { before, step, text: OnceCell::new() })))
    }

    /// The path of a member of what is here.
    pub(super) fn member(&self, name: &'a str) -> Self {
        self.then(Step::Member(name))
    }

    /// The path of an item.
    pub(super) fn index(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    /// The path of a member of a map.
    pub(super) fn key(&self, key: &'a str) -> Self {
        self.then(Step::Key(key))
    }

    fn then(&self, step: Step<'a>) -> Self {
        if self.0.is_some() { Self::of(self.clone(), step) } else { Self(None) }
    }

    fn as_str(&self) -> &str {
        let Some(node) = &self.0 else { return "" };
        node.text.get_or_init(|| {
            let mut text = node.before.as_str().to_owned();
            match &node.step {
                Step::Start(start) => text.push_str(start),
                Step::Member(name) => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    text.push_str(name);
                }
                Step::Index(index) => text.push_str(&format!("[{index}]")),
                Step::Key(key) => text.extend(["[", key, "]"]),
            }
            text.into()
        })
    }
}

impl Deref for Path<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl From<&str> for Path<'_> {
    fn from(text: &str) -> Self {
        Self::starting(text.into())
    }
}

impl From<String> for Path<'_> {
    fn from(text: String) -> Self {
        Self::starting(text.into())
    }
}

impl From<&Path<'_>> for String {
    fn from(path: &Path<'_>) -> Self {
        path.as_str().to_owned()
    }
}

impl From<Path<'_>> for String {
    fn from(path: Path<'_>) -> Self {
        String::from(&path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_reads_as_its_steps() {
        let path = Path::from("").member("spec").member("containers").index(3).member("env").key("a.b");
        assert_eq!(&*path, "spec.containers[3].env[a.b]");
        assert_eq!(&*Path::from("spec.template").index(0).member("x"), "spec.template[0].x");
        assert_eq!(&*Path::from("").key("k").member("x"), "[k].x");
    }

    #[test]
    fn path_that_was_read_can_be_gone_on_from() {
        let path = Path::from("spec").member("a");
        assert_eq!(&*path, "spec.a");
        assert_eq!((&*path.member("b"), &*path.clone()), ("spec.a.b", "spec.a"));
    }

    #[test]
    fn rules_are_asked_with_paths_only_when_they_say_something() {
        let asked = Cell::new(0);
        let rules = |broken: bool| {
            asked.set(asked.get() + 1);
            let path = Path::from("spec").member("a");
            if broken { vec![path.to_string()] } else { Vec::new() }
        };
        assert_eq!((twice(|| rules(false)), asked.get()), (Vec::new(), 1));
        assert_eq!((twice(|| rules(true)), asked.get()), (vec!["spec.a".to_owned()], 3));
        assert_eq!(rules(true), ["spec.a"], "paths are there again");
    }
}
