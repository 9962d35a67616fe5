//! The providers of one resource: the first one writes, all of them are tried for reading, told apart by the prefixes that
//! values carry (`k8s:enc:aesgcm:v1:NAME:`).

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::ciphers::{self, Cipher};
use super::config::{self, GroupResource, Rule};
use super::error::TransformError;
use super::kms::Kms;
use super::metrics::EncryptionMetrics;
use tokio_util::sync::CancellationToken;

/// What every encrypted value begins with.
const ENCRYPTED: &[u8] = b"k8s:enc:";

/// Makes the cipher of a key, if it has the right length.
type MakeCipher = fn(&[u8]) -> Option<Box<dyn Cipher>>;

/// One provider.
enum Provider {
    Keys { prefix: &'static str, what: &'static str, keys: Vec<(String, Box<dyn Cipher>)> },
    Kms { prefix: String, kms: Arc<Kms> },
    Identity,
}

impl Provider {
    fn keys(prefix: &'static str, what: &'static str, keys: Vec<config::Key>, make: MakeCipher) -> Self {
        // Lengths were checked when the configuration was read.
        let keys = keys.into_iter().filter_map(|key| Some((format!("{}:", key.name), make(&key.secret)?)));
        Self::Keys { prefix, what, keys: keys.collect() }
    }

    async fn new(provider: config::Provider, metrics: &EncryptionMetrics, stop: &CancellationToken) -> Self {
        match provider {
            config::Provider::Aesgcm(keys) => Self::keys("k8s:enc:aesgcm:v1:", "AES", keys, ciphers::gcm),
            config::Provider::Aescbc(keys) => Self::keys("k8s:enc:aescbc:v1:", "AES", keys, ciphers::cbc),
            config::Provider::Secretbox(keys) => {
                Self::keys("k8s:enc:secretbox:v1:", "secretbox", keys, ciphers::secretbox)
            }
            config::Provider::Kms(config) => {
                let prefix = format!("k8s:enc:kms:v2:{}:", config.name);
                Self::Kms { prefix, kms: Kms::start(config, metrics.clone(), stop.clone()).await }
            }
            config::Provider::Identity => Self::Identity,
        }
    }

    fn prefix(&self) -> &str {
        match self {
            Self::Keys { prefix, .. } => prefix,
            Self::Kms { prefix, .. } => prefix,
            Self::Identity => "",
        }
    }

    /// The name in metrics.
    fn label(&self) -> &str {
        if self.prefix().is_empty() { "identity" } else { self.prefix() }
    }

    fn seal(&self, plain: &Bytes, place: &str) -> Result<Bytes, TransformError> {
        let (name, sealed) = match self {
            Self::Identity => return Ok(plain.clone()),
            Self::Kms { kms, .. } => ("", kms.seal(plain, place.as_bytes())?),
            Self::Keys { keys, what, .. } => {
                let (name, cipher) = keys.first().ok_or(TransformError::NoKey(what))?;
                (name.as_str(), cipher.seal(plain, place.as_bytes())?)
            }
        };
        Ok([self.prefix().as_bytes(), name.as_bytes(), &sealed].concat().into())
    }

    /// The value behind this provider's prefix, and whether this provider would write it differently now.
    async fn open(&self, stored: &[u8], place: &str) -> Result<(Bytes, bool), TransformError> {
        match self {
            Self::Identity if stored.starts_with(ENCRYPTED) => Err(TransformError::Encrypted),
            Self::Identity => Ok((Bytes::copy_from_slice(stored), false)),
            Self::Kms { kms, .. } => {
                let (plain, stale) = kms.open(stored, place.as_bytes()).await?;
                Ok((plain.into(), stale))
            }
            Self::Keys { keys, what, .. } => {
                let mut failure = TransformError::NoKey(what);
                for (at, (name, cipher)) in keys.iter().enumerate() {
                    let Some(rest) = stored.strip_prefix(name.as_bytes()) else { continue };
                    match cipher.open(rest, place.as_bytes()) {
                        Ok(plain) => return Ok((plain.into(), at > 0)),
                        Err(error) => failure = error,
                    }
                }
                Err(failure)
            }
        }
    }
}

/// The providers of all resources.
pub(super) struct Providers {
    rules: Vec<(GroupResource, Vec<Arc<Provider>>)>,
    plain: Vec<Arc<Provider>>,
    services: Vec<Arc<Kms>>,
    metrics: EncryptionMetrics,
    /// Ends the tasks of the services.
    _stop: tokio_util::sync::DropGuard,
}

impl Providers {
    /// The providers of a configuration. Key management services are asked once.
    pub(super) async fn new(rules: Vec<Rule>, metrics: EncryptionMetrics) -> Self {
        let stop = CancellationToken::new();
        let mut found: Vec<(GroupResource, Vec<Arc<Provider>>)> = Vec::new();
        let mut services = Vec::new();
        for Rule { resources, providers } in rules {
            let mut made = Vec::new();
            for provider in providers {
                let provider = Arc::new(Provider::new(provider, &metrics, &stop).await);
                if let Provider::Kms { kms, .. } = &*provider {
                    services.push(kms.clone());
                }
                made.push(provider);
            }
            for resource in resources {
                match found.iter_mut().find(|(one, _)| *one == resource) {
                    Some((_, all)) => all.extend(made.iter().cloned()),
                    None => found.push((resource, made.clone())),
                }
            }
        }
        // The narrowest first; the sort keeps the order of equals.
        found.sort_by_key(|(resource, _)| std::cmp::Reverse(resource.rank()));
        let plain = vec![Arc::new(Provider::Identity)];
        Self { rules: found, plain, services, metrics, _stop: stop.drop_guard() }
    }

    fn of(&self, group: &str, resource: &str) -> &[Arc<Provider>] {
        let rule = self.rules.iter().find(|(rule, _)| rule.covers(group, resource));
        rule.map_or(&self.plain, |(_, providers)| providers)
    }

    /// The key management services by the names of their health checks, and whether each is healthy.
    pub(super) fn checks(&self) -> impl Iterator<Item = (String, bool)> {
        let services = self.services.iter().enumerate();
        services.map(|(at, service)| (format!("kms-provider-{at}"), service.health().is_ok()))
    }

    /// What is wrong with the key management services.
    pub(super) fn health(&self) -> Result<(), String> {
        let faults = self.services.iter().enumerate().filter_map(|(at, service)| {
            service.health().err().map(|why| format!("kms-provider-{at}: {why}"))
        });
        let faults: Vec<String> = faults.collect();
        if faults.is_empty() { Ok(()) } else { Err(faults.join(", ")) }
    }

    /// The value as it is to be stored at `place`.
    pub(super) fn seal(
        &self,
        (group, resource): (&str, &str),
        place: &str,
        plain: &Bytes,
    ) -> Result<Bytes, TransformError> {
        let first = &self.of(group, resource)[0];
        let started = Instant::now();
        let sealed = first.seal(plain, place);
        let name = qualified(group, resource);
        self.metrics.transformed(
            &name,
            "to_storage",
            first.label(),
            sealed.as_ref().err(),
            started.elapsed(),
        );
        sealed
    }

    /// The value that is stored at `place`, and whether it would be written differently now.
    pub(super) async fn open(
        &self,
        (group, resource): (&str, &str),
        place: &str,
        stored: &Bytes,
    ) -> Result<(Bytes, bool), TransformError> {
        let providers = self.of(group, resource);
        if let [one] = providers
            && matches!(**one, Provider::Identity)
        {
            // Most resources: nothing is copied, nothing is measured.
            let encrypted = stored.starts_with(ENCRYPTED);
            return if encrypted { Err(TransformError::Encrypted) } else { Ok((stored.clone(), false)) };
        }
        let started = Instant::now();
        let mut failures: Vec<TransformError> = Vec::new();
        for (at, provider) in providers.iter().enumerate() {
            let Some(rest) = stored.strip_prefix(provider.prefix().as_bytes()) else { continue };
            let opened = provider.open(rest, place).await;
            let is_identity = matches!(**provider, Provider::Identity);
            // Plain text is looked for among encrypted values, too: not finding it is no failure.
            if is_identity && opened.is_err() {
                continue;
            }
            let name = qualified(group, resource);
            self.metrics.transformed(
                &name,
                "from_storage",
                provider.label(),
                opened.as_ref().err(),
                started.elapsed(),
            );
            match opened {
                Ok((plain, stale)) => return Ok((plain, stale || at > 0)),
                Err(error) => failures.push(error),
            }
        }
        match failures.pop() {
            Some(error) => Err(error),
            None => {
                let name = qualified(group, resource);
                let failure = TransformError::NoPrefix;
                let took = started.elapsed();
                self.metrics.transformed(&name, "from_storage", "unknown", Some(&failure), took);
                Err(failure)
            }
        }
    }
}

fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}
