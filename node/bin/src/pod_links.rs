//! Joins the pod network to the datapath: what the network makes, the datapath attaches to.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use skep_maps::{Dataplane, MapsError};
use tokio::task::spawn_blocking;

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// The datapath, as the pod network sees it.
pub(crate) struct PodLinks(pub(crate) Arc<dyn Dataplane>);

impl PodLinks {
    /// The dataplane's calls may block for system calls.
    async fn call(
        &self,
        call: impl FnOnce(&dyn Dataplane) -> Result<(), MapsError> + Send + 'static,
    ) -> Outcome {
        let dataplane = self.0.clone();
        Ok(spawn_blocking(move || call(&*dataplane)).await??)
    }
}

#[async_trait]
impl skep_network::Datapath for PodLinks {
    async fn attach(&self, link: &skep_network::PodLink) -> Outcome {
        let link = skep_maps::PodLink {
            interface: link.host_interface.clone(),
            ifindex: link.ifindex,
            host_mac: link.host_mac,
            pod_mac: link.pod_mac,
            addresses: link.addresses.clone(),
            // The pod's end is a plain veth: the stack delivers to it.
            xdp_redirect: false,
        };
        self.call(move |dataplane| dataplane.attach_pod(&link)).await
    }

    async fn detach(&self, addresses: &[IpAddr]) -> Outcome {
        let addresses = addresses.to_vec();
        self.call(move |dataplane| dataplane.detach_pod(&addresses)).await
    }

    async fn routes_changed(&self) -> Outcome {
        self.call(|dataplane| dataplane.routes_changed()).await
    }
}
