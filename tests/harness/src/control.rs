//! The control plane of a cluster: one process with the embedded store; or three, an etcd member beside each, and an
//! address that moves between them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cluster::{Cluster, PATIENCE, Parts};
use crate::kubectl::Kubectl;
use crate::layout::{self, API_PORT, CONTROL_HOST, Control, Layout};
use crate::process::{self, Place};
use crate::{address, etcd};

/// What all control planes of a cluster have in common: the authority of its certificates, and the key of its tokens.
const SHARED: [&str; 3] = ["ca.crt", "ca.key", "sa.key"];

/// How long a control plane may take to be ready.
const READY: Duration = Duration::from_secs(30);

impl Cluster {
    /// Starts every part of the control plane that does not run, or whose binary changed, and waits until the API is
    /// ready. Returns whether there was one.
    pub fn ensure_control(&self, parts: &Parts) -> Result<bool> {
        let changed = self.install(&parts.control, "skep-control")?;
        let several = self.layout.is_highly_available();
        let mut started = several && etcd::ensure(&self.layout)?;
        for control in &self.layout.controls {
            if changed {
                process::stop(&self.layout, &control.process, PATIENCE)?;
            }
            if process::find(&self.layout, &control.process).is_some() {
                self.wait_control_plane(control)?;
            } else {
                self.start_control_plane(control)?;
                started = true;
            }
        }
        if several {
            started |= address::ensure(&self.layout)?;
            self.write_kubeconfig()?;
            self.wait_api()?;
        }
        Ok(started)
    }

    /// Starts the control plane, or the first one, which must not run, and waits until it is ready.
    pub fn start_control(&self) -> Result<()> {
        self.start_control_plane(&self.layout.controls[0])
    }

    /// Starts one control plane, which must not run, and waits until it is ready.
    pub fn start_control_plane(&self, control: &Control) -> Result<()> {
        self.share_keys(control)?;
        let address = control.ipv4();
        let program = self.layout.bin("skep-control");
        let mut start = Place::Network(control.name.clone()).command(&program.to_string_lossy());
        start.arg("run").arg("--data-dir").arg(&control.data);
        start.args(["--advertise-address", &address, "--service-cidr", layout::SERVICE_CIDR]);
        start.args(["--cluster-cidr", layout::CLUSTER_CIDR, "--listen"]);
        if self.layout.is_highly_available() {
            let etcd = etcd::access(&self.layout);
            // The address that moves is here only sometimes.
            start.arg(format!("0.0.0.0:{API_PORT}")).args(["--tls-san", &layout::ipv4(CONTROL_HOST)]);
            start.args(["--etcd-endpoints", &etcd.endpoints]).arg("--etcd-cafile").arg(etcd.authority);
            start.arg("--etcd-certfile").arg(etcd.certificate).arg("--etcd-keyfile").arg(etcd.key);
        } else {
            start.arg(format!("{address}:{API_PORT}"));
        }
        process::start(&self.layout, &control.process, &mut start)?;
        self.wait_control_plane(control)
    }

    fn wait_control_plane(&self, control: &Control) -> Result<()> {
        let kubectl = Kubectl::new(&control.kubeconfig());
        self.wait_for(&control.process, READY, "the API server is not ready", || {
            control.kubeconfig().exists() && kubectl.run(&["get", "--raw", "/readyz"]).is_ok()
        })
    }

    /// Waits until the API is ready where the cluster's kubeconfig says.
    pub fn wait_api(&self) -> Result<()> {
        let kubectl = self.kubectl();
        process::wait_until(READY, || kubectl.run(&["get", "--raw", "/readyz"]).is_ok())
            .context("the API is not ready at the address that moves")
    }

    /// Gives a further control plane the first one's keys, before it would make its own.
    fn share_keys(&self, control: &Control) -> Result<()> {
        fs::create_dir_all(&control.data)?;
        let (from, to) = (self.layout.control_data().join("pki"), control.data.join("pki"));
        if from == to {
            return Ok(());
        }
        fs::create_dir_all(&to)?;
        for folder in [&control.data, &to] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        }
        for name in SHARED.into_iter().filter(|name| !to.join(name).exists()) {
            fs::copy(from.join(name), to.join(name)).with_context(|| format!("cannot share {name}"))?;
        }
        Ok(())
    }

    /// The first control plane's kubeconfig, for the address that moves.
    fn write_kubeconfig(&self) -> Result<()> {
        let first = &self.layout.controls[0];
        let text = fs::read_to_string(first.kubeconfig())?;
        let own = format!("https://{}:{API_PORT}", first.ipv4());
        let text = text.replace(&own, &Layout::server_url());
        let path = self.layout.kubeconfig();
        if fs::read_to_string(&path).is_ok_and(|present| present == text) {
            return Ok(());
        }
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(())
    }
}
