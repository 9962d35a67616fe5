//! Tokens of service accounts: for pods that the node runs, with audiences that their volumes need.

use serde_json::Value;
use skep_api::object::{at, items, name, text, uid};

use super::{Verdict, Write, allow_if};

impl Write<'_> {
    pub(super) fn token(&self) -> Verdict {
        let Some(request) = self.new else { return Ok(()) };
        let of = |member: &str| text(request, &["spec", "boundObjectRef", member]);
        let bound = of("apiVersion") == "v1" && of("kind") == "Pod" && !of("name").is_empty();
        allow_if(bound, || "node requested token not bound to a pod".to_owned())?;
        allow_if(!of("uid").is_empty(), || {
            "node requested token with a pod binding without a uid".to_owned()
        })?;
        let pod = self.lookup("pods", self.attributes.namespace(), of("name"))?;
        allow_if(of("uid") == uid(&pod), || {
            format!(
                "the UID in the bound object reference ({}) does not match the UID in record. The object might have \
                 been deleted and then recreated",
                of("uid")
            )
        })?;
        allow_if(self.runs(&pod), || {
            "node requested token bound to a pod scheduled on a different node".to_owned()
        })?;
        allow_if(items(request, &["spec", "audiences"]).len() <= 1, || {
            "node may only request 0 or 1 audiences".to_owned()
        })
    }

    /// The audience of a token request that the volumes of its pod do not need.
    pub(super) fn audience(&self) -> Option<String> {
        if !self.attributes.is_part("", "serviceaccounts", "token") {
            return None;
        }
        let request = self.new?;
        let audience =
            items(request, &["spec", "audiences"]).first().and_then(Value::as_str).unwrap_or_default();
        let name = text(request, &["spec", "boundObjectRef", "name"]);
        let pod = self.reader.get("", "pods", self.attributes.namespace(), name)?;
        (!self.pod_needs(&pod, audience)).then(|| audience.to_owned())
    }

    pub(super) fn pod_needs(&self, pod: &Value, audience: &str) -> bool {
        items(pod, &["spec", "volumes"]).iter().any(|volume| {
            let projected = items(volume, &["projected", "sources"]).iter().any(|source| {
                at(source, &["serviceAccountToken"])
                    .is_some_and(|token| text(token, &["audience"]) == audience)
            });
            projected
                || self.driver(pod, volume).is_some_and(|driver| {
                    let driver = self.reader.get("storage.k8s.io", "csidrivers", "", &driver);
                    driver.is_some_and(|driver| {
                        let requests = items(&driver, &["spec", "tokenRequests"]);
                        requests.iter().any(|request| text(request, &["audience"]) == audience)
                    })
                })
        })
    }

    /// The driver of a volume, found through its claim if it has one.
    pub(super) fn driver(&self, pod: &Value, volume: &Value) -> Option<String> {
        if at(volume, &["csi"]).is_some() {
            return Some(text(volume, &["csi", "driver"]).to_owned());
        }
        let claim = if at(volume, &["ephemeral", "volumeClaimTemplate"]).is_some() {
            format!("{}-{}", name(pod), text(volume, &["name"]))
        } else {
            at(volume, &["persistentVolumeClaim"])?["claimName"].as_str()?.to_owned()
        };
        let claim = self.reader.get("", "persistentvolumeclaims", self.attributes.namespace(), &claim)?;
        let found = self.reader.get("", "persistentvolumes", "", text(&claim, &["spec", "volumeName"]))?;
        Some(text(&found, &["spec", "csi", "driver"]).to_owned()).filter(|driver| !driver.is_empty())
    }
}
