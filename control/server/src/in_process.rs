//! The server for clients in the same process: no socket, no TLS, the same way through the gate.
//!
//! A client carries an identity that only this process can give it, and may do what that identity may.

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{HeaderValue, USER_AGENT};
use http::{Request, Response};
use tower::Service;

use crate::body::{Body, BoxError};
use crate::server::ApiServer;
use crate::service::ApiService;
use crate::user::UserInfo;

/// A service whose requests all come from one user.
#[derive(Clone, Debug)]
pub struct InProcess {
    service: ApiService,
    user: UserInfo,
    /// What requests call themselves that do not say: the field manager of what they write.
    agent: HeaderValue,
}

/// The server, as `user`: what a `kube::Client` is made of.
pub fn service(server: &ApiServer, user: UserInfo) -> InProcess {
    InProcess { service: server.service(), user, agent: HeaderValue::from_static("skep-control") }
}

impl InProcess {
    /// The same under the name of a program.
    #[must_use]
    pub fn named(self, agent: &'static str) -> Self {
        Self { agent: HeaderValue::from_static(agent), ..self }
    }
}

impl<B> Service<Request<B>> for InProcess
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = <ApiService as Service<Request<B>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<B>>::poll_ready(&mut self.service, context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        request.extensions_mut().insert(self.user.clone());
        request.headers_mut().entry(USER_AGENT).or_insert_with(|| self.agent.clone());
        self.service.call(request)
    }
}
