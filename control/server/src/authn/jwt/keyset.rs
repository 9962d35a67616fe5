//! The public keys of an issuer (JSON web key set, RFC 7517).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

use crate::tokens::der;

/// The keys that verify an issuer's tokens.
#[derive(Default)]
pub(super) struct KeySet {
    keys: Vec<Key>,
}

struct Key {
    id: String,
    key: DecodingKey,
    kind: Kind,
    /// The only algorithm that it is for, if it says so.
    algorithm: Option<Algorithm>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
}

impl Kind {
    fn takes(self, algorithm: Algorithm) -> bool {
        match algorithm {
            Algorithm::ES256 => self == Self::P256,
            Algorithm::ES384 => self == Self::P384,
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 | Algorithm::EdDSA => false,
            _ => self == Self::Rsa,
        }
    }
}

impl KeySet {
    /// The keys of a document; those of kinds that are not known, or not for signatures, are left out.
    pub(super) fn parse(document: &Value) -> Result<Self, String> {
        let keys = document["keys"].as_array().ok_or("oidc: the key set has no keys")?;
        Ok(Self { keys: keys.iter().filter_map(key).collect() })
    }

    /// Whether there is a key of that id; any key where none is named.
    pub(super) fn has(&self, id: Option<&str>) -> bool {
        self.keys.iter().any(|key| id.is_none_or(|id| key.id == id))
    }

    /// The keys that may have signed a token.
    pub(super) fn candidates<'a>(
        &'a self,
        id: Option<&'a str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &'a DecodingKey> {
        let fits = move |key: &&Key| {
            id.is_none_or(|id| key.id == id)
                && key.kind.takes(algorithm)
                && key.algorithm.is_none_or(|only| only == algorithm)
        };
        self.keys.iter().filter(fits).map(|key| &key.key)
    }
}

fn key(jwk: &Value) -> Option<Key> {
    if jwk["use"].as_str().is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let bytes = |field: &str| URL_SAFE_NO_PAD.decode(jwk[field].as_str()?.trim_end_matches('=')).ok();
    let (kind, key) = match (jwk["kty"].as_str()?, jwk["crv"].as_str()) {
        ("RSA", _) => (Kind::Rsa, DecodingKey::from_rsa_der(&rsa(&bytes("n")?, &bytes("e")?))),
        ("EC", Some(curve @ ("P-256" | "P-384"))) => {
            let (kind, size) = if curve == "P-256" { (Kind::P256, 32) } else { (Kind::P384, 48) };
            let (x, y) = (bytes("x")?, bytes("y")?);
            if x.len() != size || y.len() != size {
                return None;
            }
            (kind, DecodingKey::from_ec_der(&[&[4][..], &x, &y].concat()))
        }
        _ => return None,
    };
    let algorithm = jwk["alg"].as_str().map(super::algorithm);
    if algorithm == Some(None) {
        return None;
    }
    let id = jwk["kid"].as_str().unwrap_or_default().to_owned();
    Some(Key { id, key, kind, algorithm: algorithm.flatten() })
}

/// A PKCS #1 public key of modulus and exponent.
fn rsa(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let number = |bytes: &[u8]| {
        let significant = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
        // A number whose first bit is set would be negative.
        let sign: &[u8] = if significant.first().is_none_or(|byte| byte & 0x80 != 0) { &[0] } else { &[] };
        der(0x02, &[sign, significant].concat())
    };
    der(0x30, &[number(modulus), number(exponent)].concat())
}
