//! The envelope of a value that a key management service protects, as upstream stores it.
//!
//! The service never sees values. It seals a seed; each value has a key of its own, made from the seed and 32 random bytes
//! that stand before the value (HKDF-SHA256, expansion only), and is sealed with AES-256-GCM, bound to its place.

use std::collections::BTreeMap;

use prost::Message;
use ring::hkdf;

use super::proto::{EncryptedDekSourceType, EncryptedObject};
use crate::encryption::ciphers::{self, Cipher};
use crate::encryption::error::TransformError;

/// Bytes of a seed and of what is mixed into it.
pub(super) const SEED: usize = 32;
const LONGEST_KEY_ID: usize = 1024;
const LONGEST_SOURCE: usize = 1024;
const LARGEST_ANNOTATIONS: usize = 32 * 1024;

/// What opens and seals values, once the service has opened the seed.
pub(super) enum DataKey {
    /// One key for all values: what older servers wrote.
    Plain(Box<dyn Cipher>),
    /// A key for each value.
    Seed(hkdf::Prk),
}

impl DataKey {
    /// What the service opened.
    pub(super) fn new(kind: EncryptedDekSourceType, opened: &[u8]) -> Result<Self, TransformError> {
        let bad =
            || TransformError::Kms(format!("invalid seed length {} used for key generation", opened.len()));
        match kind {
            EncryptedDekSourceType::AesGcmKey => ciphers::gcm(opened).map(Self::Plain).ok_or_else(bad),
            EncryptedDekSourceType::HkdfSha256XnonceAesGcmSeed if opened.len() < SEED => Err(bad()),
            EncryptedDekSourceType::HkdfSha256XnonceAesGcmSeed => {
                Ok(Self::Seed(hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, opened)))
            }
        }
    }

    pub(super) fn open(&self, data: &[u8], place: &[u8]) -> Result<Vec<u8>, TransformError> {
        match self {
            Self::Plain(cipher) => cipher.open(data, place),
            Self::Seed(seed) => {
                let (info, data) = data.split_at_checked(SEED).ok_or(TransformError::TooShort)?;
                derived(seed, info)?.open(data, place)
            }
        }
    }

    pub(super) fn seal(&self, plain: &[u8], place: &[u8]) -> Result<Vec<u8>, TransformError> {
        match self {
            Self::Plain(cipher) => cipher.seal(plain, place),
            Self::Seed(seed) => {
                let mut data = vec![0; SEED];
                ciphers::random(&mut data)?;
                let sealed = derived(seed, &data)?.seal(plain, place)?;
                data.extend(sealed);
                Ok(data)
            }
        }
    }
}

fn derived(seed: &hkdf::Prk, info: &[u8]) -> Result<Box<dyn Cipher>, TransformError> {
    let mut key = [0; SEED];
    seed.expand(&[info], hkdf::HKDF_SHA256)
        .and_then(|output| output.fill(&mut key))
        .map_err(|_| TransformError::NotSealed)?;
    ciphers::gcm(&key).ok_or(TransformError::NotSealed)
}

/// Reads an envelope.
pub(super) fn decode(bytes: &[u8]) -> Result<EncryptedObject, TransformError> {
    let object = EncryptedObject::decode(bytes).map_err(|error| TransformError::Kms(error.to_string()))?;
    if object.encrypted_data.is_empty() {
        return Err(TransformError::Kms("encrypted data is empty".into()));
    }
    check(&object.key_id, &object.encrypted_dek_source, &object.annotations)?;
    source_type(&object)?;
    Ok(object)
}

pub(super) fn source_type(object: &EncryptedObject) -> Result<EncryptedDekSourceType, TransformError> {
    let kind = object.encrypted_dek_source_type;
    EncryptedDekSourceType::try_from(kind)
        .map_err(|_| TransformError::Kms(format!("unknown encryptedDEKSourceType: {kind}")))
}

/// Checks what came from a service or from the store.
pub(super) fn check(
    key_id: &str,
    source: &[u8],
    annotations: &BTreeMap<String, Vec<u8>>,
) -> Result<(), TransformError> {
    check_key_id(key_id)
        .map_err(|(_, why)| TransformError::Kms(format!("failed to validate key id: {why}")))?;
    if source.is_empty() {
        return Err(TransformError::Kms(
            "failed to validate encrypted DEK source: encrypted DEK source is empty".into(),
        ));
    }
    if source.len() > LONGEST_SOURCE {
        return Err(TransformError::Kms(format!(
            "failed to validate encrypted DEK source: encrypted DEK source is {} bytes, which exceeds the max size of \
             {LONGEST_SOURCE}",
            source.len()
        )));
    }
    let size: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > LARGEST_ANNOTATIONS {
        return Err(TransformError::Kms(format!(
            "failed to validate annotations: total size of annotations is {size}, which exceeds the max size of \
             {LARGEST_ANNOTATIONS}"
        )));
    }
    match annotations.keys().find(|key| !is_qualified(key)) {
        None => Ok(()),
        Some(key) => Err(TransformError::Kms(format!(
            "failed to validate annotations: annotations: Invalid value: {key:?}: should be a domain with at least two \
             segments separated by dots"
        ))),
    }
}

/// Checks the name of a key; the word is that of metrics.
pub(super) fn check_key_id(key_id: &str) -> Result<(), (&'static str, String)> {
    match key_id.len() {
        0 => Err(("empty", "keyID is empty".to_owned())),
        length if length > LONGEST_KEY_ID => Err((
            "too_long",
            format!("keyID is {length} bytes, which exceeds the max size of {LONGEST_KEY_ID}"),
        )),
        _ => Ok(()),
    }
}

fn is_qualified(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let part = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    name.len() <= 253 && name.contains('.') && name.split('.').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_of_each_value_is_the_expansion_of_seed_and_its_first_bytes() {
        let seed = DataKey::new(EncryptedDekSourceType::HkdfSha256XnonceAesGcmSeed, &[5; SEED]).unwrap();
        let sealed = seed.seal(b"plain", b"place").unwrap();
        assert_eq!(seed.open(&sealed, b"place").unwrap(), b"plain");
        assert!(seed.open(&sealed, b"elsewhere").is_err());
        // By hand: T(1) = HMAC-SHA256(seed, info || 0x01) (RFC 5869, section 2.3).
        let hmac = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &[5; SEED]);
        let key = ring::hmac::sign(&hmac, &[&sealed[..SEED], &[1]].concat());
        let cipher = ciphers::gcm(key.as_ref()).unwrap();
        assert_eq!(cipher.open(&sealed[SEED..], b"place").unwrap(), b"plain");
    }

    #[test]
    fn envelope_has_upstreams_bytes() {
        let object = EncryptedObject {
            encrypted_data: vec![1, 2],
            key_id: "k".into(),
            encrypted_dek_source: vec![3],
            annotations: BTreeMap::from([("a.b".into(), vec![4])]),
            encrypted_dek_source_type: 1,
        };
        let bytes = object.encode_to_vec();
        let expected = [
            0x0a, 2, 1, 2, 0x12, 1, b'k', 0x1a, 1, 3, 0x22, 8, 0x0a, 3, b'a', b'.', b'b', 0x12, 1, 4, 0x28, 1,
        ];
        assert_eq!(bytes, expected);
        assert_eq!(decode(&bytes).unwrap(), object);
    }

    #[test]
    fn envelope_beyond_upstreams_limits_is_refused() {
        let fine = EncryptedObject {
            encrypted_data: vec![1],
            key_id: "k".into(),
            encrypted_dek_source: vec![3],
            annotations: BTreeMap::new(),
            encrypted_dek_source_type: 1,
        };
        let refused = |change: &dyn Fn(&mut EncryptedObject)| {
            let mut object = fine.clone();
            change(&mut object);
            decode(&object.encode_to_vec()).unwrap_err().to_string()
        };
        assert_eq!(refused(&|object| object.encrypted_data.clear()), "encrypted data is empty");
        assert!(refused(&|object| object.key_id.clear()).contains("keyID is empty"));
        assert!(refused(&|object| object.key_id = "k".repeat(1025)).contains("keyID is 1025 bytes"));
        assert!(refused(&|object| object.encrypted_dek_source = vec![0; 1025]).contains("is 1025 bytes"));
        assert!(
            refused(&|object| object.encrypted_dek_source_type = 7)
                .contains("unknown encryptedDEKSourceType: 7")
        );
        assert!(
            refused(&|object| drop(object.annotations.insert("bare".into(), vec![])))
                .contains("at least two segments")
        );
    }
}
