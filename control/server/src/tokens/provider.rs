//! The cryptography behind JSON web tokens, done by ring: signing with P-256 and RSA keys, verifying ES, RS and PS signatures.
//!
//! jsonwebtoken asks a process-wide provider for signers and verifiers. This one refuses every algorithm that a
//! service-account token does not use, shared secrets among them.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{Error as SignatureError, Signer, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey};
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes ring the provider of this process. Later calls change nothing.
pub(crate) fn install() {
    // An error means that a provider is there already: this one, from an earlier call.
    let _ = PROVIDER.install_default();
}

enum RingSigner {
    P256(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

impl Signer<Vec<u8>> for RingSigner {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        let random = SystemRandom::new();
        let failed = |_| SignatureError::new();
        match self {
            Self::P256(key) => Ok(key.sign(&random, message).map_err(failed)?.as_ref().to_vec()),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

impl JwtSigner for RingSigner {
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::P256(_) => Algorithm::ES256,
            Self::Rsa(_) => Algorithm::RS256,
        }
    }
}

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    let signer = match (algorithm, key.family()) {
        (Algorithm::ES256, AlgorithmFamily::Ec) => {
            RingSigner::P256(Box::new(p256(key.as_bytes()).ok_or(ErrorKind::InvalidEcdsaKey)?))
        }
        (Algorithm::RS256, AlgorithmFamily::Rsa) => {
            let key = rsa(key.as_bytes()).ok_or_else(|| ErrorKind::InvalidRsaKey("not an RSA key".into()))?;
            RingSigner::Rsa(Box::new(key))
        }
        _ => return Err(ErrorKind::InvalidAlgorithm.into()),
    };
    Ok(Box::new(signer))
}

/// A P-256 private key from PKCS #8.
pub(super) fn p256(pkcs8: &[u8]) -> Option<EcdsaKeyPair> {
    EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &SystemRandom::new()).ok()
}

/// An RSA private key from PKCS #1 or PKCS #8.
pub(super) fn rsa(der: &[u8]) -> Option<RsaKeyPair> {
    RsaKeyPair::from_der(der).or_else(|_| RsaKeyPair::from_pkcs8(der)).ok()
}

struct RingVerifier {
    algorithm: Algorithm,
    key: UnparsedPublicKey<Vec<u8>>,
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        self.key.verify(message, signature).map_err(|_| SignatureError::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    let (family, method): (_, &'static dyn VerificationAlgorithm) = match algorithm {
        Algorithm::ES256 => (AlgorithmFamily::Ec, &signature::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => (AlgorithmFamily::Ec, &signature::ECDSA_P384_SHA384_FIXED),
        Algorithm::RS256 => (AlgorithmFamily::Rsa, &signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => (AlgorithmFamily::Rsa, &signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => (AlgorithmFamily::Rsa, &signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => (AlgorithmFamily::Rsa, &signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => (AlgorithmFamily::Rsa, &signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => (AlgorithmFamily::Rsa, &signature::RSA_PSS_2048_8192_SHA512),
        _ => return Err(ErrorKind::InvalidAlgorithm.into()),
    };
    if key.family() != family {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    let key = UnparsedPublicKey::new(method, key.try_get_as_bytes()?.to_vec());
    Ok(Box::new(RingVerifier { algorithm: *algorithm, key }))
}
