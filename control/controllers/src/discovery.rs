//! Which kinds the API serves: the aggregated form in two requests, the older one where that is not served.

use kube::discovery::{ApiCapabilities, ApiResource};
use kube::{Client, Discovery};

use crate::error::{Error, Result};

/// Every kind in the version that its group prefers.
///
/// # Errors
/// When the kinds cannot all be listed: half of them would be worse than none.
pub(crate) async fn kinds(client: &Client) -> Result<Vec<(ApiResource, ApiCapabilities)>> {
    let aggregated = Discovery::new(client.clone()).run_aggregated().await;
    // A server that knows only the older form answers with that, which reads as an empty list.
    let discovery = match aggregated {
        Ok(discovery) if discovery.has_group("") => discovery,
        _ => Discovery::new(client.clone()).run().await.map_err(|error| Error::Discovery(Box::new(error)))?,
    };
    Ok(discovery.groups().flat_map(|group| group.recommended_resources()).collect())
}
