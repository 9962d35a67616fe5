//! Sets of fields as trees, their algebra, and their `FieldsV1` form (KEP-555).
//!
//! A set holds paths. That a field is a member says nothing about the fields within it.

use serde_json::{Map, Value};

use super::step::Step;

/// A set of paths.
///
/// Its nodes lie side by side: sets are made in order, of objects whose members are in order, and a list in order is made,
/// copied and walked at a fraction of the cost of a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// In order of their steps, each step once. No node is neither a member nor has members within it.
    nodes: Vec<(Step, Node)>,
}

/// What a set says about one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    member: bool,
    within: FieldSet,
}

impl Node {
    fn is_empty(&self) -> bool {
        !self.member && self.within.is_empty()
    }

    fn absorb(&mut self, other: Self) {
        self.member |= other.member;
        self.within.absorb(other.within);
    }

    fn into_value(self) -> Value {
        node_of(self.member, self.within.into_members().collect())
    }
}

/// What is written of a step: what lies within it, and a mark if it is a `member` itself where that would not show.
pub(super) fn node_of(member: bool, mut within: Vec<(String, Value)>) -> Value {
    if member && !within.is_empty() {
        within.push((".".to_owned(), nothing()));
    }
    Value::Object(within.into_iter().collect())
}

/// Whether a step is a member itself, going by what is written within it.
fn is_member(within: &Map<String, Value>) -> bool {
    within.is_empty() || within.contains_key(".")
}

fn nothing() -> Value {
    Value::Object(Map::new())
}

impl FieldSet {
    /// A set of these paths of member names.
    pub fn of_names(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            let path: Vec<_> = path.iter().map(|name| Step::field(*name)).collect();
            set.insert(&path);
        }
        set
    }

    /// An empty set with room for so many steps.
    pub(super) fn with_capacity(steps: usize) -> Self {
        Self { nodes: Vec::with_capacity(steps) }
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Where a step is, or would be.
    fn find(&self, step: &Step) -> Result<usize, usize> {
        self.nodes.binary_search_by(|(own, _)| own.cmp(step))
    }

    fn node(&self, step: &Step) -> Option<&Node> {
        self.find(step).ok().map(|at| &self.nodes[at].1)
    }

    /// The node of a step, made if there is none.
    fn entry(&mut self, step: Step) -> &mut Node {
        // What comes in order, as nearly everything does, is not searched for.
        let at = match self.nodes.last() {
            Some((last, _)) if *last < step => Err(self.nodes.len()),
            _ => self.find(&step),
        };
        let at = at.unwrap_or_else(|at| {
            self.nodes.insert(at, (step, Node::default()));
            at
        });
        &mut self.nodes[at].1
    }

    /// Puts a path in. The empty path is no member of any set.
    pub fn insert(&mut self, path: &[Step]) {
        let [first, rest @ ..] = path else { return };
        let node = self.entry(first.clone());
        if rest.is_empty() {
            node.member = true;
        } else {
            node.within.insert(rest);
        }
    }

    /// Puts a step in.
    pub(super) fn insert_step(&mut self, step: Step) {
        self.entry(step).member = true;
    }

    /// Puts in what lies within a step and, if it is a `member`, the step itself.
    pub(super) fn insert_with(&mut self, step: Step, member: bool, within: FieldSet) {
        if member || !within.is_empty() {
            self.entry(step).absorb(Node { member, within });
        }
    }

    /// Puts in what lies within a step.
    pub(super) fn insert_within(&mut self, step: &Step, set: FieldSet) {
        if !set.is_empty() {
            self.entry(step.clone()).within.absorb(set);
        }
    }

    /// Whether a path is a member.
    pub fn has(&self, path: &[Step]) -> bool {
        match path {
            [] => false,
            [last] => self.has_step(last),
            [first, rest @ ..] => self.within(first).is_some_and(|set| set.has(rest)),
        }
    }

    /// Whether a step is a member.
    pub(super) fn has_step(&self, step: &Step) -> bool {
        self.node(step).is_some_and(|node| node.member)
    }

    /// What is in the set within a step, if anything.
    pub(super) fn within(&self, step: &Step) -> Option<&FieldSet> {
        self.node(step).map(|node| &node.within).filter(|set| !set.is_empty())
    }

    /// Whether every path of the other is in it.
    pub(super) fn covers(&self, other: &Self) -> bool {
        other.nodes.iter().all(|(step, theirs)| {
            self.node(step)
                .is_some_and(|ours| ours.member >= theirs.member && ours.within.covers(&theirs.within))
        })
    }

    /// Whether a path of it is a member of what is written in the `FieldsV1` form.
    pub(super) fn meets_written(&self, members: &Map<String, Value>) -> bool {
        self.nodes.iter().any(|(step, node)| {
            let Some(Value::Object(inner)) = members.get(&*step.text()) else { return false };
            node.member && is_member(inner) || node.within.meets_written(inner)
        })
    }

    /// Whether every path of it is a member of what is written in the `FieldsV1` form.
    pub(super) fn is_written_in(&self, members: &Map<String, Value>) -> bool {
        self.nodes.iter().all(|(step, node)| {
            let Some(Value::Object(inner)) = members.get(&*step.text()) else { return false };
            node.member <= is_member(inner) && node.within.is_written_in(inner)
        })
    }

    /// What is in one of the two.
    pub fn union(&self, other: &Self) -> Self {
        let mut union = self.clone();
        union.absorb(other.clone());
        union
    }

    /// Puts everything in that is in the other.
    pub(super) fn absorb(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
        } else {
            other.nodes.into_iter().for_each(|(step, theirs)| self.entry(step).absorb(theirs));
        }
    }

    /// What is in both.
    pub fn intersection(&self, other: &Self) -> Self {
        let nodes = self.nodes.iter().filter_map(|(step, ours)| {
            let theirs = other.node(step)?;
            let member = ours.member && theirs.member;
            let node = Node { member, within: ours.within.intersection(&theirs.within) };
            (!node.is_empty()).then(|| (step.clone(), node))
        });
        Self { nodes: nodes.collect() }
    }

    /// What is in this one and not in the other.
    pub fn difference(&self, other: &Self) -> Self {
        let mut left = self.clone();
        left.subtract(other);
        left
    }

    /// Takes everything out that is in the other.
    pub(super) fn subtract(&mut self, other: &Self) {
        self.thin(other, |ours, theirs| {
            ours.member &= !theirs.member;
            ours.within.subtract(&theirs.within);
        });
    }

    /// What is in this one, and neither in the other nor within a member of it.
    pub fn outside(mut self, other: &Self) -> Self {
        self.leave_out(other);
        self
    }

    fn leave_out(&mut self, other: &Self) {
        self.thin(other, |ours, theirs| match theirs.member {
            true => *ours = Node::default(),
            false => ours.within.leave_out(&theirs.within),
        });
    }

    /// Changes the nodes that the other has as well, and drops those of which nothing is left.
    fn thin(&mut self, other: &Self, how: impl Fn(&mut Node, &Node)) {
        for (step, theirs) in &other.nodes {
            let Ok(at) = self.find(step) else { continue };
            let ours = &mut self.nodes[at].1;
            how(ours, theirs);
            if ours.is_empty() {
                self.nodes.remove(at);
            }
        }
    }

    /// Makes members of the steps that lead to others and that `named` says are fields of a type.
    pub(super) fn with_parents(&self, named: &dyn Fn(&[Step]) -> bool) -> Self {
        self.with_parents_at(&mut Vec::new(), named)
    }

    fn with_parents_at(&self, path: &mut Vec<Step>, named: &dyn Fn(&[Step]) -> bool) -> Self {
        let mut nodes = Vec::with_capacity(self.nodes.len());
        for (step, node) in &self.nodes {
            path.push(step.clone());
            let member = node.member || (matches!(step, Step::Field(_)) && named(path));
            nodes.push((step.clone(), Node { member, within: node.within.with_parents_at(path, named) }));
            path.pop();
        }
        Self { nodes }
    }

    /// The members that have no members within them.
    pub fn leaves(&self) -> Vec<Vec<Step>> {
        let mut found = Vec::new();
        self.visit(&mut Vec::new(), &mut |path, is_leaf| {
            if is_leaf {
                found.push(path.to_vec());
            }
        });
        found
    }

    fn visit(&self, path: &mut Vec<Step>, see: &mut dyn FnMut(&[Step], bool)) {
        for (step, node) in &self.nodes {
            path.push(step.clone());
            if node.member {
                see(path, node.within.is_empty());
            }
            node.within.visit(path, see);
            path.pop();
        }
    }

    /// The `FieldsV1` form.
    pub fn into_value(self) -> Value {
        Value::Object(self.into_members().collect())
    }

    fn into_members(self) -> impl Iterator<Item = (String, Value)> {
        self.nodes.into_iter().map(|(step, node)| (step.into_text(), node.into_value()))
    }

    /// Reads the `FieldsV1` form; `None` if it is not in it.
    pub fn from_value(value: &Value) -> Option<Self> {
        Self::from_members(value.as_object()?)
    }

    pub(super) fn from_members(members: &Map<String, Value>) -> Option<Self> {
        let mut set = Self::with_capacity(members.len());
        for (text, inner) in members {
            if text == "." {
                continue;
            }
            let inner = inner.as_object()?;
            let (within, member) = (Self::from_members(inner)?, is_member(inner));
            // Of two texts of one step the later counts.
            *set.entry(Step::parse(text)?) = Node { member, within };
        }
        Some(set)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            proptest::sample::select(&["a", "b", "c"][..]).prop_map(Step::field),
            (0..2u8).prop_map(|n| Step::Key(format!("{{\"name\":\"{n}\"}}"))),
            (0..2u8).prop_map(|n| Step::value(&json!(n))),
            (0..2i64).prop_map(Step::Index),
        ]
    }

    pub(crate) fn field_set() -> impl Strategy<Value = FieldSet> {
        let paths = proptest::collection::vec(proptest::collection::vec(step(), 1..4), 0..10);
        paths.prop_map(|paths| {
            let mut set = FieldSet::default();
            paths.iter().for_each(|path| set.insert(path));
            set
        })
    }

    fn paths(set: &FieldSet) -> std::collections::BTreeSet<Vec<Step>> {
        let mut all = std::collections::BTreeSet::new();
        set.visit(&mut Vec::new(), &mut |path, _| {
            all.insert(path.to_vec());
        });
        all
    }

    proptest! {
        #[test]
        fn sets_are_sets_of_their_paths(a in field_set(), b in field_set()) {
            let (left, right) = (paths(&a), paths(&b));
            prop_assert_eq!(paths(&a.union(&b)), &left | &right);
            prop_assert_eq!(paths(&a.intersection(&b)), &left & &right);
            prop_assert_eq!(paths(&a.difference(&b)), &left - &right);
            prop_assert_eq!(a.union(&b), b.union(&a));
            prop_assert!(a.difference(&a).is_empty());
            prop_assert_eq!(a.covers(&b), a.union(&b) == a);
            prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
            prop_assert!(left.iter().all(|path| a.has(path)));
        }

        #[test]
        fn what_is_outside_is_not_below(a in field_set(), b in field_set()) {
            let below = |path: &Vec<Step>| (1..=path.len()).any(|end| b.has(&path[..end]));
            let expected: std::collections::BTreeSet<_> = paths(&a).into_iter().filter(|path| !below(path)).collect();
            prop_assert_eq!(paths(&a.clone().outside(&b)), expected);
        }

        #[test]
        fn sets_survive_their_fields_v1_form(a in field_set()) {
            prop_assert_eq!(FieldSet::from_value(&a.clone().into_value()), Some(a));
        }
    }

    #[test]
    fn fields_v1_of_upstream_is_read_and_written_the_same() {
        let text = json!({
            "f:metadata": { "f:labels": { ".": {}, "f:app": {} }, "f:finalizers": { "v:\"x\"": {} } },
            "f:spec": { "f:containers": { "k:{\"name\":\"c\"}": { ".": {}, "f:image": {}, "f:name": {} } } },
        });
        let set = FieldSet::from_value(&text).unwrap();
        assert_eq!(set.clone().into_value(), text);
        assert!(set.has(&[Step::field("metadata"), Step::field("labels")]));
        assert!(!set.has(&[Step::field("metadata")]));
        assert_eq!(set.leaves().len(), 4);
        for wrong in [json!([]), json!({ "spec": {} }), json!({ "f:a": 1 }), json!({ "k:x": {} })] {
            assert_eq!(FieldSet::from_value(&wrong), None, "{wrong}");
        }
    }
}
