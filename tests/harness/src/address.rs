//! The address of the API in a highly available cluster: keepalived beside each control plane holds it where the API is
//! ready, and moves it (VRRP, RFC 5798) when that ends or the machine is gone.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::run;
use crate::layout::{self, API_PORT, CONTROL_HOST, Control, Layout, UPLINK};
use crate::process::{self, Place};

/// Starts what does not run. Returns whether anything was missing.
pub fn ensure(layout: &Layout) -> Result<bool> {
    let mut started = false;
    for control in &layout.controls {
        if process::find(layout, &control.beside("address")).is_none() {
            start(layout, control)?;
            started = true;
        }
    }
    process::wait_until(Duration::from_secs(15), || holder(layout).is_some())
        .context("no control plane has taken the address of the API")?;
    Ok(started)
}

/// The control plane that has the address, if exactly one has it.
pub fn holder(layout: &Layout) -> Option<&Control> {
    let mut holders = layout.controls.iter().filter(|control| has(control));
    holders.next().filter(|_| holders.next().is_none())
}

/// Whether a control plane has the address.
pub fn has(control: &Control) -> bool {
    let wanted = format!(" {}/", layout::ipv4(CONTROL_HOST));
    run("ip", &["-n", &control.name, "-o", "-4", "address", "show", "dev", UPLINK])
        .is_ok_and(|listing| listing.contains(&wanted))
}

fn start(layout: &Layout, control: &Control) -> Result<()> {
    let folder = layout.run.join("address");
    fs::create_dir_all(&folder)?;
    let file = |kind: &str| folder.join(format!("{}.{kind}", control.name));
    fs::write(file("conf"), configuration(layout, control))?;
    let mut command = Place::Network(control.name.clone()).command("keepalived");
    command.args(["--dont-fork", "--log-console", "--vrrp", "--use-file"]).arg(file("conf"));
    command.arg("--pid").arg(file("pid")).arg("--vrrp_pid").arg(file("vrrp.pid"));
    process::start(layout, &control.beside("address"), &mut command)?;
    Ok(())
}

/// Whoever holds the address keeps it while the API there is ready; several misses count, one may be chance.
fn configuration(layout: &Layout, control: &Control) -> String {
    let others: Vec<String> =
        layout.controls.iter().filter(|one| one.name != control.name).map(Control::ipv4).collect();
    format!(
        r#"global_defs {{
    router_id {name}
    script_user root
    enable_script_security
}}
vrrp_script api {{
    script "/usr/bin/curl --silent --fail --insecure --max-time 2 https://{own}:{API_PORT}/readyz"
    interval 1
    timeout 3
    fall 2
    rise 1
}}
vrrp_instance api {{
    state BACKUP
    nopreempt
    version 3
    interface {UPLINK}
    virtual_router_id 51
    priority {priority}
    advert_int 0.5
    unicast_src_ip {own}
    unicast_peer {{
        {others}
    }}
    virtual_ipaddress {{
        {address}/32 dev {UPLINK}
    }}
    virtual_ipaddress_excluded {{
        {address6}/128 dev {UPLINK}
    }}
    track_script {{
        api
    }}
}}
"#,
        name = control.name,
        own = control.ipv4(),
        priority = 100 + control.host,
        others = others.join("\n        "),
        address = layout::ipv4(CONTROL_HOST),
        address6 = layout::ipv6(CONTROL_HOST),
    )
}
