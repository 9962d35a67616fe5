//! Rules for the baseline, in the form of kube-proxy's nftables mode: verdict maps from address and port to a chain of each
//! service, which marks for masquerading and jumps to the chain of its endpoints; `ct state new` checks of services
//! without endpoints, of source ranges and of unknown cluster addresses on the way; masquerading at the end.
//!
//! Written from its documentation, with the same hooks, priorities and look-ups per packet; comments and counters, which it
//! has none of either, are left out.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::wire::POD;
use crate::objects::{PORT, TARGET_PORT, cluster_ip};

/// Chains that are hooked, and what each jumps to first.
const BASE: &str = "
  chain pre-dnat-in { type filter hook prerouting priority -110; ct state new jump firewall-check; }
  chain pre-dnat-out { type filter hook output priority -110; ct state new jump firewall-check; }
  chain input { type filter hook input priority 0;
    ct state new jump port-without-endpoints; ct state new jump service-without-endpoints; }
  chain forward { type filter hook forward priority 0;
    ct state new jump service-without-endpoints; ct state new jump cluster-address-check; }
  chain output { type filter hook output priority 0;
    ct state new jump service-without-endpoints; ct state new jump cluster-address-check; }
  chain nat-in { type nat hook prerouting priority -100; jump services; }
  chain nat-out { type nat hook output priority -100; jump services; }
  chain nat-last { type nat hook postrouting priority 100; jump masquerading; }
";

/// Chains and sets that all services share.
const SHARED: &str = "
  set hairpins { type ipv4_addr . ipv4_addr . inet_proto . inet_service; }
  set cluster-addresses { type ipv4_addr; }
  map empty-services { type ipv4_addr . inet_proto . inet_service : verdict; }
  map empty-ports { type inet_proto . inet_service : verdict; }
  map firewalled { type ipv4_addr . inet_proto . inet_service : verdict; }
  map service-addresses { type ipv4_addr . inet_proto . inet_service : verdict; }
  map service-ports { type inet_proto . inet_service : verdict; }
  chain firewall-check { ip daddr . meta l4proto . th dport vmap @firewalled; }
  chain service-without-endpoints { ip daddr . meta l4proto . th dport vmap @empty-services; }
  chain port-without-endpoints { ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @empty-ports; }
  chain cluster-address-check { ip daddr @cluster-addresses reject; ip daddr 10.96.0.0/16 drop; }
  chain services {
    ip daddr @cluster-addresses ip saddr != 10.244.0.0/16 meta mark set meta mark or 0x4000;
    ip daddr . meta l4proto . th dport vmap @service-addresses;
    fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @service-ports; }
  chain masquerading {
    meta mark and 0x4000 != 0 meta mark set meta mark xor 0x4000 masquerade fully-random;
    ct status dnat ip saddr . ip daddr . meta l4proto . th dport @hairpins masquerade fully-random; }
";

/// Installs the rules in this namespace for that many services with one endpoint each.
pub(super) fn install(services: u16, first_port: u16) -> Result<()> {
    let text = text(services, first_port)?;
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("nft is missing: apt-get install nftables")?;
    nft.stdin.take().context("nft has no input")?.write_all(text.as_bytes())?;
    let output = nft.wait_with_output()?;
    ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn text(services: u16, first_port: u16) -> Result<String> {
    let mut text = format!("table ip kube-proxy {{{SHARED}");
    for number in 0..services {
        writeln!(
            text,
            "  chain service-{number} {{ meta l4proto tcp dnat ip to numgen random mod 1 map {{ 0 : {POD} . {TARGET_PORT} }}; }}"
        )?;
        writeln!(
            text,
            "  chain external-{number} {{ meta mark set meta mark or 0x4000; goto service-{number}; }}"
        )?;
    }
    let list = |each: &dyn Fn(u16) -> String| (0..services).map(each).collect::<Vec<_>>().join(", ");
    writeln!(text, "{BASE}}}")?;
    let mut add =
        |name: &str, elements: String| writeln!(text, "add element ip kube-proxy {name} {{ {elements} }}");
    add("cluster-addresses", list(&|number| cluster_ip(number.into()).to_string()))?;
    add("hairpins", format!("{POD} . {POD} . tcp . {TARGET_PORT}"))?;
    add(
        "service-addresses",
        list(&|number| format!("{} . tcp . {PORT} : goto service-{number}", cluster_ip(number.into()))),
    )?;
    add("service-ports", list(&|number| format!("tcp . {} : goto external-{number}", first_port + number)))?;
    Ok(text)
}
