//! Who owns which fields: the entries of `metadata.managedFields`, read and written.
//!
//! An owner is told apart by name, operation, subresource and, unless it applies, by API version, so that one who applies
//! in another version stays the same.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::owned::Owned;
use super::set::FieldSet;
use crate::object::{remove, text};

/// So many entries of writers that do not apply are kept apart.
const MOST_UPDATERS: usize = 10;
/// The owner of what the oldest ones wrote.
const ANCIENT: &str = "ancient-changes";

/// What the server alone decides.
pub(super) static OF_THE_SERVER: LazyLock<FieldSet> = LazyLock::new(|| {
    FieldSet::of_names(&[
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ])
});

/// What an owner did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

/// One owner.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Owner {
    pub(super) name: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
    /// RFC 3339, empty when it is not known.
    pub(super) time: String,
    pub(super) fields: Owned,
}

impl Owner {
    /// Whether this is the same owner, whatever it owns and since when.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.name == other.name
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// How conflicts name it.
    pub(super) fn title(&self) -> String {
        let mut title = format!("{:?}", self.name);
        if !self.subresource.is_empty() {
            title += &format!(" with subresource {:?}", self.subresource);
        }
        if self.operation == Operation::Update {
            title += &format!(" using {}", self.api_version);
        }
        title
    }

    /// By which owners are ordered, as upstream orders them.
    fn rank(&self) -> impl Ord + '_ {
        (self.operation, &self.time, &self.name, &self.api_version, &self.subresource)
    }

    fn from_value(mut entry: Value) -> Option<Self> {
        let fields = Owned::of(remove(&mut entry, "fieldsV1").unwrap_or_default())?;
        let operation = match text(&entry, &["operation"]) {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        if text(&entry, &["fieldsType"]) != "FieldsV1" || text(&entry, &["apiVersion"]).is_empty() {
            return None;
        }
        let owned = |name: &str| text(&entry, &[name]).to_owned();
        Some(Self {
            name: owned("manager"),
            operation,
            api_version: owned("apiVersion"),
            subresource: owned("subresource"),
            time: owned("time"),
            fields,
        })
    }

    fn into_value(self) -> Value {
        let operation = match self.operation {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        };
        let mut entry = Map::new();
        for (name, value) in [
            ("manager", self.name.as_str()),
            ("operation", operation),
            ("apiVersion", &self.api_version),
            ("time", &self.time),
            ("fieldsType", "FieldsV1"),
            ("subresource", &self.subresource),
        ] {
            if !value.is_empty() {
                entry.insert(name.to_owned(), value.into());
            }
        }
        entry.insert("fieldsV1".into(), self.fields.into_value());
        Value::Object(entry)
    }
}

fn is_blank(entry: &Value) -> bool {
    entry.as_object().is_some_and(Map::is_empty)
}

/// The owners of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Owners(pub(super) Vec<Owner>);

impl Owners {
    /// Takes over `metadata.managedFields`; `None` when an entry cannot be read.
    pub(super) fn of(entries: Option<Value>) -> Option<Self> {
        let Some(Value::Array(entries)) = entries else { return Some(Self::default()) };
        let mut owners = Self::default();
        for entry in entries {
            let owner = Owner::from_value(entry)?;
            match owners.same(&owner) {
                Some(at) => owners.0[at].fields.absorb(owner.fields.to_set()),
                None => owners.0.push(owner),
            }
        }
        Some(owners)
    }

    /// The same of an object that keeps it.
    pub(super) fn read(object: &Value) -> Option<Self> {
        Self::of(object["metadata"].get("managedFields").cloned())
    }

    /// What an update sent: its own entries, or those of the live object when it has none or they make no sense. One
    /// empty entry resets them.
    pub(super) fn sent(entries: Option<Value>, live: &Value) -> Self {
        let resets =
            |all: &Value| all.as_array().is_some_and(|all| matches!(all.as_slice(), [one] if is_blank(one)));
        if entries.as_ref().is_some_and(resets) {
            return Self::default();
        }
        match Self::of(entries).filter(|owners| !owners.0.is_empty()) {
            Some(owners) => owners,
            None => Self::read(live).unwrap_or_default(),
        }
    }

    /// Where the same owner is.
    pub(super) fn same(&self, owner: &Owner) -> Option<usize> {
        self.0.iter().position(|one| one.is(owner))
    }

    /// Drops owners of nothing.
    pub(super) fn drop_empty(&mut self) {
        self.0.retain(|owner| !owner.fields.is_empty());
    }

    /// Nobody owns what the server alone decides.
    pub(super) fn strip(&mut self) {
        for owner in &mut self.0 {
            owner.fields.subtract(&OF_THE_SERVER);
        }
        self.drop_empty();
    }

    /// Puts the oldest writers together when there are too many.
    pub(super) fn cap(&mut self) {
        let updaters =
            |owners: &[Owner]| owners.iter().filter(|one| one.operation == Operation::Update).count();
        while updaters(&self.0) > MOST_UPDATERS {
            let (mut others, mut old): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.0).into_iter().partition(|one| one.operation == Operation::Apply);
            old.sort_by(|a, b| a.time.cmp(&b.time));
            // The oldest with the next one of its version; versions of one writer each cannot be put together.
            let pair = (0..old.len()).find_map(|first| {
                let next =
                    (first + 1..old.len()).find(|next| old[*next].api_version == old[first].api_version)?;
                Some((first, next))
            });
            let Some((first, next)) = pair else {
                others.append(&mut old);
                self.0 = others;
                return;
            };
            let newer = old.remove(next);
            let bucket = &mut old[first];
            bucket.fields.absorb(newer.fields.to_set());
            bucket.name = ANCIENT.to_owned();
            bucket.subresource = String::new();
            bucket.time = newer.time;
            others.append(&mut old);
            self.0 = others;
        }
    }

    /// The entries in upstream's order.
    pub(super) fn into_value(mut self) -> Value {
        self.0.sort_by(|a, b| a.rank().cmp(&b.rank()));
        self.0.into_iter().map(Owner::into_value).collect()
    }
}
