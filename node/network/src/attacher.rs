//! Adds, deletes and checks pods' attachments; one at a time, each safe to repeat and to cut off.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rtnetlink::Handle;
use tokio::sync::Mutex;

use crate::error::NetworkError;
use crate::links::{self, PodLink};
use crate::pool::Pool;
use crate::range::Range;
use crate::records::{Record, Records};
use crate::{Datapath, host_links};

/// Which sandbox an operation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    container_id: String,
    namespace: PathBuf,
    interface: String,
}

impl Request {
    /// Validates what the plugin sent.
    ///
    /// # Errors
    /// The id is empty or could leave the folder of records, or the interface name is no such name.
    pub fn new(container_id: String, namespace: String, interface: String) -> Result<Self, NetworkError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if container_id.is_empty() || container_id.len() > 128 || !container_id.chars().all(plain) {
            return Err(bad("container_id", format!("`{container_id}` is not a sandbox id")));
        }
        if interface.is_empty() || interface.len() > 15 || interface.contains(['/', ' ']) {
            return Err(bad("interface", format!("`{interface}` is not an interface name")));
        }
        Ok(Self { container_id, namespace: namespace.into(), interface })
    }
}

fn bad(field: &'static str, problem: String) -> NetworkError {
    NetworkError::BadRequest { field, problem }
}

/// The attachments of this node.
pub struct Attacher {
    records: Records,
    handle: Handle,
    datapath: Arc<dyn Datapath>,
    uplink: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Unknown until the node has its ranges.
    pool: Option<Pool>,
    /// By sandbox id.
    records: BTreeMap<String, Record>,
}

impl Attacher {
    /// Reads the records, tells the datapath of every link that is still there, and removes links without a record.
    pub async fn open(
        folder: &Path,
        uplink: &str,
        datapath: Arc<dyn Datapath>,
    ) -> Result<Self, NetworkError> {
        let records = Records::open(folder)?;
        let handle = links::connect()?;
        let known = records.all()?;
        for record in &known {
            let path = Path::new(&record.namespace);
            match links::read(&handle, path, &record.interface, &record.host_interface, &record.addresses)
                .await
            {
                Ok(link) => attach(&*datapath, &link).await?,
                Err(error) => {
                    tracing::warn!(sandbox = record.container_id, %error, "the link of a sandbox is gone")
                }
            }
        }
        for link in host_links(&handle).await? {
            if !known.iter().any(|record| record.host_interface == link) {
                tracing::info!(link, "removing a link that belongs to no sandbox");
                links::remove(&handle, &link).await?;
            }
        }
        let records_by_id = known.into_iter().map(|record| (record.container_id.clone(), record)).collect();
        let state = Mutex::new(State { pool: None, records: records_by_id });
        Ok(Self { records, handle, datapath, uplink: uplink.to_owned(), state })
    }

    /// Sets the ranges that pods get their addresses from. The same ranges again change nothing.
    pub async fn set_ranges(&self, ranges: &[Range]) {
        let mut state = self.state.lock().await;
        if state.pool.as_ref().is_none_or(|pool| pool.ranges() != ranges) {
            let taken = state.records.values().flat_map(|record| record.addresses.iter().copied());
            let pool = Pool::new(ranges, taken);
            state.pool = Some(pool);
        }
    }

    /// Gives a sandbox its link, or says what it has.
    pub async fn add(&self, request: &Request) -> Result<PodLink, NetworkError> {
        let mut state = self.state.lock().await;
        if let Some(record) = state.records.get(&request.container_id).cloned() {
            let path = Path::new(&record.namespace);
            let found =
                links::read(&self.handle, path, &record.interface, &record.host_interface, &record.addresses);
            if let Ok(link) = found.await {
                attach(&*self.datapath, &link).await?;
                return Ok(link);
            }
            self.forget(&mut state, &record).await?;
        }
        let addresses = state.pool.as_mut().ok_or(NetworkError::NoRange)?.allocate()?;
        let record = Record {
            container_id: request.container_id.clone(),
            namespace: request.namespace.to_string_lossy().into_owned(),
            interface: request.interface.clone(),
            host_interface: links::host_interface(&request.container_id),
            addresses,
        };
        let result = self.make(&record).await;
        match result {
            Ok(link) => {
                state.records.insert(record.container_id.clone(), record);
                Ok(link)
            }
            Err(error) => {
                if let Err(also) = self.forget(&mut state, &record).await {
                    tracing::warn!(error = %also, "an attachment that failed was not undone");
                    state.records.insert(record.container_id.clone(), record);
                }
                Err(error)
            }
        }
    }

    /// Takes a sandbox's link away; succeeds when there is none.
    pub async fn delete(&self, request: &Request) -> Result<(), NetworkError> {
        let mut state = self.state.lock().await;
        match state.records.get(&request.container_id).cloned() {
            Some(record) => self.forget(&mut state, &record).await,
            None => Ok(()),
        }
    }

    /// Fails unless the link is as it was made.
    pub async fn check(&self, request: &Request) -> Result<(), NetworkError> {
        let state = self.state.lock().await;
        let record = state
            .records
            .get(&request.container_id)
            .ok_or_else(|| bad("container_id", format!("{} has no interface", request.container_id)))?;
        let path = Path::new(&record.namespace);
        links::read(&self.handle, path, &record.interface, &record.host_interface, &record.addresses).await?;
        Ok(())
    }

    async fn make(&self, record: &Record) -> Result<PodLink, NetworkError> {
        self.records.write(record)?;
        let mtu = links::find(&self.handle, &self.uplink).await?.mtu;
        let (path, host) = (Path::new(&record.namespace), &record.host_interface);
        let link = links::create(&self.handle, path, &record.interface, host, &record.addresses, mtu).await?;
        attach(&*self.datapath, &link).await?;
        Ok(link)
    }

    async fn forget(&self, state: &mut State, record: &Record) -> Result<(), NetworkError> {
        self.datapath
            .detach(&record.addresses)
            .await
            .map_err(|source| NetworkError::Datapath { link: record.host_interface.clone(), source })?;
        links::remove(&self.handle, &record.host_interface).await?;
        self.records.remove(&record.container_id)?;
        if let Some(pool) = &mut state.pool {
            pool.release(&record.addresses);
        }
        state.records.remove(&record.container_id);
        Ok(())
    }
}

async fn attach(datapath: &dyn Datapath, link: &PodLink) -> Result<(), NetworkError> {
    datapath
        .attach(link)
        .await
        .map_err(|source| NetworkError::Datapath { link: link.host_interface.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_request_with_a_path_as_id_is_refused() {
        for id in ["", "../a", "a/b", "a b"] {
            assert!(Request::new(id.into(), "/run/netns/a".into(), "eth0".into()).is_err(), "{id}");
        }
        assert!(Request::new("a1".into(), String::new(), "eth0/..".into()).is_err());
        assert!(Request::new("a1".into(), "/run/netns/a".into(), "eth0".into()).is_ok());
    }
}
