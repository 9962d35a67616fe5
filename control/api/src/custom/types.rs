//! A structural schema as a type table: what server-side apply goes by, the same as for built-in kinds.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Kind, More, Node};
use crate::schema::{Field, ListType, Schema, Shape, Type, TypeId, Types};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const SCALE: &str = "io.k8s.api.autoscaling.v1.Scale";

/// The table of a kind; `None` only if the built-in metadata were missing.
pub(super) fn of(name: &str, node: &Node) -> Option<Schema> {
    let mut table = Table { types: Vec::new(), borrowed: HashMap::new(), metadata: 0 };
    let builtin = Types::builtin();
    table.metadata = table.borrow(&builtin, builtin.find(OBJECT_META)?);
    // The body of the scale subresource is looked up in the table of its resource.
    table.borrow(&builtin, builtin.find(SCALE)?);
    let Shape::Object(root) = table.object(name, node) else { return None };
    Some(Schema { types: Arc::new(Types::new(table.types)), root })
}

struct Table {
    types: Vec<Type>,
    /// Built-in types that are in the table already.
    borrowed: HashMap<TypeId, TypeId>,
    metadata: TypeId,
}

impl Table {
    /// Copies a built-in type and what it refers to.
    fn borrow(&mut self, builtin: &Types, id: TypeId) -> TypeId {
        if let Some(found) = self.borrowed.get(&id) {
            return *found;
        }
        let here = self.types.len();
        self.borrowed.insert(id, here);
        let mut copy = builtin.get(id).clone();
        self.types.push(copy.clone());
        for field in &mut copy.fields {
            field.shape = self.borrow_shape(builtin, &field.shape);
        }
        self.types[here] = copy;
        here
    }

    fn borrow_shape(&mut self, builtin: &Types, shape: &Shape) -> Shape {
        match shape {
            Shape::Object(id) => Shape::Object(self.borrow(builtin, *id)),
            Shape::List(inner) => Shape::List(Box::new(self.borrow_shape(builtin, inner))),
            Shape::Map(inner) => Shape::Map(Box::new(self.borrow_shape(builtin, inner))),
            other => other.clone(),
        }
    }

    fn object(&mut self, name: &str, node: &Node) -> Shape {
        let here = self.types.len();
        self.types.push(Type::empty(name, node.atomic_map));
        let mut fields: Vec<Field> = node
            .properties
            .iter()
            .filter(|(member, _)| !(node.embedded && super::prune::is_of_object(member)))
            .map(|(member, inner)| self.field(&format!("{name}.{member}"), member, inner, node))
            .collect();
        if node.embedded {
            fields.push(plain("apiVersion", Shape::String));
            fields.push(plain("kind", Shape::String));
            fields.push(plain("metadata", Shape::Object(self.metadata)));
        }
        self.types[here].fields = fields;
        Shape::Object(here)
    }

    fn field(&mut self, path: &str, name: &str, node: &Node, holder: &Node) -> Field {
        Field {
            required: holder.required.iter().any(|one| one == name),
            list_type: node.list_type.unwrap_or_default(),
            list_keys: node.list_keys.clone(),
            map_type: map_type(node),
            default: node.default.clone(),
            ..plain(name, self.shape(path, node))
        }
    }

    fn shape(&mut self, path: &str, node: &Node) -> Shape {
        if node.int_or_string {
            return Shape::IntOrString;
        }
        match node.kind {
            Some(Kind::Object) if !node.properties.is_empty() || node.embedded => self.object(path, node),
            Some(Kind::Object) => match &node.more {
                More::Like(inner) => Shape::Map(Box::new(self.shape(path, inner))),
                More::Any => Shape::Map(Box::new(Shape::Any)),
                _ => Shape::Any,
            },
            Some(Kind::Array) => match &node.items {
                Some(inner) => Shape::List(Box::new(self.shape(path, inner))),
                None => Shape::List(Box::new(Shape::Any)),
            },
            Some(Kind::String) => Shape::String,
            Some(Kind::Integer) => Shape::Int64,
            Some(Kind::Number) => Shape::Number,
            Some(Kind::Boolean) => Shape::Boolean,
            None => Shape::Any,
        }
    }
}

fn map_type(node: &Node) -> Option<String> {
    if node.atomic_map {
        return Some("atomic".to_owned());
    }
    // What has no schema is owned member by member all the same.
    (node.kind != Some(Kind::Array)).then(|| "granular".to_owned())
}

fn plain(name: &str, shape: Shape) -> Field {
    Field {
        name: name.to_owned(),
        shape,
        required: false,
        omits_zero: false,
        written: None,
        list_type: ListType::Atomic,
        list_keys: Vec::new(),
        map_type: None,
        patch_strategy: None,
        merge_key: None,
        choices: Vec::new(),
        default: None,
    }
}
