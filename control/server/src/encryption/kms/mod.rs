//! Key management services: programs beside the server that hold the keys of keys (KMS plugins, version 2).
//!
//! A service goes through: unknown -> healthy (asked every 20 s, writes go) -> failing (asked every 3 s, writes go on with
//! the last seed for three minutes, then are refused) -> healthy. Whatever it says, values whose seed was opened before
//! can be read. When it names another key, a new seed is made; values under the old key are stale and written again with
//! the next update.

mod envelope;
mod proto;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use parking_lot::{Mutex, RwLock};
use prost::Message;
use tokio::net::UnixStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use self::envelope::{DataKey, SEED};
use self::proto::key_management_service_client::KeyManagementServiceClient;
use self::proto::{
    DecryptRequest, EncryptRequest, EncryptedDekSourceType, EncryptedObject, StatusRequest, StatusResponse,
};
use super::ciphers;
use super::config::KmsConfig;
use super::error::TransformError;
use super::metrics::EncryptionMetrics;
use crate::metrics::hash;

const SEED_KIND: EncryptedDekSourceType = EncryptedDekSourceType::HkdfSha256XnonceAesGcmSeed;
/// How often a healthy service is asked.
const SETTLED: Duration = Duration::from_secs(20);
/// How often one that fails is.
const FAILING: Duration = Duration::from_secs(3);
/// So long after the service was healthy last, values are still written.
const WRITABLE: Duration = Duration::from_secs(180);
/// So many opened seeds are kept. There are as many as keys times servers times their restarts.
const MOST_SEEDS: usize = 4096;

type Opened = HashMap<Vec<u8>, Arc<DataKey>>;

/// What values are written with.
struct Writing {
    key: Arc<DataKey>,
    /// All of the envelope but the value.
    envelope: EncryptedObject,
    until: Instant,
}

/// One service.
pub(super) struct Kms {
    config: KmsConfig,
    client: KeyManagementServiceClient<Channel>,
    writing: RwLock<Option<Arc<Writing>>>,
    opened: Mutex<Opened>,
    health: RwLock<Result<(), String>>,
    version: Mutex<String>,
    metrics: EncryptionMetrics,
}

impl Kms {
    /// A service; it is asked once before this returns, and from then on until `stop`. One that does not answer is no
    /// error: it may start after the server.
    pub(super) async fn start(
        config: KmsConfig,
        metrics: EncryptionMetrics,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let path = PathBuf::from(&config.socket);
        // The address is not used: the connector knows the socket.
        let channel = Endpoint::from_static("http://kms")
            .timeout(config.timeout)
            .connect_with_connector_lazy(tower::service_fn(move |_| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            }));
        let kms = Arc::new(Self {
            config,
            client: KeyManagementServiceClient::new(channel),
            writing: RwLock::new(None),
            opened: Mutex::default(),
            health: RwLock::new(Err("the service was not asked yet".into())),
            version: Mutex::default(),
            metrics,
        });
        kms.check().await;
        let asking = kms.clone();
        tokio::spawn(async move {
            loop {
                let pause = if asking.health().is_ok() { SETTLED } else { FAILING };
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => asking.check().await,
                }
            }
        });
        kms
    }

    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    /// What the service said last.
    pub(super) fn health(&self) -> Result<(), String> {
        self.health.read().clone()
    }

    async fn check(&self) {
        let found = match self.call("Status", self.client.clone().status(StatusRequest {})).await {
            Ok(status) => self.take(status).await,
            Err(why) => Err(format!(
                "failed to perform status section of the healthz check for KMS Provider {}, error: {why}",
                self.name()
            )),
        };
        if let Err(why) = &found
            && *self.health.read() != found
        {
            tracing::error!(service = self.name(), why, "a key management service is not healthy");
        }
        *self.health.write() = found;
    }

    /// Takes in what the service says of itself.
    async fn take(&self, status: StatusResponse) -> Result<(), String> {
        let mut faults = Vec::new();
        if status.healthz != "ok" {
            faults.push(format!("got unexpected healthz status: {}", status.healthz));
        }
        faults.extend(self.check_version(status.version));
        match envelope::check_key_id(&status.key_id) {
            Err((word, why)) => {
                self.metrics.invalid_key_id(self.name(), word);
                faults.push(format!("got invalid KMSv2 KeyID hash {:?}: {why}", hash(&status.key_id)));
            }
            Ok(()) => {
                self.metrics.key_id_told(self.name(), &status.key_id);
                faults.extend(self.rotate(&status.key_id).await.err());
            }
        }
        match faults.is_empty() {
            true => Ok(()),
            false => {
                Err(format!("kmsv2 Provider {} is not healthy, error: {}", self.name(), faults.join(", ")))
            }
        }
    }

    fn check_version(&self, version: String) -> Option<String> {
        if !matches!(version.as_str(), "v2" | "v2beta1") {
            return Some(format!("expected KMSv2 API version v2, got {version}"));
        }
        let mut first = self.version.lock();
        if first.is_empty() {
            *first = version;
            return None;
        }
        (*first != version).then(|| {
            format!(
                "KMSv2 API version should not change after the initial status response version {first}, got {version}"
            )
        })
    }

    /// Goes on with the seed that there is, or makes another when the service has another key.
    async fn rotate(&self, key_id: &str) -> Result<(), String> {
        let until = Instant::now() + WRITABLE;
        let former = self.writing.read().clone();
        if let Some(former) = former.filter(|former| former.envelope.key_id == key_id) {
            let (key, envelope) = (former.key.clone(), former.envelope.clone());
            *self.writing.write() = Some(Arc::new(Writing { key, envelope, until }));
            return Ok(());
        }
        let (mut seed, started) = (vec![0; SEED], Instant::now());
        let made = ciphers::random(&mut seed);
        self.metrics.made_seed(made.is_ok(), started.elapsed());
        made.map_err(|error| error.to_string())?;
        let key = DataKey::new(SEED_KIND, &seed).map_err(|error| error.to_string())?;
        let request = EncryptRequest { plaintext: seed, uid: uuid::Uuid::new_v4().to_string() };
        let sealed = self.call("Encrypt", self.client.clone().encrypt(request)).await;
        let sealed = sealed.map_err(|why| format!("failed to encrypt DEK, error: {why}"))?;
        envelope::check(&sealed.key_id, &sealed.ciphertext, &sealed.annotations)
            .map_err(|error| error.to_string())?;
        if sealed.key_id != key_id {
            return Err(format!(
                "failed to rotate DEK: statusKeyIDHash={:?}, encryptKeyIDHash={:?}",
                hash(key_id),
                hash(&sealed.key_id)
            ));
        }
        let envelope = EncryptedObject {
            encrypted_data: Vec::new(),
            key_id: sealed.key_id,
            encrypted_dek_source: sealed.ciphertext,
            annotations: sealed.annotations,
            encrypted_dek_source_type: SEED_KIND.into(),
        };
        let key = Arc::new(key);
        self.remember(&envelope, key.clone());
        *self.writing.write() = Some(Arc::new(Writing { key, envelope, until }));
        tracing::info!(service = self.name(), key = hash(key_id), "values are written with a new seed");
        Ok(())
    }

    fn remember(&self, envelope: &EncryptedObject, key: Arc<DataKey>) {
        let mut opened = self.opened.lock();
        if opened.len() >= MOST_SEEDS {
            // Whatever is still needed is opened again.
            opened.clear();
        }
        opened.insert(source(envelope), key);
        self.metrics.seeds(self.name(), opened.len());
    }

    pub(super) async fn open(&self, stored: &[u8], place: &[u8]) -> Result<(Vec<u8>, bool), TransformError> {
        let mut object = envelope::decode(stored)?;
        let data = std::mem::take(&mut object.encrypted_data);
        let known = self.opened.lock().get(&source(&object)).cloned();
        let key = match known {
            Some(key) => key,
            None => {
                self.metrics.missed();
                self.fetch(&object).await?
            }
        };
        let plain = key.open(&data, place)?;
        self.metrics.key_id("from_storage", self.name(), &object.key_id);
        let stale = self.writing.read().as_ref().is_none_or(|writing| {
            writing.envelope.key_id != object.key_id
                || writing.envelope.encrypted_dek_source_type != object.encrypted_dek_source_type
        });
        Ok((plain, stale))
    }

    /// Has the service open a seed.
    async fn fetch(&self, object: &EncryptedObject) -> Result<Arc<DataKey>, TransformError> {
        let request = DecryptRequest {
            ciphertext: object.encrypted_dek_source.clone(),
            uid: uuid::Uuid::new_v4().to_string(),
            key_id: object.key_id.clone(),
            annotations: object.annotations.clone(),
        };
        let opened = self.call("Decrypt", self.client.clone().decrypt(request)).await;
        let opened = opened.map_err(|failed| TransformError::Service {
            code: failed.code,
            why: format!("failed to decrypt DEK, error: {failed}"),
        })?;
        let key = Arc::new(DataKey::new(envelope::source_type(object)?, &opened.plaintext)?);
        self.remember(object, key.clone());
        Ok(key)
    }

    pub(super) fn seal(&self, plain: &[u8], place: &[u8]) -> Result<Vec<u8>, TransformError> {
        let writing = self.writing.read().clone();
        let Some(writing) = writing else {
            let why = self.health().err().unwrap_or_default();
            return Err(TransformError::Kms(why));
        };
        if Instant::now() > writing.until {
            return Err(TransformError::Kms(format!(
                "encryptedDEKSource with keyID hash {:?} expired {} s ago",
                hash(&writing.envelope.key_id),
                writing.until.elapsed().as_secs()
            )));
        }
        let encrypted_data = writing.key.seal(plain, place)?;
        self.metrics.key_id("to_storage", self.name(), &writing.envelope.key_id);
        Ok(EncryptedObject { encrypted_data, ..writing.envelope.clone() }.encode_to_vec())
    }

    /// One call, timed and bounded.
    async fn call<T>(
        &self,
        method: &'static str,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, Failed> {
        let started = Instant::now();
        let answer = tokio::time::timeout(self.config.timeout, call).await;
        let answer =
            answer.unwrap_or_else(|_| Err(tonic::Status::deadline_exceeded("the service did not answer")));
        let code = answer.as_ref().err().map_or(tonic::Code::Ok, tonic::Status::code);
        self.metrics.operation(self.name(), method, code, started.elapsed());
        answer.map(tonic::Response::into_inner).map_err(|status| Failed {
            code: status.code(),
            why: format!("rpc error: code = {:?} desc = {}", status.code(), status.message()),
        })
    }
}

/// A call that failed.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
struct Failed {
    code: tonic::Code,
    why: String,
}

/// What tells sealed seeds apart.
fn source(object: &EncryptedObject) -> Vec<u8> {
    let annotations: BTreeMap<_, _> = object.annotations.clone();
    EncryptedObject {
        encrypted_data: Vec::new(),
        key_id: object.key_id.clone(),
        encrypted_dek_source: object.encrypted_dek_source.clone(),
        annotations,
        encrypted_dek_source_type: object.encrypted_dek_source_type,
    }
    .encode_to_vec()
}
