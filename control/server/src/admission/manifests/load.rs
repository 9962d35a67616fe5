//! Reading the files of a directory, and what is allowed in them. Messages are upstream's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};
use skep_api::admissionregistration::GROUP;
use skep_api::decode::{self, Encoding, FieldValidation};
use skep_api::defaults;
use skep_api::object::{at, items, name, text};
use skep_api::registry::{Resource, registry, split_group_version};
use skep_api::validation::{self, FieldError};

use super::SUFFIX;

/// What one plug-in takes from files.
pub(in crate::admission) struct Family {
    pub(in crate::admission) plugin: &'static str,
    /// What upstream calls it.
    pub(super) what: &'static str,
    /// Its kinds and their plurals: of policies the policy first, then its binding.
    kinds: &'static [(&'static str, &'static str)],
}

pub(in crate::admission) const MUTATING_WEBHOOKS: Family = Family {
    plugin: "MutatingAdmissionWebhook",
    what: "webhook",
    kinds: &[("MutatingWebhookConfiguration", "mutatingwebhookconfigurations")],
};
pub(in crate::admission) const VALIDATING_WEBHOOKS: Family = Family {
    plugin: "ValidatingAdmissionWebhook",
    what: "webhook",
    kinds: &[("ValidatingWebhookConfiguration", "validatingwebhookconfigurations")],
};
pub(in crate::admission) const MUTATING_POLICIES: Family = Family {
    plugin: "MutatingAdmissionPolicy",
    what: "policy",
    kinds: &[
        ("MutatingAdmissionPolicy", "mutatingadmissionpolicies"),
        ("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings"),
    ],
};
pub(in crate::admission) const VALIDATING_POLICIES: Family = Family {
    plugin: "ValidatingAdmissionPolicy",
    what: "policy",
    kinds: &[
        ("ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
        ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"),
    ],
};

/// Objects by plural, in order of their names.
pub(super) type Objects = BTreeMap<&'static str, Arc<Vec<Arc<Value>>>>;

/// What is in the files of a directory, document by document.
pub(super) struct Files {
    documents: Vec<(PathBuf, Vec<u8>)>,
    /// Tells whether anything changed; empty where there is nothing.
    pub(super) hash: String,
}

/// Reads the files of a directory that are YAML or JSON by their names, in order.
///
/// # Errors
///
/// When one of them, or the directory, cannot be read.
pub(super) fn read(directory: &Path) -> Result<Files, String> {
    let unreadable =
        |error: std::io::Error| format!("failed to read manifest directory {directory:?}: {error}");
    let entries = std::fs::read_dir(directory).map_err(unreadable)?;
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        let path = entry.path();
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let fits = ["yaml", "yml", "json"].contains(&ending.to_lowercase().as_str());
        if fits && !entry.file_type().map_err(unreadable)?.is_dir() {
            paths.push(path);
        }
    }
    paths.sort();
    let (mut documents, mut hash, mut any) = (Vec::new(), Sha256::new(), false);
    for path in paths {
        let data = std::fs::read(&path).map_err(|error| format!("failed to read file {path:?}: {error}"))?;
        if data.is_empty() {
            continue;
        }
        any = true;
        hash.update(&data);
        hash.update([0]);
        documents.extend(split(&data).into_iter().map(|document| (path.clone(), document)));
    }
    let digest = hash.finalize();
    let hash = digest.iter().fold("sha256:".to_owned(), |hash, byte| hash + &format!("{byte:02x}"));
    Ok(Files { documents, hash: if any { hash } else { String::new() } })
}

/// The documents of a file; a line that begins with `---`, and has nothing but a comment behind it, is between them.
fn split(data: &[u8]) -> Vec<Vec<u8>> {
    let is_between = |line: &[u8]| {
        line.strip_prefix(b"---").is_some_and(|rest| matches!(rest.trim_ascii().first(), None | Some(b'#')))
    };
    let documents = data.split_inclusive(|byte| *byte == b'\n').fold(vec![Vec::new()], |mut all, line| {
        match is_between(line) {
            true => all.push(Vec::new()),
            false => all.last_mut().expect("there is one from the beginning").extend_from_slice(line),
        }
        all
    });
    documents.into_iter().filter(|document| !document.trim_ascii().is_empty()).collect()
}

/// The objects that the files hold.
///
/// # Errors
///
/// When there is anything in them that is not of the family, or not as it has to be there.
pub(super) fn objects(files: &Files, family: &Family) -> Result<Objects, String> {
    let mut loading = Loading { family, seen: BTreeMap::new(), objects: BTreeMap::new() };
    for (path, document) in &files.documents {
        let loaded = loading.document(path, document);
        loaded.map_err(|why| format!("error loading {}: {why}", path.display()))?;
    }
    loading.check_references()?;
    let sorted = loading.objects.into_iter().map(|(plural, mut all)| {
        all.sort_by(|one, other| name(one).cmp(name(other)));
        (plural, Arc::new(all))
    });
    Ok(sorted.collect())
}

struct Loading<'a> {
    family: &'a Family,
    /// In which file each name was seen, by plural.
    seen: BTreeMap<(&'static str, String), PathBuf>,
    objects: BTreeMap<&'static str, Vec<Arc<Value>>>,
}

impl Loading<'_> {
    fn document(&mut self, path: &Path, document: &[u8]) -> Result<(), String> {
        let parsed = decode::parse(document, Encoding::Yaml).map_err(|status| status.message)?;
        if !parsed.duplicates.is_empty() {
            return Err(format!("strict decoding error: {}", parsed.duplicates.join(", ")));
        }
        self.value(path, parsed.value)
    }

    fn value(&mut self, path: &Path, value: Value) -> Result<(), String> {
        let (version, kind) = (text(&value, &["apiVersion"]), text(&value, &["kind"]));
        if kind.is_empty() {
            return Err("Object 'Kind' is missing".to_owned());
        }
        if (version, kind) == ("v1", "List") {
            return items(&value, &["items"]).iter().try_for_each(|item| self.value(path, item.clone()));
        }
        let (group, version) = split_group_version(version);
        let known =
            self.family.kinds.iter().find(|(one, _)| kind.strip_suffix("List").unwrap_or(kind) == *one);
        let Some((one, plural)) = known.filter(|_| (group, version) == (GROUP, "v1")) else {
            return Err(match registry().find_kind(group, version, kind) {
                Some(found) if found.group == GROUP => format!("unsupported resource type {kind}"),
                _ => {
                    format!("no kind {kind:?} is registered for version {:?}", text(&value, &["apiVersion"]))
                }
            });
        };
        let resource = registry().find(GROUP, "v1", plural);
        let resource = resource.expect("the kinds of admission are built in");
        if kind == *one {
            return self.object(path, resource, plural, value);
        }
        items(&value, &["items"])
            .iter()
            .try_for_each(|item| self.object(path, resource, plural, item.clone()))
    }

    fn object(
        &mut self,
        path: &Path,
        resource: &Resource,
        plural: &'static str,
        mut object: Value,
    ) -> Result<(), String> {
        decode::check(resource, &mut object, FieldValidation::Strict).map_err(|status| status.message)?;
        decode::omit_zeros(resource, &mut object);
        defaults::apply(resource, &mut object);
        let named = name(&object).to_owned();
        let errors = validation::create(resource, &object);
        if !errors.is_empty() {
            return Err(format!("{} {named:?}: {}", resource.kind, FieldError::together(&errors)));
        }
        if !named.ends_with(SUFFIX) {
            return Err(format!("{named:?} in file {path:?} must have a name ending with {SUFFIX:?}"));
        }
        if let Some(before) = self.seen.insert((plural, named.clone()), path.to_owned()) {
            return Err(format!(
                "duplicate name {named:?} found in file {path:?} (previously seen in {before:?})"
            ));
        }
        constraints(resource, &object, path)?;
        self.objects.entry(plural).or_default().push(Arc::new(object));
        Ok(())
    }

    /// A binding without its policy would do nothing, which nobody would notice.
    fn check_references(&self) -> Result<(), String> {
        let [(_, policies), (_, bindings)] = self.family.kinds else { return Ok(()) };
        let of = |plural: &str| self.objects.get(plural).into_iter().flatten();
        let known: BTreeSet<&str> = of(policies).map(|policy| name(policy)).collect();
        for binding in of(bindings) {
            let policy = text(binding, &["spec", "policyName"]);
            if !known.contains(policy) {
                let binding = name(binding);
                return Err(format!(
                    "binding {binding:?} references policy {policy:?} which does not exist in the manifest directory"
                ));
            }
        }
        Ok(())
    }
}

/// What is not possible in files: all that leads to an object of the API, which may not be there yet, or be another one.
fn constraints(resource: &Resource, object: &Value, path: &Path) -> Result<(), String> {
    let (kind, named) = (resource.kind.as_str(), name(object));
    if kind.ends_with("WebhookConfiguration") {
        for hook in items(object, &["webhooks"]) {
            let hook_name = text(hook, &["name"]);
            let start = format!("webhook {hook_name:?} in {named:?} (file {path:?}): clientConfig");
            if at(hook, &["clientConfig", "service"]).is_some() {
                let instead = "is not supported for static manifests; use clientConfig.url instead";
                return Err(format!("{start}.service {instead}"));
            }
            if text(hook, &["clientConfig", "url"]).is_empty() {
                return Err(format!("{start}.url is required for static manifests"));
            }
        }
        return Ok(());
    }
    if !kind.ends_with("Binding") {
        return match at(object, &["spec", "paramKind"]) {
            Some(_) => Err(format!("{kind} {named:?}: spec.paramKind is not supported for static manifests")),
            None => Ok(()),
        };
    }
    let policy = text(object, &["spec", "policyName"]);
    if policy.is_empty() {
        return Err(format!("binding {named:?} must reference a policy (spec.policyName)"));
    }
    if !policy.ends_with(SUFFIX) {
        return Err(format!("binding {named:?}: spec.policyName {policy:?} must end with {SUFFIX:?}"));
    }
    match at(object, &["spec", "paramRef"]) {
        Some(_) => Err(format!("binding {named:?}: spec.paramRef is not supported for static manifests")),
        None => Ok(()),
    }
}
