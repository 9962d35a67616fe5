//! Crashes of the agent and of the control plane. Tier `cluster`.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use skep_e2e::{Sandbox, cluster, eventually};
use skep_harness::cluster::{Cluster, http_get, in_network};
use skep_harness::layout::CLIENT;
use skep_harness::process;

/// One request over a connection that stays open; the line of the answer that names the pod.
fn ask(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    stream.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: echo\r\n\r\n")?;
    let mut body = String::new();
    loop {
        body.clear();
        if stream.read_line(&mut body)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if body == "\r\n" {
            break;
        }
    }
    body.clear();
    stream.read_line(&mut body)?;
    Ok(body)
}

fn kill(cluster: &Cluster, name: &str) {
    let found = process::find(&cluster.layout, name).unwrap_or_else(|| panic!("{name} runs"));
    process::kill_all(&[found.pid]);
}

#[test]
fn connections_outlive_a_killed_agent() {
    let Some(cluster) = cluster() else { return };
    let node = &cluster.layout.nodes[0];
    let address: SocketAddr = format!("{}:30080", node.ipv4()).parse().unwrap();
    let mut streams = in_network(CLIENT, || {
        (0..8)
            .map(|_| {
                let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
                stream.set_read_timeout(Some(Duration::from_secs(5)))?;
                Ok(BufReader::new(stream))
            })
            .collect::<anyhow::Result<Vec<_>>>()
    })
    .unwrap();
    let before: Vec<String> = streams.iter_mut().map(|stream| ask(stream).unwrap()).collect();

    kill(&cluster, &node.process("agent"));
    let during: Vec<String> = streams.iter_mut().map(|stream| ask(stream).unwrap()).collect();
    assert_eq!(during, before, "without its agent");
    let fresh = in_network(CLIENT, || http_get(address, "/", Duration::from_secs(2)));
    assert!(fresh.is_ok(), "new connections do not need the agent: {fresh:?}");

    cluster.start_agent(node).unwrap();
    cluster.wait_ready(node).unwrap();
    let after: Vec<String> = streams.iter_mut().map(|stream| ask(stream).unwrap()).collect();
    assert_eq!(after, before, "with the agent started again");
}

#[test]
fn pods_outlive_a_killed_agent_without_a_restart() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new(&cluster, "adopt");
    sandbox.echo("web", 2);
    let ids = || {
        let pods = sandbox.json(&["pods"]);
        let items = pods["items"].as_array().unwrap().clone();
        let mut ids: Vec<String> = items
            .iter()
            .map(|pod| pod["status"]["containerStatuses"][0]["containerID"].to_string())
            .collect();
        ids.sort();
        ids
    };
    let before = ids();
    for node in &cluster.layout.nodes {
        kill(&cluster, &node.process("agent"));
        cluster.start_agent(node).unwrap();
    }
    sandbox.run(&["scale", "deployment/web", "--replicas=3"]);
    sandbox.run(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let after = ids();
    assert!(before.iter().all(|id| after.contains(id)), "{before:?} {after:?}");
}

#[test]
fn control_plane_killed_in_the_middle_loses_nothing() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new(&cluster, "crash");
    for number in 0..10 {
        sandbox.config_map(&format!("c{number}"));
    }
    let before = sandbox.json(&["configmaps"])["items"].clone();
    kill(&cluster, "control");
    cluster.start_control().unwrap();
    assert_eq!(sandbox.json(&["configmaps"])["items"], before);
    sandbox.echo("web", 1);
    let kubectl = cluster.kubectl();
    eventually(30, "both nodes are ready", || {
        let nodes = kubectl.run(&["get", "nodes"]).unwrap_or_default();
        (nodes.matches(" Ready ").count() == 2).then_some(())
    });
}

#[test]
fn metrics_tell_of_requests_and_packets() {
    let Some(cluster) = cluster() else { return };
    let kubectl = cluster.kubectl();
    let server = kubectl.run(&["get", "--raw", "/metrics"]).unwrap();
    assert!(server.contains("apiserver_request_total{"), "{}", &server[..server.len().min(400)]);
    let address: SocketAddr = format!("{}:30080", cluster.layout.nodes[0].ipv4()).parse().unwrap();
    let packets = || {
        let text = kubectl.run(&["get", "--raw", "/api/v1/nodes/skep-n1/proxy/metrics"]).unwrap();
        let ours =
            text.lines().filter(|line| line.starts_with("skep_") && line.contains("program=\"xdp_uplink\""));
        ours.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
    };
    let before = packets();
    in_network(CLIENT, || http_get(address, "/", Duration::from_secs(2))).unwrap();
    assert!(packets() > before, "the request went through XDP");
}
