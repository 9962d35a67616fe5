//! The objects and the rules of writing them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Group version, plural, kind, namespaced.
pub const KINDS: &[(&str, &str, &str, bool)] = &[
    ("v1", "pods", "Pod", true),
    ("v1", "nodes", "Node", false),
    ("v1", "services", "Service", true),
    ("v1", "endpoints", "Endpoints", true),
    ("v1", "namespaces", "Namespace", false),
    ("v1", "serviceaccounts", "ServiceAccount", true),
    ("v1", "secrets", "Secret", true),
    ("rbac.authorization.k8s.io/v1", "clusterroles", "ClusterRole", false),
    ("certificates.k8s.io/v1", "certificatesigningrequests", "CertificateSigningRequest", false),
    ("v1", "configmaps", "ConfigMap", true),
    ("v1", "events", "Event", true),
    ("v1", "persistentvolumeclaims", "PersistentVolumeClaim", true),
    ("v1", "persistentvolumes", "PersistentVolume", false),
    ("v1", "resourcequotas", "ResourceQuota", true),
    ("v1", "replicationcontrollers", "ReplicationController", true),
    ("apps/v1", "deployments", "Deployment", true),
    ("apps/v1", "replicasets", "ReplicaSet", true),
    ("discovery.k8s.io/v1", "endpointslices", "EndpointSlice", true),
    ("coordination.k8s.io/v1", "leases", "Lease", true),
    ("networking.k8s.io/v1", "ipaddresses", "IPAddress", false),
    ("networking.k8s.io/v1", "servicecidrs", "ServiceCIDR", false),
    ("storage.k8s.io/v1", "volumeattributesclasses", "VolumeAttributesClass", false),
];

/// The directive that takes finalizers away.
const NO_FINALIZERS: &str = "$deleteFromPrimitiveList/finalizers";

/// A refusal: code, reason, message.
pub type Refusal = (u16, &'static str, String);
type Key = (String, String, String);

/// One event of a watch.
#[derive(Clone, Debug)]
pub struct Change {
    pub revision: u64,
    pub kind: &'static str,
    pub plural: String,
    pub object: Value,
}

/// Everything that is stored, and its history.
#[derive(Default)]
pub struct Objects {
    pub revision: u64,
    serial: u64,
    stored: BTreeMap<Key, Value>,
    pub history: Vec<Change>,
    /// Pods with a node stay, marked as terminating, until the test removes them.
    pub graceful: bool,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn key(plural: &str, object: &Value) -> Key {
    (plural.to_owned(), text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]))
}

fn now() -> Value {
    json!(jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

impl Objects {
    pub fn list(&self, plural: &str, namespace: Option<&str>) -> Vec<Value> {
        let fits = |key: &Key| key.0 == plural && namespace.is_none_or(|namespace| key.1 == namespace);
        self.stored.iter().filter(|(key, _)| fits(key)).map(|(_, object)| object.clone()).collect()
    }

    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> Result<Value, Refusal> {
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        self.stored
            .get(&key)
            .cloned()
            .ok_or_else(|| (404, "NotFound", format!("{plural} \"{name}\" not found")))
    }

    /// All that is stored, for messages.
    pub fn dump(&self) -> String {
        self.stored.iter().map(|(key, object)| format!("{key:?}: {object}\n")).collect()
    }

    /// How many objects of a kind were ever created.
    pub fn created(&self, plural: &str) -> usize {
        self.history.iter().filter(|change| change.plural == plural && change.kind == "ADDED").count()
    }

    fn store(&mut self, kind: &'static str, plural: &str, mut object: Value) -> Value {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let key = key(plural, &object);
        match kind {
            "DELETED" => self.stored.remove(&key),
            _ => self.stored.insert(key, object.clone()),
        };
        self.history.push(Change {
            revision: self.revision,
            kind,
            plural: plural.to_owned(),
            object: object.clone(),
        });
        object
    }

    pub fn create(&mut self, plural: &str, mut object: Value) -> Result<Value, Refusal> {
        let (version, _, kind, _) = KINDS.iter().find(|kind| kind.1 == plural).expect("a known kind");
        object["apiVersion"] = json!(version);
        object["kind"] = json!(kind);
        self.serial += 1;
        let meta = &mut object["metadata"];
        if meta["name"].is_null() {
            meta["name"] = json!(format!("{}{:05}", text(&meta["generateName"]), self.serial));
        }
        meta["uid"] = json!(format!("uid-{:05}", self.serial));
        meta["creationTimestamp"] = now();
        meta["generation"] = json!(1);
        let key = key(plural, &object);
        if self.stored.contains_key(&key) {
            return Err((409, "AlreadyExists", format!("{plural} \"{}\" already exists", key.2)));
        }
        Ok(self.store("ADDED", plural, object))
    }

    pub fn put(
        &mut self,
        plural: &str,
        mut object: Value,
        subresource: Option<&str>,
    ) -> Result<Value, Refusal> {
        let key = key(plural, &object);
        let old = self.get(plural, &key.1, &key.2)?;
        let version = &object["metadata"]["resourceVersion"];
        if !version.is_null() && *version != old["metadata"]["resourceVersion"] {
            return Err((409, "Conflict", format!("{plural} \"{}\" has been modified", key.2)));
        }
        if !object["metadata"]["uid"].is_null() && object["metadata"]["uid"] != old["metadata"]["uid"] {
            return Err((409, "Conflict", "uid precondition failed".to_owned()));
        }
        match subresource {
            Some("status") => {
                let status = object["status"].clone();
                object = old.clone();
                object["status"] = status;
            }
            Some("finalize") => {
                let finalizers = object["spec"]["finalizers"].clone();
                object = old.clone();
                object["spec"]["finalizers"] = finalizers;
            }
            _ if !old["status"].is_null() => object["status"] = old["status"].clone(),
            _ => {}
        }
        for field in ["uid", "creationTimestamp", "deletionTimestamp", "generation"] {
            object["metadata"][field] = old["metadata"][field].clone();
        }
        if object["spec"] != old["spec"] {
            object["metadata"]["generation"] = json!(old["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
        }
        object["apiVersion"] = old["apiVersion"].clone();
        object["kind"] = old["kind"].clone();
        object["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        if object == old {
            return Ok(old);
        }
        if !object["metadata"]["deletionTimestamp"].is_null() && !is_held(&object) {
            return Ok(self.store("DELETED", plural, object));
        }
        Ok(self.store("MODIFIED", plural, object))
    }

    pub fn patch(
        &mut self,
        plural: &str,
        (namespace, name): (&str, &str),
        patch: &Value,
        strategic: bool,
        subresource: Option<&str>,
    ) -> Result<Value, Refusal> {
        let mut object = self.get(plural, namespace, name)?;
        if strategic {
            merge_conditions(&mut object, patch);
        }
        let mut patch = patch.clone();
        if let Some(gone) =
            patch.get_mut("metadata").and_then(Value::as_object_mut).and_then(|one| one.remove(NO_FINALIZERS))
        {
            let gone = gone.as_array().cloned().unwrap_or_default();
            if let Some(list) = object["metadata"]["finalizers"].as_array_mut() {
                list.retain(|one| !gone.contains(one));
            }
        }
        if strategic && let Some(status) = patch["status"].as_object_mut() {
            status.remove("conditions");
        }
        merge(&mut object, &patch);
        self.put(plural, object, subresource)
    }

    pub fn delete(
        &mut self,
        plural: &str,
        namespace: &str,
        name: &str,
        options: &Value,
    ) -> Result<Value, Refusal> {
        let mut object = self.get(plural, namespace, name)?;
        for field in ["uid", "resourceVersion"] {
            let wanted = &options["preconditions"][field];
            if !wanted.is_null() && *wanted != object["metadata"][field] {
                return Err((409, "Conflict", format!("precondition on {field} failed")));
            }
        }
        let mut finalizers = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        match options["propagationPolicy"].as_str() {
            Some("Foreground") => finalizers.push(json!("foregroundDeletion")),
            Some("Orphan") => finalizers.push(json!("orphan")),
            _ => {}
        }
        finalizers.dedup();
        if !finalizers.is_empty() {
            object["metadata"]["finalizers"] = json!(finalizers);
        }
        let at_once = options["gracePeriodSeconds"] == json!(0) || object["spec"]["nodeName"].is_null();
        let lingers = plural == "pods" && self.graceful && !at_once;
        if !is_held(&object) && !lingers {
            return Ok(self.store("DELETED", plural, object));
        }
        if object["metadata"]["deletionTimestamp"].is_null() {
            object["metadata"]["deletionTimestamp"] = now();
            return Ok(self.store("MODIFIED", plural, object));
        }
        Ok(object)
    }

    pub fn bind(&mut self, namespace: &str, name: &str, node: &Value) -> Result<Value, Refusal> {
        let mut pod = self.get("pods", namespace, name)?;
        if !pod["spec"]["nodeName"].is_null() {
            return Err((409, "Conflict", "pod is already assigned".to_owned()));
        }
        pod["spec"]["nodeName"] = node.clone();
        self.put("pods", pod, None)
    }
}

/// Whether finalizers keep the object.
fn is_held(object: &Value) -> bool {
    let some = |value: &Value| value.as_array().is_some_and(|list| !list.is_empty());
    some(&object["metadata"]["finalizers"])
        || (object["kind"] == "Namespace" && some(&object["spec"]["finalizers"]))
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    for (name, value) in fields {
        if value.is_null() {
            target.as_object_mut().expect("made one above").remove(name);
        } else {
            merge(&mut target[name.as_str()], value);
        }
    }
}

/// The one list that controllers patch strategically: conditions, by type.
fn merge_conditions(object: &mut Value, patch: &Value) {
    let Some(new) = patch["status"]["conditions"].as_array() else { return };
    let mut conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    for condition in new {
        conditions.retain(|known| known["type"] != condition["type"]);
        conditions.push(condition.clone());
    }
    object["status"]["conditions"] = json!(conditions);
}
