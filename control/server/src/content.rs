//! Reading the body of a request, within limits.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use skep_api::status::Status;

use crate::body::Body;

/// The largest body that is read, in bytes, as upstream has it.
pub const BODY_LIMIT: usize = 3 * 1024 * 1024;

/// So much more of a body that is too large is taken off the connection: a client that is cut off while it sends does not
/// read why.
const SWALLOWED: usize = 4 * BODY_LIMIT;
/// And so long.
const SWALLOWING: Duration = Duration::from_secs(2);

/// So long a client may take to send it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads the whole body.
///
/// # Errors
///
/// 413 when it is larger than the limit, 400 when the connection fails in the middle, 504 when it does not come.
pub(crate) async fn read(body: Body) -> Result<Bytes, Status> {
    match tokio::time::timeout(PATIENCE, whole(body)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Status::timeout("the request body did not come in time", 0)),
    }
}

async fn whole(mut body: Body) -> Result<Bytes, Status> {
    if http_body::Body::size_hint(&body).lower() > BODY_LIMIT as u64 {
        swallow(body).await;
        return Err(Status::too_large(BODY_LIMIT));
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Status::bad_request(format!("cannot read the request body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.remaining() > BODY_LIMIT {
            swallow(body).await;
            return Err(Status::too_large(BODY_LIMIT));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

async fn swallow(mut body: Body) {
    let reading = async {
        let mut swallowed = 0;
        while let Some(Ok(frame)) = body.frame().await {
            swallowed += frame.data_ref().map_or(0, Bytes::len);
            if swallowed > SWALLOWED {
                break;
            }
        }
    };
    tokio::time::timeout(SWALLOWING, reading).await.ok();
}
