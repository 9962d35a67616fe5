//! Logs, exec and port-forward: streams between kubectl and a container. Tier `cluster`.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use skep_e2e::{Sandbox, cluster, eventually, shell_manifest};
use skep_harness::cluster::http_get;

#[test]
fn logs_follow_and_show_the_previous_container() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new(&cluster, "logs");
    let script = "for i in $(seq 1 5); do echo line $i; sleep 0.3; done; echo done >&2";
    sandbox.run_with(&["apply", "--filename", "-"], &shell_manifest("count", "Never", script));
    eventually(60, "the container starts", || {
        let pod = sandbox.json(&["pod", "count"]);
        (pod["status"]["phase"] != "Pending").then_some(())
    });
    let followed = sandbox.run(&["logs", "count", "--follow"]);
    assert_eq!(followed, "line 1\nline 2\nline 3\nline 4\nline 5\ndone\n");
    assert_eq!(sandbox.run(&["logs", "count", "--tail=2"]), "line 5\ndone\n");
    eventually(20, "the end of the container shows", || {
        (sandbox.json(&["pod", "count"])["status"]["phase"] == "Succeeded").then_some(())
    });

    let script = "echo start $(date +%s%N); sleep 1; exit 3";
    sandbox.run_with(&["apply", "--filename", "-"], &shell_manifest("crash", "Always", script));
    let pod = eventually(60, "the container is started again", || {
        let pod = sandbox.json(&["pod", "crash"]);
        let count = pod["status"]["containerStatuses"][0]["restartCount"].as_u64();
        (count >= Some(1)).then_some(pod)
    });
    assert_eq!(pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 3);
    assert!(sandbox.run(&["logs", "crash", "--previous"]).starts_with("start "));
}

#[test]
fn exec_passes_input_output_and_exit_status() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new(&cluster, "exec");
    sandbox.run_with(&["apply", "--filename", "-"], &shell_manifest("idle", "Always", "sleep 600"));
    sandbox.run(&["wait", "--for=condition=Ready", "pod/idle", "--timeout=60s"]);
    assert_eq!(sandbox.run(&["exec", "idle", "--", "hostname"]), "idle\n");
    let input = "a line\n".repeat(20_000);
    let output = sandbox.run_with(&["exec", "--stdin", "idle", "--", "cat"], &input);
    assert_eq!(output.len(), input.len());
    let failed =
        sandbox.command(&["exec", "idle", "--", "sh", "-c", "echo wrong >&2; exit 7"]).output().unwrap();
    assert_eq!(failed.status.code(), Some(7));
    assert!(String::from_utf8_lossy(&failed.stderr).starts_with("wrong\n"));
    // `script` gives kubectl a terminal.
    let inner =
        sandbox.command(&["exec", "--stdin", "--tty", "idle", "--", "sh", "-c", "[ -t 0 ] && echo terminal"]);
    let line = skep_harness::command::describe(&inner)
        .replace("[ -t 0 ] && echo terminal", "'[ -t 0 ] && echo terminal'");
    let output = Command::new("script").args(["--quiet", "--command", &line, "/dev/null"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("terminal"), "{output:?}");
    assert!(sandbox.fails(&["exec", "idle", "--container", "none", "--", "true"]).contains("none"));
}

#[test]
fn port_forward_carries_connections_to_the_pod() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new(&cluster, "forward");
    sandbox.echo("web", 1);
    let mut forward =
        sandbox.command(&["port-forward", "deployment/web", ":8080"]).stdout(Stdio::piped()).spawn().unwrap();
    // Kept: kubectl ends when it cannot write.
    let mut lines = BufReader::new(forward.stdout.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    let port = line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    for _ in 0..3 {
        let body = http_get(address, "/", Duration::from_secs(5)).unwrap();
        assert!(body.starts_with("web-"), "{body}");
    }
    forward.kill().unwrap();
    forward.wait().unwrap();
}
