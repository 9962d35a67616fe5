//! Objects that upstream's server (1.36) was sent, and all that it said of each: `compared.json` beside this file holds, for
//! each kind, a sound object and changes of it.

use serde_json::{Value, json};

use super::{create, find, status_update};
use crate::decode::{self, FieldValidation};
use crate::{defaults, strategy};

/// Sets what is at a path of names and indices; takes it away where there is no value.
fn change(object: &mut Value, at: &[Value], value: Option<&Value>) {
    let (last, before) = at.split_last().unwrap();
    let step = |one: &Value| one.as_u64().map_or_else(|| one.as_str().unwrap().to_owned(), |n| n.to_string());
    let pointer: String = before.iter().map(|one| format!("/{}", step(one).replace('/', "~1"))).collect();
    match (object.pointer_mut(&pointer).unwrap(), value) {
        (Value::Array(items), Some(value)) => items[last.as_u64().unwrap() as usize] = value.clone(),
        (Value::Array(items), None) => drop(items.remove(last.as_u64().unwrap() as usize)),
        (holder, Some(value)) => holder[last.as_str().unwrap()] = value.clone(),
        (holder, None) => drop(holder.as_object_mut().unwrap().remove(last.as_str().unwrap())),
    }
}

#[test]
fn objects_are_judged_as_upstreams_server_judges_them() {
    let kinds: Vec<Value> = serde_json::from_str(include_str!("compared.json")).unwrap();
    let mut wrong = Vec::new();
    for kind in &kinds {
        let resource = find(kind["resource"].as_str().unwrap());
        for case in kind["cases"].as_array().unwrap() {
            let mut object = kind["sound"].clone();
            change(&mut object, case["at"].as_array().unwrap(), case.get("value"));
            decode::check(resource, &mut object, FieldValidation::Ignore).unwrap();
            if resource.namespaced {
                object["metadata"]["namespace"] = "n".into();
            }
            decode::omit_zeros(resource, &mut object);
            defaults::apply(resource, &mut object);
            object["metadata"]["uid"] = "u".into();
            strategy::prepare_create(resource, &mut object);
            let mut found: Vec<[String; 2]> =
                create(resource, &object).iter().map(|error| [error.field.clone(), error.body()]).collect();
            found.sort();
            let expected: Vec<[String; 2]> = serde_json::from_value(case["causes"].clone()).unwrap();
            if found != expected {
                wrong.push(format!("{} {}: {found:#?}\nnot {expected:#?}", kind["resource"], case));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A job's specification, its status, the one that it is given, and what upstream's server said of that.
type Status = (Value, Value, Value, Vec<[String; 2]>);

#[test]
fn statuses_of_jobs_are_judged_as_upstreams_server_judges_them() {
    let cases: Vec<Status> = serde_json::from_str(include_str!("job_statuses.json")).unwrap();
    let resource = find("batch/jobs");
    let mut wrong = Vec::new();
    for (spec, before, after, expected) in &cases {
        let mut job = json!({ "metadata": { "name": "a", "namespace": "n", "uid": "u" }, "spec": spec });
        job["spec"]["template"]["spec"] =
            json!({ "restartPolicy": "Never", "containers": [{ "name": "c", "image": "i" }] });
        defaults::apply(resource, &mut job);
        strategy::prepare_create(resource, &mut job);
        let of = |status: &Value| {
            let mut job = job.clone();
            job["status"] = status.clone();
            job
        };
        let errors = status_update(resource, &of(after), &of(before));
        let found: Vec<[String; 2]> =
            errors.iter().map(|error| [error.field.clone(), error.body()]).collect();
        if found != *expected {
            wrong.push(format!("{spec} {before} {after}: {found:#?}\nnot {expected:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}: {}", wrong.len(), cases.len(), wrong.join("\n"));
}
