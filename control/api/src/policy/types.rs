//! What a policy's expressions would say of the kinds that it is about, if they knew what these look like
//! (`status.typeChecking`). Only hints: a policy may be about kinds that there will be.

use serde_json::{Value, json};

use super::Names;
use crate::cel::{Program, Type};
use crate::object::{at, items, text};
use crate::registry::{Registry, Resource, split_group_version};
use crate::schema::Shape;

/// So many kinds are looked at.
const KINDS: usize = 10;

/// The warnings of a policy: each with the field that it is about.
pub fn warnings(policy: &Value, kinds: &Registry) -> Vec<Value> {
    let spec = &policy["spec"];
    let params = at(spec, &["paramKind"]);
    let resources = resources(spec, kinds);
    if resources.is_empty() {
        return Vec::new();
    }
    let variables: Vec<String> =
        items(spec, &["variables"]).iter().map(|one| text(one, &["name"]).to_owned()).collect();
    let param = params.and_then(|kind| {
        let (group, version) = split_group_version(text(kind, &["apiVersion"]));
        kinds.find_kind(group, version, text(kind, &["kind"]))
    });
    let mut warnings = Vec::new();
    for (index, one) in items(spec, &["validations"]).iter().enumerate() {
        for member in ["expression", "messageExpression"] {
            let source = text(one, &[member]);
            let names =
                Names { params: params.is_some(), authorizer: member == "expression", variables: &variables };
            let of_kind = |resource: &&Resource| {
                let why = check(source, &names, resource, param.map(|param| &**param)).err()?;
                Some(format!("{}, Kind={}: {why}", resource.group_version(), resource.kind))
            };
            if source.trim().is_empty() {
                continue;
            }
            let found: Vec<String> = resources.iter().filter_map(of_kind).collect();
            if !found.is_empty() {
                let field = format!("spec.validations[{index}].{member}");
                warnings.push(json!({ "fieldRef": field, "warning": found.join("\n") }));
            }
        }
    }
    warnings
}

fn check(
    source: &str,
    names: &Names<'_>,
    resource: &Resource,
    param: Option<&Resource>,
) -> Result<(), String> {
    let mut types = names.types();
    for (name, kind) in &mut types {
        match *name {
            "object" | "oldObject" => *kind = type_of(resource),
            "params" => {
                if let Some(param) = param {
                    *kind = type_of(param);
                }
            }
            _ => {}
        }
    }
    Program::compile(source, &types, &Type::Any).map(drop)
}

fn type_of(resource: &Resource) -> Type<'_> {
    match &resource.custom {
        Some(custom) => Type::of(&custom.node),
        None => Type::of_shape(&resource.schema.types, &Shape::Object(resource.schema.root)),
    }
}

/// The kinds that the rules name outright.
fn resources<'a>(spec: &Value, kinds: &'a Registry) -> Vec<&'a Resource> {
    let mut found: Vec<&Resource> = Vec::new();
    for rule in items(&spec["matchConstraints"], &["resourceRules"]) {
        let words =
            |member: &str| items(rule, &[member]).iter().filter_map(Value::as_str).collect::<Vec<_>>();
        for group in words("apiGroups") {
            for version in words("apiVersions") {
                for plural in words("resources") {
                    let resource = kinds.find(group, version, plural);
                    let fresh = |one: &&Resource| !found.iter().any(|other| std::ptr::eq(*other, *one));
                    found.extend(resource.map(|one| &**one).filter(fresh));
                }
            }
        }
    }
    found.truncate(KINDS);
    found
}
