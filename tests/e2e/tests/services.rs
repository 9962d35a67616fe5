//! Services as clients see them: from outside, from pods, by name. Tier `cluster`.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use skep_e2e::{Sandbox, cluster, eventually, shell_manifest};
use skep_harness::cluster::{http_get, in_network};
use skep_harness::layout::CLIENT;

fn service(name: &str, node_port: u16) -> String {
    format!(
        r#"apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  type: NodePort
  selector: {{app: {name}}}
  ports:
  - {{name: tcp, port: 80, targetPort: http, nodePort: {node_port}}}
  - {{name: udp, port: 80, targetPort: 8080, protocol: UDP, nodePort: {node_port}}}
"#
    )
}

/// Asks the node port until `wanted` pods have answered.
fn answering(address: SocketAddr, wanted: usize) -> BTreeSet<String> {
    in_network(CLIENT, || {
        let mut pods = BTreeSet::new();
        eventually(60, "every pod answers from outside", || {
            if let Ok(body) = http_get(address, "/", Duration::from_secs(2)) {
                pods.extend(body.split(' ').next().map(str::to_owned));
            }
            (pods.len() >= wanted).then_some(())
        });
        Ok(pods)
    })
    .expect("the client's namespace is there")
}

#[test]
fn node_port_reaches_every_pod_from_every_node_over_tcp_and_udp() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new(&cluster, "nodeport");
    sandbox.echo("web", 4);
    sandbox.run_with(&["apply", "--filename", "-"], &service("web", 30081));
    let pods: BTreeSet<String> = sandbox.pods("web").into_iter().collect();
    for node in &cluster.layout.nodes {
        let address: SocketAddr = format!("{}:30081", node.ipv4()).parse().unwrap();
        assert_eq!(answering(address, 4), pods);
        let replies = in_network(CLIENT, || {
            let mut replies = BTreeSet::new();
            eventually(30, "every pod answers datagrams", || {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
                socket.send_to(b"ping", address).unwrap();
                let mut buffer = [0; 512];
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    assert_eq!(from, address, "the answer comes from where the question went");
                    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                    replies.insert(text.strip_suffix(" ping").unwrap().to_owned());
                }
                (replies.len() == 4).then_some(())
            });
            Ok(replies)
        });
        assert_eq!(replies.unwrap(), pods);
    }
}

#[test]
fn cluster_ip_and_names_work_inside_pods() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new(&cluster, "names");
    sandbox.echo("web", 2);
    sandbox.run_with(&["apply", "--filename", "-"], &service("web", 30082));
    sandbox.run_with(&["apply", "--filename", "-"], &shell_manifest("client", "Always", "sleep 600"));
    sandbox.run(&["wait", "--for=condition=Ready", "pod/client", "--timeout=60s"]);
    // The programs of the image ask by number; names are asked for with nslookup.
    let ask = |address: &str| {
        let target = format!("{address}:80");
        sandbox
            .command(&["exec", "client", "--", "/echo", "get", &target, "/"])
            .output()
            .expect("kubectl runs")
    };
    let resolve = |name: &str| {
        let output =
            sandbox.command(&["exec", "client", "--", "nslookup", name]).output().expect("kubectl runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let address = sandbox.json(&["service", "web"])["spec"]["clusterIP"].as_str().unwrap().to_owned();
    let mut pods = BTreeSet::new();
    eventually(30, "both pods answer inside", || {
        let output = ask(&address);
        pods.extend(String::from_utf8_lossy(&output.stdout).split(' ').next().map(str::to_owned));
        pods.remove("");
        (pods.len() == 2).then_some(())
    });
    let full = format!("web.{}.svc.cluster.local", sandbox.name);
    let answer = eventually(20, "the service's name resolves", || {
        Some(resolve(&full)).filter(|answer| answer.contains(&address))
    });
    assert!(answer.contains(&full), "{answer}");
    assert!(!resolve(&full.replace("web", "nowhere")).contains("Address: 10."));
}

#[test]
fn service_follows_its_pods() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new(&cluster, "follow");
    sandbox.run_with(&["apply", "--filename", "-"], &service("web", 30083));
    let address: SocketAddr = format!("{}:30083", cluster.layout.nodes[0].ipv4()).parse().unwrap();
    let refused =
        in_network(CLIENT, || {
            Ok(eventually(20, "a service without endpoints refuses", || {
                match std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Some(true),
                    _ => None,
                }
            }))
        });
    assert!(refused.unwrap());
    sandbox.echo("web", 1);
    assert_eq!(answering(address, 1).len(), 1);
    sandbox.run(&["scale", "deployment/web", "--replicas=3"]);
    sandbox.run(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    assert_eq!(answering(address, 3).len(), 3);
}
