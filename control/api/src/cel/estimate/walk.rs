//! Walks over an expression and adds up what its parts cost, keeping track of where in the schema a part comes from and
//! of how large it is.

use std::collections::HashMap;
use std::rc::Rc;

use ::cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue};

use super::Declared;
use super::kinds::{Kind, Kinds, field_of};
use super::range::Range;
use crate::cel::entries;

/// Where a value comes from.
#[derive(Clone, Debug)]
pub(super) enum Path {
    /// It was computed.
    Nowhere,
    /// What the schema says of it; nothing where the schema does not know it.
    At(Option<Rc<Declared>>),
}

/// How large the keys and the items of a list or map are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entries {
    is_list: bool,
    key: Range,
    value: Range,
}

impl Entries {
    fn or(self, other: Self) -> Self {
        Self { key: self.key.or(other.key), value: self.value.or(other.value), ..self }
    }
}

/// What is known of a name that the expression itself gives.
struct Local {
    path: Path,
    size: Option<Range>,
    entries: Option<Entries>,
}

/// An operand as the functions' estimates see it.
pub(super) struct Operand<'e> {
    pub(super) path: Path,
    pub(super) kind: Kind,
    /// What is known without the schema.
    pub(super) computed: Option<Range>,
    pub(super) expression: &'e IdedExpr,
}

pub(super) struct Walk<'e> {
    root: Rc<Declared>,
    kinds: HashMap<u64, Kind>,
    paths: HashMap<u64, Path>,
    sizes: HashMap<u64, Range>,
    entries: HashMap<u64, Entries>,
    locals: Vec<(&'e str, Local)>,
}

/// What the expression may cost.
pub(super) fn estimate(expression: &IdedExpr, root: &Rc<Declared>, names: Vec<(&str, Kind)>) -> Range {
    let mut walk = Walk {
        root: root.clone(),
        kinds: Kinds::of(expression, names),
        paths: HashMap::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
        locals: Vec::new(),
    };
    walk.cost(expression)
}

impl<'e> Walk<'e> {
    pub(super) fn cost(&mut self, one: &'e IdedExpr) -> Range {
        match &one.expr {
            Expr::Literal(_) => Range::fixed(0),
            Expr::Ident(name) => {
                let path = match self.local(name) {
                    Some(local) => local.path.clone(),
                    None => Path::At(Some(self.root.clone())),
                };
                self.paths.insert(one.id, path);
                Range::fixed(1)
            }
            Expr::Select(select) => {
                let of = self.cost(&select.operand);
                if select.test {
                    return of;
                }
                let counts =
                    matches!(self.kind(&select.operand), Kind::Map(..) | Kind::Object(_) | Kind::Other(_));
                let path = self.below(&select.operand, |declared| field_of(declared, &select.field));
                self.paths.insert(one.id, path);
                of.plus(Range::fixed(counts.into()))
            }
            Expr::List(list) => {
                let mut sum = Range::fixed(10);
                for element in &list.elements {
                    sum = sum.plus(self.cost(element));
                }
                let value = self.all_sizes(list.elements.iter());
                self.entries.insert(one.id, Entries { is_list: true, key: Range::fixed(1), value });
                sum
            }
            Expr::Map(map) => {
                let parts = entries(&map.entries);
                let mut sum = Range::fixed(30);
                for part in &parts {
                    sum = sum.plus(self.cost(part));
                }
                let key = self.all_sizes(parts.iter().copied().step_by(2));
                let value = self.all_sizes(parts.iter().copied().skip(1).step_by(2));
                self.entries.insert(one.id, Entries { is_list: false, key, value });
                sum
            }
            Expr::Comprehension(inner) => self.comprehension(one.id, inner),
            Expr::Call(call) => self.call(one, call),
            Expr::Struct(made) => {
                let fields = entries(&made.entries);
                fields.into_iter().fold(Range::fixed(40), |sum, field| sum.plus(self.cost(field)))
            }
            Expr::Unspecified => Range::fixed(0),
        }
    }

    fn all_sizes(&mut self, parts: impl ExactSizeIterator<Item = &'e IdedExpr>) -> Range {
        let start = if parts.len() == 0 { Range::fixed(0) } else { Range::NONE };
        parts.fold(start, |all, part| all.or(self.size_or_any(part)))
    }

    fn comprehension(&mut self, id: u64, one: &'e ComprehensionExpr) -> Range {
        let mut sum = self.cost(&one.iter_range).plus(self.cost(&one.accu_init));
        let accumulator = Local {
            path: self.path(&one.accu_init),
            size: self.size(&one.accu_init),
            entries: self.entries_of(&one.accu_init),
        };
        let before = self.locals.len();
        self.locals.push((&one.accu_var, accumulator));
        let is_list = match self.entries_of(&one.iter_range) {
            Some(entries) => entries.is_list,
            None => matches!(self.kind(&one.iter_range), Kind::List(_)),
        };
        let (key, value) = (self.loop_key(&one.iter_range, is_list), self.loop_value(&one.iter_range));
        match &one.iter_var2 {
            Some(second) => {
                self.locals.push((&one.iter_var, key));
                self.locals.push((second, value));
            }
            None => self.locals.push((&one.iter_var, if is_list { value } else { key })),
        }
        let each = self.cost(&one.loop_cond).plus(self.cost(&one.loop_step));
        self.locals.truncate(before + 1);
        sum = sum.plus(self.cost(&one.result));
        self.locals.truncate(before);

        let times = self.size_or_any(&one.iter_range);
        match &one.accu_init.expr {
            Expr::Literal(_) => {
                let size = self.size(&one.accu_init);
                self.set_size(id, size);
            }
            Expr::List(_) | Expr::Map(_) => {
                self.set_size(id, Some(times));
                let entries = self.entries_of(&one.loop_step);
                self.set_entries(id, entries);
            }
            _ => {}
        }
        sum.plus(times.times(each))
    }

    fn loop_key(&self, range: &'e IdedExpr, is_list: bool) -> Local {
        // The schema knows no indices.
        let path = self.below(range, |declared| declared.key.as_ref().filter(|_| !is_list));
        Local { path, size: self.entries_of(range).map(|entries| entries.key), entries: None }
    }

    fn loop_value(&self, range: &'e IdedExpr) -> Local {
        let path = self.below(range, |declared| declared.item.as_ref());
        Local { path, size: self.entries_of(range).map(|entries| entries.value), entries: None }
    }

    /// `optMap` and `optFlatMap`, which upstream writes as
    /// `x.hasValue() ? optional.of(let v = x.value() in e) : optional.none()`.
    pub(super) fn optional_map(&mut self, one: &'e IdedExpr, call: &'e CallExpr) -> Option<Range> {
        let (target, [variable, last]) = (call.target.as_deref()?, &call.args[..]) else { return None };
        let Expr::Ident(name) = &variable.expr else { return None };
        let asked = self.cost(target).plus(Range::fixed(1));
        let inner = match self.kind(target) {
            Kind::Optional(inner) => Kind::clone(&inner),
            _ => Kind::Dyn,
        };
        let size = inner.is_scalar().then(|| Range::fixed(1));
        self.locals.push((name, Local { path: Path::Nowhere, size, entries: None }));
        // An empty list to loop over, and the value.
        let mut taken = Range::fixed(10).plus(asked).plus(self.cost(last));
        self.locals.pop();
        if call.func_name == "optMap" {
            taken = taken.plus(Range::fixed(1));
        }
        let scalar = self.kind(one).is_scalar();
        let size = if scalar { Range::fixed(1) } else { Range::ANY };
        self.set_size(one.id, Some(size));
        Some(asked.plus(taken.or(Range::fixed(1))))
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rev().find(|(known, _)| *known == name).map(|(_, local)| local)
    }

    pub(super) fn kind(&self, one: &IdedExpr) -> Kind {
        self.kinds.get(&one.id).cloned().unwrap_or(Kind::Dyn)
    }

    pub(super) fn path(&self, one: &IdedExpr) -> Path {
        if let Expr::Ident(name) = &one.expr
            && let Some(local) = self.local(name)
        {
            return local.path.clone();
        }
        self.paths.get(&one.id).cloned().unwrap_or(Path::Nowhere)
    }

    pub(super) fn set_path(&mut self, id: u64, path: Path) {
        self.paths.insert(id, path);
    }

    /// A step below where a value comes from.
    pub(super) fn below(
        &self,
        one: &IdedExpr,
        step: impl FnOnce(&Rc<Declared>) -> Option<&Rc<Declared>>,
    ) -> Path {
        self.step(&self.path(one), step)
    }

    /// The first step of a path names a variable, and upstream does not look which: a step below what was computed
    /// leads to the root.
    pub(super) fn step(
        &self,
        path: &Path,
        step: impl FnOnce(&Rc<Declared>) -> Option<&Rc<Declared>>,
    ) -> Path {
        Path::At(match path {
            Path::Nowhere => Some(self.root.clone()),
            Path::At(at) => at.as_ref().and_then(step).cloned(),
        })
    }

    /// What the schema says of the size of what is there.
    pub(super) fn declared_size(path: &Path) -> Option<Range> {
        match path {
            Path::At(Some(declared)) => Some(Range::to(declared.most)),
            _ => None,
        }
    }

    pub(super) fn size(&mut self, one: &IdedExpr) -> Option<Range> {
        if let Some(known) = self.sizes.get(&one.id) {
            return Some(*known);
        }
        if let Some(written) = written_size(&one.expr) {
            return Some(Range::fixed(written));
        }
        if let Some(declared) = Self::declared_size(&self.path(one)) {
            self.sizes.insert(one.id, declared);
            return Some(declared);
        }
        if self.kind(one).is_scalar() {
            return Some(Range::fixed(1));
        }
        match &one.expr {
            Expr::Ident(name) => self.local(name).and_then(|local| local.size),
            _ => None,
        }
    }

    pub(super) fn size_or_any(&mut self, one: &IdedExpr) -> Range {
        self.size(one).unwrap_or(Range::ANY)
    }

    pub(super) fn set_size(&mut self, id: u64, size: Option<Range>) {
        if let Some(size) = size {
            self.sizes.insert(id, size);
        }
    }

    pub(super) fn entries_of(&self, one: &IdedExpr) -> Option<Entries> {
        let known = self.entries.get(&one.id).copied();
        known.or_else(|| match &one.expr {
            Expr::Ident(name) => self.local(name).and_then(|local| local.entries),
            _ => None,
        })
    }

    pub(super) fn item_size(&self, one: &IdedExpr) -> Option<Range> {
        self.entries_of(one).map(|entries| entries.value)
    }

    pub(super) fn set_entries(&mut self, id: u64, entries: Option<Entries>) {
        if let Some(entries) = entries {
            self.entries.insert(id, entries);
        }
    }

    /// Either of two values is what an expression gives.
    pub(super) fn join_entries(&mut self, id: u64, a: &IdedExpr, b: &IdedExpr) {
        let both = self.entries_of(a).zip(self.entries_of(b)).map(|(a, b)| a.or(b));
        self.set_entries(id, both);
    }

    pub(super) fn copy_sizes(&mut self, id: u64, from: &IdedExpr) {
        let (size, entries) = (self.size(from), self.entries_of(from));
        self.set_size(id, size);
        self.set_entries(id, entries);
    }

    pub(super) fn operand(&mut self, one: &'e IdedExpr) -> Operand<'e> {
        Operand { path: self.path(one), kind: self.kind(one), computed: self.size(one), expression: one }
    }
}

/// How large what is written in the expression is.
fn written_size(expr: &Expr) -> Option<u64> {
    Some(match expr {
        Expr::Literal(LiteralValue::String(text)) => text.inner().chars().count() as u64,
        Expr::Literal(LiteralValue::Bytes(bytes)) => bytes.inner().len() as u64,
        Expr::Literal(_) => 1,
        Expr::List(list) => list.elements.len() as u64,
        Expr::Map(map) => map.entries.len() as u64,
        _ => return None,
    })
}
