//! Joins the pods to the datapath: which of them have host ports.

use skep_pods::Pods;
use skep_services::{HostPods, host_pods};
use tokio::sync::watch;

/// The pods with host ports among `pods`, kept up to date; nothing before the API has listed them.
pub(crate) fn follow(pods: Pods) -> watch::Receiver<Option<HostPods>> {
    let (tell, told) = watch::channel(None);
    tokio::spawn(async move {
        let mut changes = pods.changes();
        while changes.wait_for(|listed| *listed).await.is_ok() {
            let list = pods.list();
            let found = host_pods(list.iter().map(|pod| &**pod));
            tell.send_if_modified(|known| {
                let differs = known.as_ref() != Some(&found);
                *known = Some(found);
                differs
            });
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { break },
                () = tell.closed() => break,
            }
        }
    });
    told
}
