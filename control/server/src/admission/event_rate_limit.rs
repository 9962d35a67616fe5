//! EventRateLimit: events are written only so often, in all, by namespace, by user, or by source and object.

use std::collections::HashMap;
use std::time::SystemTime;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Value;
use skep_api::object::{at, items, number, text};
use skep_api::status::Status;

use super::config::strict;
use super::{Attributes, ConfigError, Ingredients, Plugin};
use crate::gate::Clock;

/// So many keys are remembered unless the configuration says otherwise.
const KEYS: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Server,
    Namespace,
    User,
    SourceAndObject,
}

impl Kind {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "Server" => Some(Self::Server),
            "Namespace" => Some(Self::Namespace),
            "User" => Some(Self::User),
            "SourceAndObject" => Some(Self::SourceAndObject),
            _ => None,
        }
    }
}

/// One limit.
struct Limit {
    kind: Kind,
    per_second: f64,
    burst: f64,
    /// So many keys are remembered.
    keys: usize,
    buckets: Mutex<HashMap<String, Bucket>>,
}

/// What is left for a key.
struct Bucket {
    tokens: f64,
    at: SystemTime,
}

struct EventRateLimit {
    clock: Clock,
    limits: Vec<Limit>,
}

pub(super) fn make(
    from: &Ingredients,
    configuration: Option<&Value>,
) -> Result<Box<dyn Plugin>, ConfigError> {
    let bad = |reason| ConfigError::Plugin { name: "EventRateLimit", reason };
    let limits = limits(configuration.unwrap_or(&Value::Null)).map_err(bad)?;
    Ok(Box::new(EventRateLimit { clock: from.ids.clock.clone(), limits }))
}

/// Reads the limits of a `Configuration` (`eventratelimit.admission.k8s.io/v1alpha1`).
fn limits(configuration: &Value) -> Result<Vec<Limit>, String> {
    let all = items(configuration, &["limits"]);
    if all.is_empty() {
        return Err("limits: Invalid value: must not be empty".to_owned());
    }
    strict(configuration, &["apiVersion", "kind", "limits"])?;
    let read = |(index, limit): (usize, &Value)| {
        strict(limit, &["type", "qps", "burst", "cacheSize"])?;
        let name = text(limit, &["type"]);
        let kind = Kind::parse(name).ok_or_else(|| {
            format!(
                "limits[{index}].type: Unsupported value: {name:?}: supported values: \"Namespace\", \"Server\", \
                 \"SourceAndObject\", \"User\""
            )
        })?;
        let positive = |member: &str| {
            let value = number(limit, &[member]).unwrap_or_default();
            let wrong = || format!("limits[{index}].{member}: Invalid value: {value}: must be positive");
            if value > 0 { Ok(value as f64) } else { Err(wrong()) }
        };
        let keys = at(limit, &["cacheSize"]).map_or(Some(0), Value::as_u64);
        let negative = || format!("limits[{index}].cacheSize: Invalid value: must not be negative");
        let keys = keys.ok_or_else(negative)? as usize;
        Ok(Limit {
            kind,
            per_second: positive("qps")?,
            burst: positive("burst")?,
            keys: if keys == 0 { KEYS } else { keys },
            buckets: Mutex::default(),
        })
    };
    all.iter().enumerate().map(read).collect()
}

impl Limit {
    fn key(&self, namespace: &str, user: &str, event: &Value) -> String {
        match self.kind {
            Kind::Server => String::new(),
            Kind::Namespace => namespace.to_owned(),
            Kind::User => user.to_owned(),
            Kind::SourceAndObject => {
                // The two groups of events have different names for the same.
                let either =
                    |names: [&str; 2], member| names.map(|name| text(event, &[name, member])).concat();
                let source =
                    ["component", "host"].map(|member| either(["source", "deprecatedSource"], member));
                let object = ["kind", "namespace", "name", "uid", "apiVersion"]
                    .map(|member| either(["involvedObject", "regarding"], member));
                source.concat() + &object.concat()
            }
        }
    }

    /// Takes one event out of what is left for a key.
    fn takes(&self, key: &str, now: SystemTime) -> bool {
        let mut buckets = self.buckets.lock();
        if buckets.len() >= self.keys && !buckets.contains_key(key) {
            // Who was quiet for longest has the most left, and loses the least.
            let oldest = buckets.iter().min_by_key(|(_, bucket)| bucket.at).map(|(key, _)| key.clone());
            oldest.map(|oldest| buckets.remove(&oldest));
        }
        let bucket = buckets.entry(key.to_owned()).or_insert(Bucket { tokens: self.burst, at: now });
        let passed = now.duration_since(bucket.at).unwrap_or_default().as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * self.per_second).min(self.burst);
        bucket.at = now;
        let takes = bucket.tokens >= 1.0;
        if takes {
            bucket.tokens -= 1.0;
        }
        takes
    }
}

#[async_trait]
impl Plugin for EventRateLimit {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        (attributes.creates() || attributes.updates())
            && !attributes.is_dry_run()
            && (attributes.concerns("", "events") || attributes.concerns("events.k8s.io", "events"))
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let Some(event) = object else { return Ok(()) };
        let now = (self.clock)();
        let mut refused = Vec::new();
        for limit in &self.limits {
            let key = limit.key(attributes.namespace(), &attributes.user().name, event);
            if !limit.takes(&key, now) {
                refused.push(format!("limit reached on type {:?} for key {key}", limit.kind));
            }
        }
        match refused.as_slice() {
            [] => Ok(()),
            [one] => Err(too_many(one)),
            many => Err(too_many(&format!("[{}]", many.join(", ")))),
        }
    }
}

fn too_many(why: &str) -> Status {
    Status::new(429, "TooManyRequests", format!("Too many requests: {why}"))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::json;

    use super::*;

    #[test]
    fn key_gets_its_burst_and_then_its_rate() {
        let all =
            limits(&json!({ "limits": [{ "type": "Namespace", "qps": 2, "burst": 3, "cacheSize": 2 }] }));
        let limit = &all.unwrap()[0];
        let takes =
            |key: &str, milliseconds: u64| limit.takes(key, UNIX_EPOCH + Duration::from_millis(milliseconds));
        assert!((0..3).all(|_| takes("a", 0)) && !takes("a", 0));
        assert!(takes("b", 0));
        assert!(takes("a", 500) && !takes("a", 600));
        assert!(takes("c", 700), "the longest quiet key is forgotten");
        assert_eq!(limit.buckets.lock().len(), 2);
    }

    #[test]
    fn key_of_source_and_object_is_all_of_both() {
        let all = limits(&json!({ "limits": [{ "type": "SourceAndObject", "qps": 1, "burst": 1 }] }));
        let limit = &all.unwrap()[0];
        let event =
            json!({ "source": { "component": "c" }, "involvedObject": { "kind": "Pod", "name": "p" } });
        assert_eq!(limit.key("n", "u", &event), "cPodp");
        let event =
            json!({ "deprecatedSource": { "component": "c" }, "regarding": { "kind": "Pod", "name": "p" } });
        assert_eq!(limit.key("n", "u", &event), "cPodp");
    }

    #[test]
    fn configuration_that_limits_nothing_is_refused() {
        let limit = |limit: Value| limits(&json!({ "limits": [limit] })).err().unwrap_or_default();
        assert!(limits(&Value::Null).is_err());
        assert!(limit(json!({ "type": "X", "qps": 1, "burst": 1 })).contains("Unsupported value: \"X\""));
        assert!(limit(json!({ "type": "User", "qps": 0, "burst": 1 })).contains("qps: Invalid value: 0"));
        assert!(
            limit(json!({ "type": "User", "qps": 1, "burst": 1, "cacheSize": -1 })).contains("cacheSize")
        );
        assert_eq!(limit(json!({ "type": "Server", "qps": 1, "burst": 1 })), "");
    }
}
