//! Why a value cannot be encrypted or decrypted. What clients and logs are told; never anything of keys or values.

/// A value that cannot be turned into what is stored, or back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TransformError {
    /// None of the providers configured made this value.
    #[error("no matching prefix found")]
    NoPrefix,
    /// The provider has no key of the name that the value carries.
    #[error("no matching key was found for the provided {0} transformer")]
    NoKey(&'static str),
    /// The value is encrypted, and the resource is configured to be in plain text.
    #[error("identity transformer tried to read encrypted data")]
    Encrypted,
    /// Bytes are missing.
    #[error("the stored data was shorter than the required size")]
    TooShort,
    /// Another key made the value, for another place, or it was changed.
    #[error("the stored data cannot be decrypted with this key: message authentication failed")]
    NotAuthentic,
    /// The cipher refused, which happens to values of many gigabytes only.
    #[error("the value cannot be encrypted")]
    NotSealed,
    /// The system gives no random bytes.
    #[error("unable to read sufficient random bytes")]
    NoRandomness,
    /// A call of the key management service failed.
    #[error("{why}")]
    Service {
        /// As the call ended.
        code: tonic::Code,
        /// What was to be done, and the service's words.
        why: String,
    },
    /// The key management service is not available or refuses.
    #[error("{0}")]
    Kms(String),
}
