//! How tokens are signed (RFC 7518, section 3.1): those ways that upstream takes, and whether a signature is good.
//!
//! jsonwebtoken, with ring behind it, knows all but ES512, for which there is the curve P-521 of RustCrypto.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use p521::ecdsa::signature::Verifier;
use p521::ecdsa::{Signature, VerifyingKey};
use serde::Deserialize;

use super::Claims;

/// A way to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signing {
    Known(Algorithm),
    Es512,
}

const ALL: [(&str, Signing); 9] = [
    ("ES256", Signing::Known(Algorithm::ES256)),
    ("ES384", Signing::Known(Algorithm::ES384)),
    ("ES512", Signing::Es512),
    ("PS256", Signing::Known(Algorithm::PS256)),
    ("PS384", Signing::Known(Algorithm::PS384)),
    ("PS512", Signing::Known(Algorithm::PS512)),
    ("RS256", Signing::Known(Algorithm::RS256)),
    ("RS384", Signing::Known(Algorithm::RS384)),
    ("RS512", Signing::Known(Algorithm::RS512)),
];

impl Signing {
    /// All ways.
    pub(super) fn all() -> Vec<Self> {
        ALL.iter().map(|(_, signing)| *signing).collect()
    }

    /// The one of that name; shared secrets, and none at all, are no way to sign.
    pub(super) fn named(name: &str) -> Option<Self> {
        ALL.iter().find(|(other, _)| *other == name).map(|(_, signing)| *signing)
    }
}

/// A public key.
pub(super) enum PublicKey {
    Known(DecodingKey),
    P521(Box<VerifyingKey>),
}

impl PublicKey {
    /// One on the curve P-521, by its coordinates.
    pub(super) fn p521(x: &[u8], y: &[u8]) -> Option<Self> {
        let point = [&[4][..], x, y].concat();
        Some(Self::P521(Box::new(VerifyingKey::from_sec1_bytes(&point).ok()?)))
    }

    /// The claims of a token that is signed with this key.
    pub(super) fn claims(&self, token: &str, signing: Signing) -> Option<Claims> {
        match (self, signing) {
            (Self::Known(key), Signing::Known(algorithm)) => {
                let mut validation = Validation::new(algorithm);
                validation.required_spec_claims.clear();
                // Times and audiences are checked elsewhere, by the clock that this server goes by.
                (validation.validate_exp, validation.validate_nbf, validation.validate_aud) =
                    (false, false, false);
                Some(jsonwebtoken::decode::<Claims>(token, key, &validation).ok()?.claims)
            }
            (Self::P521(key), Signing::Es512) => {
                let (signed, signature) = token.rsplit_once('.')?;
                let (_, claims) = signed.split_once('.')?;
                let signature = Signature::from_slice(&URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
                key.verify(signed.as_bytes(), &signature).ok()?;
                serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
            }
            _ => None,
        }
    }
}

/// What stands before a token's claims.
pub(super) struct Head {
    /// How it says that it is signed.
    pub(super) algorithm: String,
    /// The id of the key that signed it.
    pub(super) key: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<serde_json::Value>,
}

impl Head {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// When it is none, or asks for what nobody here knows (RFC 7515, section 4.1.11).
    pub(super) fn of(token: &str) -> Result<Self, String> {
        let malformed = |why: &str| format!("oidc: malformed jwt: {why}");
        if token.split('.').count() != 3 {
            return Err(malformed("it has not three parts"));
        }
        let head = token.split('.').next().unwrap_or_default();
        let bytes = URL_SAFE_NO_PAD.decode(head).map_err(|error| malformed(&error.to_string()))?;
        let header: Header = serde_json::from_slice(&bytes).map_err(|error| malformed(&error.to_string()))?;
        if header.crit.is_some() {
            return Err(malformed("unsupported crit header"));
        }
        Ok(Self { algorithm: header.alg, key: header.kid.filter(|id| !id.is_empty()) })
    }
}

#[cfg(test)]
mod tests {
    use p521::ecdsa::SigningKey;
    use p521::ecdsa::signature::Signer;

    use super::*;

    fn encode(bytes: impl AsRef<[u8]>) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// RFC 7515, appendix A.4: key, and a token whose content is no claims.
    #[test]
    fn signature_of_the_standard_is_good_and_any_other_bit_is_not() {
        let x = URL_SAFE_NO_PAD.decode(
            "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
        );
        let y = URL_SAFE_NO_PAD.decode(
            "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2",
        );
        let key = PublicKey::p521(&x.unwrap(), &y.unwrap()).unwrap();
        let PublicKey::P521(key) = key else { panic!("it is on that curve") };
        let signed = b"eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA";
        let signature = URL_SAFE_NO_PAD
            .decode(
                "AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7Xdt\
                 AG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn",
            )
            .unwrap();
        let good = |signature: &[u8]| {
            Signature::from_slice(signature).is_ok_and(|signature| key.verify(signed, &signature).is_ok())
        };
        assert!(good(&signature));
        for bit in [0, 7, 65, 131] {
            let mut other = signature.clone();
            other[bit] ^= 1;
            assert!(!good(&other), "{bit}");
        }
        assert!(!good(&signature[..131]) && !good(&[0; 132]));
    }

    fn token(key: &SigningKey, head: &str, claims: &str) -> String {
        let signed = format!("{}.{}", encode(head), encode(claims));
        let signature: Signature = key.sign(signed.as_bytes());
        format!("{signed}.{}", encode(signature.to_bytes()))
    }

    #[test]
    fn token_of_es512_is_read_with_its_key_and_no_other_way() {
        let signer = SigningKey::from_slice(&[&[0][..], &[7; 65]].concat()).unwrap();
        let point = signer.verifying_key().to_sec1_point(false);
        let key = PublicKey::p521(&point.as_bytes()[1..67], &point.as_bytes()[67..]).unwrap();
        let token = token(&signer, r#"{"alg":"ES512"}"#, r#"{"sub":"jane"}"#);
        assert_eq!(key.claims(&token, Signing::Es512).unwrap()["sub"], "jane");
        assert!(key.claims(&token, Signing::Known(Algorithm::ES256)).is_none());
        let (signed, _) = token.rsplit_once('.').unwrap();
        for bad in [format!("{signed}."), signed.to_owned(), format!("{signed}.{}", encode([0; 132]))] {
            assert!(key.claims(&bad, Signing::Es512).is_none(), "{bad}");
        }
        assert!(PublicKey::p521(&[0], &[1]).is_none());
    }

    #[test]
    fn head_that_cannot_be_kept_to_is_refused() {
        let of = |head: &str| Head::of(&format!("{}.e30.x", encode(head)));
        let head = of(r#"{"alg":"ES512","kid":"k","typ":"JWT"}"#).unwrap();
        assert_eq!((head.algorithm.as_str(), head.key.as_deref()), ("ES512", Some("k")));
        assert!(of(r#"{"alg":"ES512","crit":["b64"],"b64":false}"#).is_err());
        assert!(of("{}").is_err() && of("[").is_err() && Head::of("a.b").is_err());
    }
}
