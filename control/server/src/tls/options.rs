//! Which versions and ciphers of TLS are spoken, under the names that upstream's flags have for them.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::{CipherSuite, ProtocolVersion, SupportedCipherSuite, SupportedProtocolVersion};

/// What is spoken. The default is TLS 1.2 and 1.3 with all ciphers that are good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Whether TLS 1.2 is refused.
    pub only_newest: bool,
    /// The ciphers of TLS 1.2; all where none is named. Those of TLS 1.3 are not to be chosen among.
    pub ciphers: Vec<String>,
}

/// Reads `VersionTLS12` or `VersionTLS13`.
///
/// # Errors
///
/// For other words, and for versions that are not safe any more.
pub fn only_newest(version: &str) -> Result<bool, String> {
    match version {
        "VersionTLS12" => Ok(false),
        "VersionTLS13" => Ok(true),
        "VersionTLS10" | "VersionTLS11" => {
            Err(format!("{version} is not safe and not spoken, the least is VersionTLS12"))
        }
        other => Err(format!("unknown tls version {other:?}")),
    }
}

/// Reads the name of a cipher.
///
/// # Errors
///
/// When there is no such cipher here.
pub fn cipher(name: &str) -> Result<String, String> {
    let known = ring::ALL_CIPHER_SUITES.iter().any(|suite| is_named(suite, name));
    if known {
        Ok(name.to_owned())
    } else {
        Err(format!("Cipher suite {name} not supported or doesn't exist"))
    }
}

/// Whether a suite has this name. Two have an older name, too.
fn is_named(suite: &SupportedCipherSuite, name: &str) -> bool {
    let full = format!("{:?}", suite.suite()).replace("TLS13_", "TLS_");
    full == name || full.strip_suffix("_SHA256").is_some_and(|old| old.ends_with("POLY1305") && old == name)
}

/// Which of the ciphers that a client offers is taken: the server's order counts. AES with keys of 128 bits is as good as
/// any for as long as the sessions here last, and costs a tenth less than with 256.
fn rank(suite: &SupportedCipherSuite) -> u8 {
    match suite.suite() {
        CipherSuite::TLS13_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 0,
        _ => 1,
    }
}

impl TlsOptions {
    /// The ciphers in order of preference.
    pub(super) fn provider(&self) -> Arc<CryptoProvider> {
        let mut provider = ring::default_provider();
        provider.cipher_suites.sort_by_key(rank);
        if !self.ciphers.is_empty() {
            provider.cipher_suites.retain(|suite| {
                suite.version().version == ProtocolVersion::TLSv1_3
                    || self.ciphers.iter().any(|name| is_named(suite, name))
            });
        }
        Arc::new(provider)
    }

    pub(super) fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        static NEWEST: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
        if self.only_newest { &NEWEST } else { rustls::DEFAULT_VERSIONS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_upstream_are_understood() {
        for name in [
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            "TLS_AES_128_GCM_SHA256",
        ] {
            assert_eq!(cipher(name).as_deref(), Ok(name));
        }
        for bad in ["TLS_RSA_WITH_3DES_EDE_CBC_SHA", "x", ""] {
            assert!(cipher(bad).is_err(), "{bad}");
        }
        assert_eq!((only_newest("VersionTLS12"), only_newest("VersionTLS13")), (Ok(false), Ok(true)));
        assert!(only_newest("VersionTLS10").is_err() && only_newest("1.2").is_err());
    }

    #[test]
    fn chosen_ciphers_are_the_only_ones_besides_those_of_the_newest_version() {
        let one = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
        let options = TlsOptions { ciphers: vec![one.into()], ..TlsOptions::default() };
        let provider = options.provider();
        let (newest, older): (Vec<_>, Vec<_>) = provider
            .cipher_suites
            .iter()
            .partition(|suite| suite.version().version == ProtocolVersion::TLSv1_3);
        assert_eq!((newest.len(), older.len()), (3, 1));
        assert!(is_named(older[0], one));
    }
}
