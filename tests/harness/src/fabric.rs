//! The network between the machines of a development cluster: namespaces on one bridge, both families.
//!
//! Owns links, addresses and kernel settings of the fabric. What happens inside a node's network (pods, routes to other
//! nodes) is the node agent's.

use std::path::Path;

use anyhow::{Context, Result};

use crate::command::{run, run_line};
use crate::layout::{self, CLIENT, FABRIC, Layout, MACHINE_LINK, UPLINK};

/// Makes what is missing of namespaces, bridge and links. Returns whether anything was.
pub fn ensure(layout: &Layout) -> Result<bool> {
    let mut made = false;
    for namespace in layout.namespaces() {
        made |= ensure_namespace(namespace)?;
    }
    if !has_link(FABRIC, "br0")? {
        run_line(&format!("ip -n {FABRIC} link add br0 type bridge"))?;
        run_line(&format!("ip -n {FABRIC} link set br0 up"))?;
        made = true;
    }
    for control in &layout.controls {
        made |= ensure_uplink(&control.name, control.host, layout::MACHINE_HOST)?;
    }
    made |= ensure_uplink(CLIENT, layout::CLIENT_HOST, layout::CONTROL_HOST)?;
    for node in &layout.nodes {
        made |= ensure_uplink(&node.name, node.host, layout::CONTROL_HOST)?;
    }
    made |= ensure_machine_link()?;
    Ok(made)
}

/// Whether a network namespace of this name exists.
pub fn has_namespace(name: &str) -> bool {
    Path::new("/run/netns").join(name).exists()
}

fn ensure_namespace(name: &str) -> Result<bool> {
    if has_namespace(name) {
        return Ok(false);
    }
    run("ip", &["netns", "add", name])?;
    run("ip", &["-n", name, "link", "set", "lo", "up"])?;
    for setting in [
        "net.ipv4.conf.all.rp_filter=0",
        "net.ipv4.conf.default.rp_filter=0",
        "net.ipv6.conf.all.accept_dad=0",
        "net.ipv6.conf.default.accept_dad=0",
    ] {
        run_line(&format!("nsenter --net=/run/netns/{name} sysctl -qw {setting}"))?;
    }
    Ok(true)
}

fn has_link(namespace: &str, link: &str) -> Result<bool> {
    let links = run("ip", &["-n", namespace, "-o", "link", "show"])?;
    Ok(links.lines().any(|line| line.split([' ', ':', '@']).any(|word| word == link)))
}

/// One veth from the bridge to a namespace's `eth0`, with a default route by way of `gateway`: a service address must be
/// routable before it is translated.
fn ensure_uplink(namespace: &str, host: u16, gateway: u16) -> Result<bool> {
    if has_link(namespace, UPLINK)? {
        return Ok(false);
    }
    let port = format!("p{host}");
    run_line(&format!("ip -n {FABRIC} link add {port} type veth peer name {UPLINK} netns {namespace}"))?;
    run_line(&format!("ip -n {FABRIC} link set {port} master br0 up"))?;
    run_line(&format!("ip -n {namespace} addr add {}/24 dev {UPLINK}", layout::ipv4(host)))?;
    run_line(&format!("ip -n {namespace} addr add {}/64 dev {UPLINK} nodad", layout::ipv6(host)))?;
    run_line(&format!("ip -n {namespace} link set {UPLINK} up"))?;
    offloads_off(namespace, UPLINK)?;
    offloads_off(FABRIC, &port)?;
    run_line(&format!("ip -n {namespace} route add default via {} dev {UPLINK}", layout::ipv4(gateway)))?;
    run_line(&format!("ip -n {namespace} -6 route add default via {} dev {UPLINK}", layout::ipv6(gateway)))?;
    Ok(true)
}

/// Pulls the plug of a machine on the fabric, or puts it back.
pub fn plug(host: u16, in_place: bool) -> Result<()> {
    let how = if in_place { "up" } else { "down" };
    run_line(&format!("ip -n {FABRIC} link set p{host} {how}")).map(drop)
}

/// Frames cross the fabric as they would cross a wire: with their checksums, one segment each, and through a receiver
/// that polls, which native XDP on the other end needs.
fn offloads_off(namespace: &str, link: &str) -> Result<()> {
    run_line(&format!(
        "nsenter --net=/run/netns/{namespace} ethtool -K {link} tx off tso off gso off gro on"
    ))
    .context("a veth's offloads cannot be set")?;
    Ok(())
}

/// Gives the bridge's end of every node's uplink an XDP program that passes everything: a veth takes frames that native
/// XDP sends back only when its other end has one too, as a network card would by itself. Returns whether any lacked it.
pub fn ensure_wires(layout: &Layout, object: &Path) -> Result<bool> {
    let mut attached = false;
    for node in &layout.nodes {
        let port = format!("p{}", node.host);
        if run("ip", &["-n", FABRIC, "-details", "link", "show", &port])?.contains("prog/xdp") {
            continue;
        }
        let object = object.to_str().context("the object's path is text")?;
        let attach = format!("ip link set dev {port} xdpdrv object {object} section xdp");
        run_line(&format!("nsenter --net=/run/netns/{FABRIC} {attach}"))?;
        attached = true;
    }
    Ok(attached)
}

/// The machine itself gets a link into the fabric, so that kubectl and a browser on it reach the cluster.
fn ensure_machine_link() -> Result<bool> {
    if Path::new("/sys/class/net").join(MACHINE_LINK).exists() {
        return Ok(false);
    }
    run_line(&format!(
        "ip -n {FABRIC} link add p{} type veth peer name {MACHINE_LINK}",
        layout::MACHINE_HOST
    ))?;
    run_line(&format!("ip -n {FABRIC} link set {MACHINE_LINK} netns 1"))?;
    run_line(&format!("ip -n {FABRIC} link set p{} master br0 up", layout::MACHINE_HOST))?;
    run_line(&format!("ip addr add {}/24 dev {MACHINE_LINK}", layout::ipv4(layout::MACHINE_HOST)))?;
    run_line(&format!("ip -6 addr add {}/64 dev {MACHINE_LINK} nodad", layout::ipv6(layout::MACHINE_HOST)))?;
    run_line(&format!("ip link set {MACHINE_LINK} up"))?;
    Ok(true)
}
