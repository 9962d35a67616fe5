//! Between etcd's messages and the store's types. Pure.

use std::error::Error as _;

use bytes::Bytes;
use etcd_client::{Error, EventType};

use crate::{Event, KeyValue, Revision, StoreError};

/// Status codes of gRPC.
const UNKNOWN: i32 = 2;
const DEADLINE_EXCEEDED: i32 = 4;
const UNAVAILABLE: i32 = 14;

/// A revision as etcd writes it.
pub(super) fn number(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

/// A revision from what etcd writes.
pub(super) fn revision(number: i64) -> Revision {
    Revision(u64::try_from(number).unwrap_or_default())
}

/// A key with its value.
pub(super) fn key_value(kv: &etcd_client::KeyValue) -> Result<KeyValue, StoreError> {
    let key =
        std::str::from_utf8(kv.key()).map_err(|error| StoreError::backend("read a key of etcd", error))?;
    Ok(KeyValue {
        key: key.to_owned(),
        value: Bytes::copy_from_slice(kv.value()),
        create_revision: revision(kv.create_revision()),
        mod_revision: revision(kv.mod_revision()),
    })
}

/// The events of one message of a watch.
#[derive(Debug, Default)]
pub(super) struct Message {
    /// The events, without those of keys that are not UTF-8: they cannot be ours.
    pub(super) events: Vec<Event>,
    /// The last revision in the message, also of keys that are not UTF-8.
    pub(super) upto: Revision,
}

/// Reads one message of a watch with previous values.
///
/// # Errors
/// `Compacted` when etcd no longer has a previous value, because history was compacted meanwhile.
pub(super) fn message(events: &[etcd_client::Event]) -> Result<Message, StoreError> {
    let mut message = Message::default();
    for raw in events {
        let Some(kv) = raw.kv() else { continue };
        let at = revision(kv.mod_revision());
        message.upto = message.upto.max(at);
        if std::str::from_utf8(kv.key()).is_err() {
            continue;
        }
        let previous = raw.prev_kv().map(key_value).transpose()?;
        let deleted = raw.event_type() == EventType::Delete;
        let created = !deleted && kv.create_revision() == kv.mod_revision();
        if previous.is_none() && !created {
            return Err(StoreError::Compacted { requested: Revision(at.0.saturating_sub(1)), compacted: at });
        }
        let mut current = key_value(kv)?;
        let key = std::mem::take(&mut current.key);
        let current = (!deleted).then(|| KeyValue { key: key.clone(), ..current });
        message.events.push(Event { revision: at, key, current, previous });
    }
    Ok(message)
}

/// Whether what etcd says may pass by itself: a member that is gone, a leader that is being elected.
pub(super) fn passing(error: &Error) -> bool {
    match error {
        Error::GRpcStatus(status) => {
            matches!(status.code() as i32, UNKNOWN | DEADLINE_EXCEEDED | UNAVAILABLE)
        }
        Error::TransportError(_) | Error::IoError(_) => true,
        _ => false,
    }
}

/// Whether the request had no effect, so that another member may do it: there was no connection to send it by, or the
/// member that got it knows no leader.
pub(super) fn not_begun(error: &Error) -> bool {
    let Error::GRpcStatus(status) = error else { return false };
    let mut causes = std::iter::successors(status.source(), |&cause| cause.source());
    let unsent = causes.any(|cause| cause.is::<tonic::ConnectError>());
    let leaderless = status.message() == "etcdserver: no leader";
    status.code() as i32 == UNAVAILABLE && (unsent || leaderless)
}

/// The store's error for what etcd says. etcd tells its errors apart by text only.
pub(super) fn explain(operation: &'static str, error: Error) -> StoreError {
    if let Error::GRpcStatus(status) = &error {
        let text = status.message();
        let nothing = Revision::default();
        if text.contains("required revision has been compacted") {
            return StoreError::Compacted { requested: nothing, compacted: nothing };
        }
        if text.contains("required revision is a future revision") {
            return StoreError::Future { requested: nothing, current: nothing };
        }
        if text.contains("database space exceeded") {
            return StoreError::NoSpace(error.into());
        }
    }
    StoreError::backend(operation, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: tonic::Status) -> Error {
        Error::GRpcStatus(status)
    }

    #[test]
    fn request_had_no_effect_without_a_connection_or_a_leader_and_else_it_may_have() {
        let refused = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let unsent = tonic::Status::from_error(Box::new(tonic::ConnectError(Box::new(refused()))));
        assert!(not_begun(&told(unsent)));
        assert!(not_begun(&told(tonic::Status::unavailable("etcdserver: no leader"))));
        let cut = tonic::Status::from_error(Box::new(std::io::Error::from(std::io::ErrorKind::TimedOut)));
        assert!(!not_begun(&told(cut)));
        assert!(!not_begun(&told(tonic::Status::unavailable("etcdserver: request timed out"))));
        assert!(!not_begun(&Error::IoError(refused())));
    }
}
