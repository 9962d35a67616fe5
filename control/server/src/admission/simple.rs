//! Plug-ins of a few lines that run only on demand: AlwaysAdmit, AlwaysDeny, AlwaysPullImages, DenyServiceExternalIPs,
//! LimitPodHardAntiAffinityTopology.

use async_trait::async_trait;
use serde_json::Value;
use skep_api::object::{at, items, text};
use skep_api::status::Status;
use skep_api::validation::FieldError;

use super::{Attributes, ConfigError, Ingredients, Plugin};

/// One that has nothing to say.
struct Idle;

pub(super) fn make_idle(_: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(Idle))
}

pub(super) fn make_admit(
    from: &Ingredients,
    configuration: Option<&Value>,
) -> Result<Box<dyn Plugin>, ConfigError> {
    make_idle(from, configuration)
}

impl Plugin for Idle {
    fn handles(&self, _: &Attributes<'_>) -> bool {
        false
    }
}

struct AlwaysDeny;

pub(super) fn make_deny(_: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(AlwaysDeny))
}

#[async_trait]
impl Plugin for AlwaysDeny {
    fn handles(&self, _: &Attributes<'_>) -> bool {
        true
    }

    async fn admit(&self, attributes: &Attributes<'_>, _: Option<&mut Value>) -> Result<(), Status> {
        Err(attributes.forbid("admission control is denying all modifications"))
    }
}

struct AlwaysPullImages;

pub(super) fn make_pull(_: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(AlwaysPullImages))
}

const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

#[async_trait]
impl Plugin for AlwaysPullImages {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        (attributes.creates() || attributes.updates()) && attributes.is("", "pods")
    }

    async fn admit(&self, attributes: &Attributes<'_>, object: Option<&mut Value>) -> Result<(), Status> {
        if let Some(pod) = object.filter(|pod| brings_images(pod, attributes.old)) {
            always_pull(pod);
        }
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let Some(pod) = object.filter(|pod| brings_images(pod, attributes.old)) else { return Ok(()) };
        match not_pulled(pod) {
            Some(fault) => Err(attributes.forbid(&fault.to_string())),
            None => Ok(()),
        }
    }
}

/// Whether a pod has images that it did not have before.
fn brings_images(pod: &Value, old: Option<&Value>) -> bool {
    let images = |pod: &Value| -> Vec<String> {
        let all = CONTAINERS.iter().flat_map(|list| items(pod, &["spec", list]));
        all.map(|container| text(container, &["image"]).to_owned()).collect()
    };
    old.is_none_or(|old| {
        let known = images(old);
        images(pod).iter().any(|image| !known.contains(image))
    })
}

fn always_pull(pod: &mut Value) {
    for list in CONTAINERS {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            container["imagePullPolicy"] = "Always".into();
        }
    }
    for volume in pod["spec"]["volumes"].as_array_mut().into_iter().flatten() {
        if volume["image"].is_object() {
            volume["image"]["pullPolicy"] = "Always".into();
        }
    }
}

fn not_pulled(pod: &Value) -> Option<FieldError> {
    let fault = |field: String, policy: &str| {
        (policy != "Always").then(|| FieldError::not_supported(field, policy, &["Always"]))
    };
    let containers = CONTAINERS.iter().flat_map(|list| {
        let all = items(pod, &["spec", list]).iter().enumerate();
        all.map(move |(at, one)| {
            (format!("spec.{list}[{at}].imagePullPolicy"), text(one, &["imagePullPolicy"]))
        })
    });
    let volumes = items(pod, &["spec", "volumes"]).iter().enumerate();
    let volumes = volumes.filter(|(_, volume)| at(volume, &["image"]).is_some()).map(|(at, volume)| {
        (format!("spec.volumes[{at}].image.pullPolicy"), text(volume, &["image", "pullPolicy"]))
    });
    containers.chain(volumes).find_map(|(field, policy)| fault(field, policy))
}

struct DenyExternalIps;

pub(super) fn make_external(_: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(DenyExternalIps))
}

#[async_trait]
impl Plugin for DenyExternalIps {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        (attributes.creates() || attributes.updates()) && attributes.is("", "services")
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let of = |service: Option<&Value>| {
            service.map(|service| items(service, &["spec", "externalIPs"]).to_vec()).unwrap_or_default()
        };
        let (new, old) = (of(object), of(attributes.old));
        if new.iter().all(|address| old.contains(address)) {
            return Ok(());
        }
        Err(attributes.forbid("Use of external IPs is denied by admission control"))
    }
}

struct HardTopology;

pub(super) fn make_topology(_: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(HardTopology))
}

const HOST: &str = "kubernetes.io/hostname";

#[async_trait]
impl Plugin for HardTopology {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        (attributes.creates() || attributes.updates()) && attributes.is("", "pods")
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let place = ["spec", "affinity", "podAntiAffinity", "requiredDuringSchedulingIgnoredDuringExecution"];
        let terms = object.map(|pod| items(pod, &place)).unwrap_or_default();
        let other = terms.iter().map(|term| text(term, &["topologyKey"])).find(|key| *key != HOST);
        match other {
            Some(key) => Err(attributes.forbid(&format!(
                "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {key} but only key {HOST} is allowed"
            ))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn images_are_pulled_each_time() {
        let mut pod = json!({ "spec": {
            "containers": [{ "image": "a", "imagePullPolicy": "Never" }], "volumes": [{ "image": { "pullPolicy": "Never" } }],
        } });
        assert_eq!(
            not_pulled(&pod).unwrap().to_string(),
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Never\": supported values: \"Always\""
        );
        always_pull(&mut pod);
        assert!(not_pulled(&pod).is_none());
        assert!(!brings_images(&pod, Some(&pod)) && brings_images(&pod, None));
    }
}
