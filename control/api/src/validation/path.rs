//! Paths of values, written out only when somebody reads them.
//!
//! Rules take a path for every member that they look at, and show one in some thousand. So a path is a start and the few
//! steps behind it, which costs no memory of its own to lengthen; as text it is made when it is asked for as such.

use std::cell::OnceCell;
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

/// So many steps a path holds before they become its start. With more of them, handing a path on would cost more than it
/// saves.
const STEPS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Member(&'a str),
    Index(usize),
    Key(&'a str),
}

/// A path: `spec.containers[0].name`.
#[derive(Debug)]
pub(super) struct Path<'a> {
    /// What comes before the steps, as text.
    start: Option<Rc<str>>,
    steps: [Step<'a>; STEPS],
    /// How many of the steps count.
    length: u8,
    text: OnceCell<Box<str>>,
}

impl Clone for Path<'_> {
    fn clone(&self) -> Self {
        Self { start: self.start.clone(), steps: self.steps, length: self.length, text: OnceCell::new() }
    }
}

impl<'a> Path<'a> {
    fn starting(start: Option<Rc<str>>) -> Self {
        Self { start, steps: [Step::Index(0); STEPS], length: 0, text: OnceCell::new() }
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
        let mut longer = match usize::from(self.length) < STEPS {
            true => self.clone(),
            false => Self::starting(Some(self.as_str().into())),
        };
        longer.steps[usize::from(longer.length)] = step;
        longer.length += 1;
        longer
    }

    fn as_str(&self) -> &str {
        self.text.get_or_init(|| {
            let mut text = self.start.as_deref().unwrap_or_default().to_owned();
            for step in &self.steps[..usize::from(self.length)] {
                match step {
                    Step::Member(name) => {
                        if !text.is_empty() {
                            text.push('.');
                        }
                        text.push_str(name);
                    }
                    Step::Index(index) => text.push_str(&format!("[{index}]")),
                    Step::Key(key) => text.extend(["[", key, "]"]),
                }
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
        Self::starting((!text.is_empty()).then(|| text.into()))
    }
}

impl From<String> for Path<'_> {
    fn from(text: String) -> Self {
        text.as_str().into()
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
    fn long_path_goes_on_beyond_what_it_holds() {
        let mut path = Path::from("start");
        let mut expected = "start".to_owned();
        for index in 0..3 * STEPS {
            path = path.member("name").index(index);
            expected += &format!(".name[{index}]");
        }
        assert_eq!(&*path, expected);
    }

    #[test]
    fn path_that_was_read_can_be_gone_on_from() {
        let path = Path::from("spec").member("a");
        assert_eq!(&*path, "spec.a");
        assert_eq!((&*path.member("b"), &*path.clone()), ("spec.a.b", "spec.a"));
    }
}
