//! The way of before priority and fairness (`--enable-priority-and-fairness=false`): so many requests at the same time that
//! read, so many that write, and whoever is one too many is sent away at once. Only `system:masters` never are.

use std::sync::Arc;

use skep_api::status::Status;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::pki::MASTERS;
use crate::request::RequestInfo;
use crate::user::UserInfo;

/// After so many seconds a client may try again.
const RETRY_AFTER: u32 = 1;

/// The limits; none of a kind where it is 0.
#[derive(Clone, Debug)]
pub(super) struct InFlight {
    reading: Option<Arc<Semaphore>>,
    writing: Option<Arc<Semaphore>>,
}

impl InFlight {
    pub(super) fn new(reading: u32, writing: u32) -> Self {
        let places = |limit: u32| (limit > 0).then(|| Arc::new(Semaphore::new(limit as usize)));
        Self { reading: places(reading), writing: places(writing) }
    }

    /// A place for a request, if it needs one. What lasts does not, and neither do watches.
    ///
    /// # Errors
    ///
    /// 429 when all are taken.
    pub(super) fn enter(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
    ) -> Result<Option<OwnedSemaphorePermit>, Status> {
        if info.is_long_running() {
            return Ok(None);
        }
        let reads = matches!(info.verb.as_str(), "get" | "list" | "watch");
        let Some(places) = (if reads { &self.reading } else { &self.writing }) else { return Ok(None) };
        match Arc::clone(places).try_acquire_owned() {
            Ok(place) => Ok(Some(place)),
            Err(_) if user.groups.iter().any(|group| group == MASTERS) => Ok(None),
            Err(_) => {
                Err(Status::too_many_requests("Too many requests, please try again later.", RETRY_AFTER))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::query::Query;

    fn request(method: Method, line: &str) -> RequestInfo {
        let (path, query) = line.split_once('?').unwrap_or((line, ""));
        RequestInfo::parse(&method, path, &Query::parse(query))
    }

    #[test]
    fn one_too_many_is_sent_away_until_another_has_left() {
        let limits = InFlight::new(1, 2);
        let (ann, read) = (UserInfo::new("ann", &[]), request(Method::GET, "/api/v1/pods"));
        let first = limits.enter(&ann, &read).unwrap();
        assert!(first.is_some());
        let refused = limits.enter(&ann, &read).unwrap_err();
        assert_eq!((refused.code, refused.retry_after), (429, Some(1)));
        let write = request(Method::DELETE, "/api/v1/namespaces/a/pods/b");
        assert!(limits.enter(&ann, &write).unwrap().is_some(), "writers have places of their own");
        drop(first);
        assert!(limits.enter(&ann, &read).unwrap().is_some());
    }

    #[test]
    fn masters_and_what_lasts_are_never_sent_away() {
        let limits = InFlight::new(1, 1);
        let (ann, read) = (UserInfo::new("ann", &[]), request(Method::GET, "/api/v1/pods"));
        let _taken = limits.enter(&ann, &read).unwrap();
        let admin = UserInfo::new("admin", &[MASTERS]);
        assert!(limits.enter(&admin, &read).unwrap().is_none());
        assert!(limits.enter(&ann, &request(Method::GET, "/api/v1/pods?watch=1")).unwrap().is_none());
    }

    #[test]
    fn limit_of_zero_is_none() {
        let limits = InFlight::new(0, 1);
        let (ann, read) = (UserInfo::new("ann", &[]), request(Method::GET, "/api/v1/pods"));
        assert!((0..3).all(|_| limits.enter(&ann, &read).is_ok()));
    }
}
