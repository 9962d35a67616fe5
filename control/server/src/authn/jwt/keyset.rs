//! The public keys of an issuer (JSON web key set, RFC 7517).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

use super::signing::{PublicKey, Signing};
use crate::tokens::der;

/// The keys that verify an issuer's tokens.
#[derive(Default)]
pub(super) struct KeySet {
    keys: Vec<Key>,
}

struct Key {
    id: String,
    key: PublicKey,
    kind: Kind,
    /// The only algorithm that it is for, if it says so.
    algorithm: Option<Signing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    P521,
}

impl Kind {
    fn takes(self, signing: Signing) -> bool {
        match signing {
            Signing::Known(Algorithm::ES256) => self == Self::P256,
            Signing::Known(Algorithm::ES384) => self == Self::P384,
            Signing::Es512 => self == Self::P521,
            Signing::Known(_) => self == Self::Rsa,
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
        signing: Signing,
    ) -> impl Iterator<Item = &'a PublicKey> {
        let fits = move |key: &&Key| {
            id.is_none_or(|id| key.id == id)
                && key.kind.takes(signing)
                && key.algorithm.is_none_or(|only| only == signing)
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
        ("RSA", _) => {
            let der = rsa(&bytes("n")?, &bytes("e")?);
            (Kind::Rsa, PublicKey::Known(DecodingKey::from_rsa_der(&der)))
        }
        ("EC", Some(curve)) => {
            let (kind, size) = match curve {
                "P-256" => (Kind::P256, 32),
                "P-384" => (Kind::P384, 48),
                "P-521" => (Kind::P521, 66),
                _ => return None,
            };
            let (x, y) = (bytes("x")?, bytes("y")?);
            if x.len() != size || y.len() != size {
                return None;
            }
            let known = || PublicKey::Known(DecodingKey::from_ec_der(&[&[4][..], &x, &y].concat()));
            (kind, if kind == Kind::P521 { PublicKey::p521(&x, &y)? } else { known() })
        }
        _ => return None,
    };
    let algorithm = jwk["alg"].as_str().map(Signing::named);
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
