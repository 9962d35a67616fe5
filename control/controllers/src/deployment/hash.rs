//! The label value that tells the ReplicaSets of one Deployment apart: a hash of the pod template.
//!
//! Upstream hashes a dump of its own in-memory form, so values cannot agree between implementations and
//! nothing may compare them; a template is recognised by comparing templates. What is kept is the scheme:
//! FNV-1a over template and collision count, printed as a decimal number, digits replaced by letters that
//! cannot spell anything.

use k8s_openapi::api::core::v1::PodTemplateSpec;

/// The label that carries the hash.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";

const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The hash of a template, different for each collision count.
pub fn template_hash(template: &PodTemplateSpec, collision_count: Option<i32>) -> String {
    // Fields serialise in the order of the type and maps are ordered, so the bytes are canonical.
    let bytes = serde_json::to_vec(template).unwrap_or_default();
    let mut hash = fnv1a(0x811c_9dc5, &bytes);
    if let Some(count) = collision_count {
        hash = fnv1a(hash, &i64::from(count).to_le_bytes());
    }
    let decimal = hash.to_string();
    decimal.bytes().map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()])).collect()
}

/// Whether two templates are the same but for the hash label.
pub fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    without_hash(a) == without_hash(b)
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(meta) = template.metadata.as_mut() {
        if let Some(labels) = meta.labels.as_mut() {
            labels.remove(POD_TEMPLATE_HASH);
        }
        meta.labels = meta.labels.take().filter(|labels| !labels.is_empty());
        meta.annotations = meta.annotations.take().filter(|annotations| !annotations.is_empty());
        meta.creation_timestamp = None;
    }
    template.metadata = template.metadata.filter(|meta| *meta != kube::core::ObjectMeta::default());
    template
}

fn fnv1a(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_collision_count_changes_the_value() {
        let template = PodTemplateSpec::default();
        let first = template_hash(&template, None);
        assert_eq!(first, template_hash(&template, None));
        assert_ne!(first, template_hash(&template, Some(1)));
        assert_ne!(template_hash(&template, Some(1)), template_hash(&template, Some(2)));
        assert!(first.bytes().all(|byte| ALPHABET.contains(&byte)) && first.len() <= 10);
    }

    #[test]
    fn fnv1a_known_input_gives_the_published_value() {
        assert_eq!(fnv1a(0x811c_9dc5, b"foobar"), 0xbf9c_f968);
    }
}
