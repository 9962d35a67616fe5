//! Schema as data: what each type's fields are, and what patches, apply, decoding and validation need to know about them.
//!
//! Owns the shape of the table and look-ups in it. Does not own where a table comes from: the built-in one is derived by
//! `build.rs`; a custom resource brings its own table, which is why types refer to each other by index within a table.

mod by_name;

use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use serde_json::Value;

use by_name::ByName;

/// The index of a type within its [`Types`].
pub type TypeId = usize;

/// What a value looks like.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub enum Shape {
    /// Any text.
    String,
    /// Text that is base64 of bytes.
    Bytes,
    /// RFC 3339 with seconds.
    Time,
    /// RFC 3339 with microseconds.
    MicroTime,
    /// True or false.
    Boolean,
    /// A whole number of 32 bits.
    Int32,
    /// A whole number of 64 bits.
    Int64,
    /// A number with a fraction.
    Number,
    /// An amount with a unit, such as `100m` or `2Gi`.
    Quantity,
    /// A whole number of 32 bits or text.
    IntOrString,
    /// Anything; never pruned.
    Any,
    /// A value with named fields.
    Object(TypeId),
    /// Values of one shape in order.
    List(Box<Shape>),
    /// Values of one shape by name.
    Map(Box<Shape>),
}

/// How two versions of a list are brought together by server-side apply (`x-kubernetes-list-type`).
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ListType {
    /// As a whole.
    #[default]
    Atomic,
    /// By value.
    Set,
    /// By the fields named in `list_keys`.
    Map,
}

/// What stands for a field that nobody has set.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum Zero {
    /// `null`: for pointers, lists, maps and times.
    Null,
    /// The zero of its type: nothing in a text, 0, `false`, an object of zeros.
    Plain,
}

/// One field of a type.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Field {
    /// The name in JSON.
    pub name: String,
    /// What its value looks like.
    pub shape: Shape,
    /// Whether the schema calls it required.
    #[serde(default)]
    pub required: bool,
    /// Whether its zero (nothing in it, 0, false) is left out of JSON, as Go's `omitempty` does.
    #[serde(default)]
    pub omits_zero: bool,
    /// What Go writes for it when nobody has set it; nothing where it leaves it out.
    #[serde(default)]
    pub written: Option<Zero>,
    /// How lists merge under apply.
    #[serde(default)]
    pub list_type: ListType,
    /// The keys of an item for `ListType::Map`.
    #[serde(default)]
    pub list_keys: Vec<String>,
    /// `atomic` or `granular`, for maps and objects.
    #[serde(default)]
    pub map_type: Option<String>,
    /// `merge`, `retainKeys`, `replace`, or several with commas: strategic merge patch.
    #[serde(default)]
    pub patch_strategy: Option<String>,
    /// The key of an item under strategic merge patch.
    #[serde(default)]
    pub merge_key: Option<String>,
    /// The values that are allowed, in order.
    #[serde(default)]
    pub choices: Vec<String>,
    /// The value to take when none is given.
    #[serde(default)]
    pub default: Option<Value>,
}

impl Field {
    /// Whether the patch strategy has this word.
    pub fn has_strategy(&self, word: &str) -> bool {
        self.patch_strategy.as_deref().is_some_and(|all| all.split(',').any(|one| one == word))
    }
}

/// A type with named fields.
#[derive(Clone, Debug, Deserialize)]
pub struct Type {
    /// The full name, such as `io.k8s.api.core.v1.Pod`.
    pub name: String,
    /// Whether apply treats a value as a whole.
    pub atomic: bool,
    /// The fields, in order of their names.
    pub fields: Vec<Field>,
    /// Where in `fields` those are that are written in any case,
    #[serde(skip)]
    always: Vec<usize>,
    /// those that have a default,
    #[serde(skip)]
    defaulted: Vec<usize>,
    /// and each name.
    #[serde(skip)]
    by_name: ByName,
}

impl Type {
    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.by_name.find(&self.fields, name)
    }

    /// A type whose fields are still to come.
    pub(crate) fn empty(name: &str, atomic: bool) -> Self {
        Self {
            name: name.to_owned(),
            atomic,
            fields: Vec::new(),
            always: Vec::new(),
            defaulted: Vec::new(),
            by_name: ByName::default(),
        }
    }

    /// The fields that Go writes whether they are set or not.
    pub fn always_written(&self) -> impl Iterator<Item = (&Field, Zero)> {
        self.always
            .iter()
            .filter_map(|at| self.fields.get(*at))
            .filter_map(|field| Some((field, field.written?)))
    }

    /// The fields that have a default, and that.
    pub fn defaulted(&self) -> impl Iterator<Item = (&Field, &Value)> {
        self.defaulted
            .iter()
            .filter_map(|at| self.fields.get(*at))
            .filter_map(|field| Some((field, field.default.as_ref()?)))
    }

    /// The last part of the name: `Pod`.
    pub fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }

    /// The name as messages have it: `v1.Pod`.
    pub fn versioned_name(&self) -> String {
        let mut parts = self.name.rsplit('.');
        let name = parts.next().unwrap_or_default();
        parts.next().map_or_else(|| name.to_owned(), |version| format!("{version}.{name}"))
    }
}

/// A table of types that refer to each other.
#[derive(Debug)]
pub struct Types(Vec<Type>);

impl Types {
    /// A table of these types; their shapes index into it.
    pub fn new(mut types: Vec<Type>) -> Self {
        for one in &mut types {
            one.fields.sort_by(|a, b| a.name.cmp(&b.name));
            let those = |which: fn(&Field) -> bool| {
                let found = one.fields.iter().enumerate().filter(|(_, field)| which(field));
                found.map(|(at, _)| at).collect::<Vec<_>>()
            };
            let (always, defaulted) =
                (those(|field| field.written.is_some()), those(|field| field.default.is_some()));
            (one.always, one.defaulted) = (always, defaulted);
            one.by_name = ByName::of(&one.fields);
        }
        Self(types)
    }

    /// The types of the API that are built in.
    pub fn builtin() -> Arc<Self> {
        static BUILTIN: LazyLock<Arc<Types>> = LazyLock::new(|| {
            let text = include_str!(concat!(env!("OUT_DIR"), "/types.json"));
            Arc::new(Types::new(serde_json::from_str(text).expect("build.rs writes what Type reads")))
        });
        Arc::clone(&BUILTIN)
    }

    /// The type of that index.
    pub fn get(&self, id: TypeId) -> &Type {
        &self.0[id]
    }

    /// The index of the type with this full name.
    pub fn find(&self, name: &str) -> Option<TypeId> {
        self.0.iter().position(|one| one.name == name)
    }
}

/// The type of a kind: a table and where to start in it.
#[derive(Clone, Debug)]
pub struct Schema {
    /// The table.
    pub types: Arc<Types>,
    /// The type of the whole object.
    pub root: TypeId,
}

impl Schema {
    /// The type of the whole object.
    pub fn root_type(&self) -> &Type {
        self.types.get(self.root)
    }
}
