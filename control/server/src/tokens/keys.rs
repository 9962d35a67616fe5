//! The keys of service-account tokens: one that signs, and all whose signatures are accepted.
//!
//! Keys are named by a digest of their public part, as Kubernetes names them, so that tokens of a cluster that is taken
//! over keep their key id.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use ring::signature::KeyPair;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::provider;
use crate::error::Error;

/// DER of a P-256 `SubjectPublicKeyInfo` up to the point, which has 65 bytes (RFC 5480).
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// DER of the algorithm identifier rsaEncryption with its NULL parameters (RFC 8017).
const RSA_ALGORITHM: [u8; 15] =
    [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// The signing key and everything that verifies.
pub struct Keys {
    pub(super) signing: EncodingKey,
    pub(super) algorithm: Algorithm,
    pub(super) id: String,
    verifying: Vec<VerifyingKey>,
}

pub(super) struct VerifyingKey {
    pub(super) id: String,
    pub(super) key: DecodingKey,
    elliptic: bool,
    jwk: Value,
}

impl VerifyingKey {
    /// Whether `algorithm` may be used with this key.
    pub(super) fn takes(&self, algorithm: Algorithm) -> bool {
        match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => self.elliptic,
            Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 => !self.elliptic,
            _ => false,
        }
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Keys {
    /// Reads the private key that signs and, from any number of PEM blocks, further public keys to accept.
    ///
    /// # Errors
    ///
    /// When a block is not a P-256 or RSA key.
    pub fn from_pem(private: &str, further: &str) -> Result<Self, Error> {
        provider::install();
        let unusable = |reason: &str| Error::TokenKey { reason: reason.to_owned() };
        let (_, block) =
            x509_parser::pem::parse_x509_pem(private.as_bytes()).map_err(|_| unusable("not PEM"))?;
        let der = &block.contents;
        let (algorithm, public) = public_of_private(der).ok_or_else(|| {
            unusable("the private key is neither P-256 (PKCS #8) nor RSA of 2048 bits or more")
        })?;
        let signing = match algorithm {
            Algorithm::ES256 => EncodingKey::from_ec_der(der),
            _ => EncodingKey::from_rsa_der(der),
        };
        let first = verifying_key(&public)?;
        let mut keys = Self { signing, algorithm, id: first.id.clone(), verifying: vec![first] };
        for block in Pem::iter_from_buffer(further.as_bytes()) {
            let block = block.map_err(|_| unusable("a further key is not PEM"))?;
            let key = verifying_key(&public_part(&block)?)?;
            if keys.verifying.iter().all(|known| known.id != key.id) {
                keys.verifying.push(key);
            }
        }
        Ok(keys)
    }

    /// The keys that a token with this key id may be signed with: the one named, or all where none is named.
    pub(super) fn candidates<'a>(&'a self, id: Option<&'a str>) -> impl Iterator<Item = &'a VerifyingKey> {
        self.verifying.iter().filter(move |key| id.is_none_or(|id| id == key.id))
    }

    /// Signs claims.
    pub(super) fn sign(&self, claims: &impl serde::Serialize) -> jsonwebtoken::errors::Result<String> {
        let mut header = jsonwebtoken::Header::new(self.algorithm);
        header.typ = None;
        header.kid = Some(self.id.clone());
        jsonwebtoken::encode(&header, claims, &self.signing)
    }

    /// The algorithms of all keys, sorted.
    pub(super) fn algorithms(&self) -> Vec<String> {
        let names = self.verifying.iter().filter_map(|key| key.jwk["alg"].as_str().map(str::to_owned));
        let mut names: Vec<String> = names.collect();
        names.sort();
        names.dedup();
        names
    }

    /// The public keys as a JSON web key set (RFC 7517).
    pub fn jwks(&self) -> Value {
        json!({"keys": self.verifying.iter().map(|key| &key.jwk).collect::<Vec<_>>()})
    }
}

/// The algorithm of a private key, and its public key as `SubjectPublicKeyInfo`.
fn public_of_private(der: &[u8]) -> Option<(Algorithm, Vec<u8>)> {
    if let Some(pair) = provider::p256(der) {
        return Some((Algorithm::ES256, [&P256_PREFIX[..], pair.public_key().as_ref()].concat()));
    }
    let pair = provider::rsa(der)?;
    Some((Algorithm::RS256, rsa_spki(pair.public().as_ref())))
}

/// The public key in a PEM block: of a public key, a certificate or a private key.
fn public_part(block: &Pem) -> Result<Vec<u8>, Error> {
    let unusable = |reason: String| Error::TokenKey { reason };
    match block.label.as_str() {
        "PUBLIC KEY" => Ok(block.contents.clone()),
        "RSA PUBLIC KEY" => Ok(rsa_spki(&block.contents)),
        "CERTIFICATE" => {
            let certificate =
                block.parse_x509().map_err(|_| unusable("a certificate is malformed".into()))?;
            Ok(certificate.public_key().raw.to_vec())
        }
        "PRIVATE KEY" | "RSA PRIVATE KEY" => public_of_private(&block.contents)
            .map(|(_, public)| public)
            .ok_or_else(|| unusable("a private key is neither P-256 (PKCS #8) nor RSA".into())),
        label => Err(unusable(format!("a {label} block is not a key that verifies"))),
    }
}

fn verifying_key(spki: &[u8]) -> Result<VerifyingKey, Error> {
    let unusable = |reason: &str| Error::TokenKey { reason: reason.to_owned() };
    let (_, info) = SubjectPublicKeyInfo::from_der(spki).map_err(|_| unusable("not a public key"))?;
    let id = URL_SAFE_NO_PAD.encode(Sha256::digest(spki));
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    match info.parsed().map_err(|_| unusable("not a public key"))? {
        PublicKey::EC(point) if point.data().len() == 65 || point.data().len() == 97 => {
            let data = point.data();
            let (x, y) = data[1..].split_at((data.len() - 1) / 2);
            let (curve, algorithm) = if data.len() == 65 { ("P-256", "ES256") } else { ("P-384", "ES384") };
            let jwk = json!({"use": "sig", "kty": "EC", "kid": id, "crv": curve, "alg": algorithm,
                             "x": encode(x), "y": encode(y)});
            Ok(VerifyingKey { key: DecodingKey::from_ec_der(data), elliptic: true, jwk, id })
        }
        PublicKey::RSA(rsa) => {
            // DER integers carry a leading zero that a JWK does not.
            let number = |bytes: &[u8]| encode(&bytes[bytes.iter().take_while(|b| **b == 0).count()..]);
            let jwk = json!({"use": "sig", "kty": "RSA", "kid": id, "alg": "RS256",
                             "n": number(rsa.modulus), "e": number(rsa.exponent)});
            let key = DecodingKey::from_rsa_der(&info.subject_public_key.data);
            Ok(VerifyingKey { key, elliptic: false, jwk, id })
        }
        _ => Err(unusable("a public key is neither P-256, P-384 nor RSA")),
    }
}

/// Wraps a PKCS #1 public key into a `SubjectPublicKeyInfo`.
fn rsa_spki(pkcs1: &[u8]) -> Vec<u8> {
    let mut bits = vec![0];
    bits.extend_from_slice(pkcs1);
    let content = [RSA_ALGORITHM.to_vec(), der(0x03, &bits)].concat();
    der(0x30, &content)
}

/// One DER element.
pub(crate) fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|b| **b == 0).count()..];
    let mut out = vec![tag];
    if content.len() < 128 {
        out.push(significant.first().copied().unwrap_or(0));
    } else {
        out.push(0x80 | u8::try_from(significant.len()).expect("a usize has at most 8 bytes"));
        out.extend_from_slice(significant);
    }
    out.extend_from_slice(content);
    out
}
