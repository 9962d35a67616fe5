//! Bodies that hold what belongs to their request until they end: its record, its seats, and its deadline.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::audit::Record;
use crate::body::{self, Body, BoxError};
use crate::fairness::Permit;

/// What a body holds.
pub(crate) struct Held {
    pub(crate) record: Record,
    pub(crate) permit: Option<Permit>,
    /// When the body has to be over: a client that reads too slowly does not keep seats for ever.
    pub(crate) deadline: Option<Instant>,
}

impl Held {
    /// The body, which holds this until its end.
    pub(crate) fn with(self, body: Body) -> Body {
        let Self { record, permit, deadline } = self;
        let deadline = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline)));
        body::boxed(Holding { body, held: Some((record, permit)), deadline })
    }
}

struct Holding {
    body: Body,
    held: Option<(Record, Option<Permit>)>,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl http_body::Body for Holding {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            self.held = None;
            return Poll::Ready(Some(Err("the request took longer than it may".into())));
        }
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.held = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
