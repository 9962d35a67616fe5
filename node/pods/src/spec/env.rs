//! A container's environment: values, references, `$(NAME)` expansion.
//!
//! Pure: ConfigMaps and Secrets are fetched by the caller, who learns from [`references`] which.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod};

use super::fields::{self, PodFacts};

/// A ConfigMap or Secret in the pod's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// Name of a ConfigMap.
    ConfigMap(String),
    /// Name of a Secret.
    Secret(String),
}

impl Reference {
    /// Kind in lower case and name, as messages write it.
    fn describe(&self) -> String {
        match self {
            Self::ConfigMap(name) => format!("configmap {name:?}"),
            Self::Secret(name) => format!("secret {name:?}"),
        }
    }
}

/// Contents of ConfigMaps and Secrets. What is absent does not exist.
pub type Contents = HashMap<Reference, BTreeMap<String, Vec<u8>>>;

/// The objects that the container's variables refer to.
pub fn references(container: &Container) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    for from in container.env_from.iter().flatten() {
        found.extend(from.config_map_ref.as_ref().map(|r| Reference::ConfigMap(r.name.clone())));
        found.extend(from.secret_ref.as_ref().map(|r| Reference::Secret(r.name.clone())));
    }
    for from in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        found.extend(from.config_map_key_ref.as_ref().map(|r| Reference::ConfigMap(r.name.clone())));
        found.extend(from.secret_key_ref.as_ref().map(|r| Reference::Secret(r.name.clone())));
    }
    found
}

/// Variables in the order in which they were first set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    list: Vec<(String, String)>,
    places: HashMap<String, usize>,
}

impl Environment {
    /// Value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.places.get(name).map(|place| self.list[*place].1.as_str())
    }

    /// All variables.
    pub fn iter(&self) -> impl Iterator<Item = &(String, String)> {
        self.list.iter()
    }

    fn set(&mut self, name: &str, value: String) {
        match self.places.get(name) {
            Some(place) => self.list[*place].1 = value,
            None => {
                self.places.insert(name.to_owned(), self.list.len());
                self.list.push((name.to_owned(), value));
            }
        }
    }
}

/// The container's environment. Later settings win: `envFrom`, then `env`; `services` fill what is left.
///
/// # Errors
/// A text for the user: what is missing or cannot be read.
pub fn environment(
    pod: &Pod,
    container: &Container,
    facts: &PodFacts,
    contents: &Contents,
    services: &[(String, String)],
) -> Result<Environment, String> {
    let mut environment = Environment::default();
    for from in container.env_from.iter().flatten() {
        let (reference, optional) = match (&from.config_map_ref, &from.secret_ref) {
            (Some(r), _) => (Reference::ConfigMap(r.name.clone()), r.optional),
            (None, Some(r)) => (Reference::Secret(r.name.clone()), r.optional),
            (None, None) => continue,
        };
        let Some(values) = contents.get(&reference) else {
            if optional == Some(true) {
                continue;
            }
            return Err(format!("{} not found", reference.describe()));
        };
        let prefix = from.prefix.as_deref().unwrap_or_default();
        for (key, value) in values {
            let name = format!("{prefix}{key}");
            if is_variable_name(&name) {
                environment.set(&name, String::from_utf8_lossy(value).into_owned());
            }
        }
    }
    let of_services: HashMap<&str, &str> = services.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(pod, container, facts, contents, variable)? {
            let lookup = |name: &str| environment.get(name).or_else(|| of_services.get(name).copied());
            let value = if variable.value_from.is_none() { expand(&value, lookup) } else { value };
            environment.set(&variable.name, value);
        }
    }
    for (name, value) in services {
        if environment.get(name).is_none() {
            environment.set(name, value.clone());
        }
    }
    Ok(environment)
}

/// The variable's value before expansion. `None` leaves it unset.
fn value(
    pod: &Pod,
    container: &Container,
    facts: &PodFacts,
    contents: &Contents,
    variable: &EnvVar,
) -> Result<Option<String>, String> {
    let Some(from) = &variable.value_from else {
        return Ok(Some(variable.value.clone().unwrap_or_default()));
    };
    if let Some(selector) = &from.field_ref {
        return fields::field(pod, facts, selector).map(Some);
    }
    if let Some(selector) = &from.resource_field_ref {
        return fields::resource(pod, facts, &container.name, selector).map(Some);
    }
    let (reference, key, optional) = match (&from.config_map_key_ref, &from.secret_key_ref) {
        (Some(r), _) => (Reference::ConfigMap(r.name.clone()), &r.key, r.optional),
        (None, Some(r)) => (Reference::Secret(r.name.clone()), &r.key, r.optional),
        (None, None) => return Err(format!("variable {} has a source that is not supported", variable.name)),
    };
    match contents.get(&reference).map(|values| values.get(key)) {
        Some(Some(value)) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
        _ if optional == Some(true) => Ok(None),
        Some(None) => Err(format!("couldn't find key {key} in {}", reference.describe())),
        None => Err(format!("{} not found", reference.describe())),
    }
}

/// Replaces `$(NAME)` where `lookup` knows the name. `$$` is a literal `$`; anything else stays as it is.
pub fn expand<'a>(text: &str, lookup: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// Names that a process can be given: printable ASCII without `=`.
fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn run(container: Value) -> Result<Vec<String>, String> {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": {"containers": [container]}}))
                .expect("a pod");
        let map = BTreeMap::from([("k".to_owned(), b"v".to_vec()), ("x=y".to_owned(), b"no".to_vec())]);
        let contents = Contents::from([
            (Reference::ConfigMap("m".into()), map.clone()),
            (Reference::Secret("s".into()), map),
        ]);
        let services = [("SVC".to_owned(), "10.96.0.1".to_owned()), ("A".to_owned(), "shadowed".to_owned())];
        let container = &pod.spec.as_ref().expect("a spec").containers[0];
        let environment = environment(&pod, container, &PodFacts::default(), &contents, &services)?;
        Ok(environment.iter().map(|(k, v)| format!("{k}={v}")).collect())
    }

    fn check(container: Value, expected: Result<&[&str], &str>) {
        let expected = expected.map(|list| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(run(container), expected.map_err(str::to_owned));
    }

    #[test]
    fn environment_expands_what_was_set_before() {
        let env = json!([
            {"name": "A", "value": "1"}, {"name": "B", "value": "$(A)-$(C)-$$(A)-$(SVC)-$A"},
            {"name": "C", "value": "3"}, {"name": "A", "value": "2"}]);
        check(
            json!({"name": "c", "env": env}),
            Ok(&["A=2", "B=1-$(C)-$(A)-10.96.0.1-$A", "C=3", "SVC=10.96.0.1"]),
        );
    }

    #[test]
    fn environment_takes_whole_objects_and_keys() {
        let container = json!({"name": "c",
            "envFrom": [{"prefix": "M_", "configMapRef": {"name": "m"}},
                {"secretRef": {"name": "none", "optional": true}}],
            "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                {"name": "D", "valueFrom": {"secretKeyRef": {"name": "s", "key": "none", "optional": true}}},
                {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]});
        check(container, Ok(&["M_k=v", "A=v", "N=web", "SVC=10.96.0.1"]));
    }

    #[test]
    fn missing_object_or_key_is_an_error() {
        let key = |map: &str, key: &str| {
            json!({"name": "c", "env": [{"name": "A",
                "valueFrom": {"configMapKeyRef": {"name": map, "key": key}}}]})
        };
        check(key("none", "k"), Err("configmap \"none\" not found"));
        check(key("m", "none"), Err("couldn't find key none in configmap \"m\""));
        let from = json!({"name": "c", "envFrom": [{"secretRef": {"name": "none"}}]});
        check(from, Err("secret \"none\" not found"));
    }

    #[test]
    fn expansion_leaves_broken_references_alone() {
        let lookup = |name: &str| (name == "A").then_some("1");
        for (text, expected) in
            [("$(A", "$(A"), ("$", "$"), ("$$", "$"), ("$()", "$()"), ("$$$(A)", "$1"), ("$(A)$(A)", "11")]
        {
            assert_eq!(expand(text, lookup), expected, "{text}");
        }
    }
}
