//! Servers that are called with what a program says, over real TLS.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use parking_lot::Mutex;
use serde_json::{Value, json};
use skep_api::decode::{self, Encoding};

use super::super::testing::{Hook, Reply, Server};
use super::super::{Fixed, Why};
use super::answer::VERSIONS;
use crate::gate::Credentials;
use crate::pki::issue_node_credentials;

const PATIENCE: Duration = Duration::from_secs(20);

/// What one call showed: its `Authorization`, and whether there was a certificate, and which.
type Shown = (Option<String>, Option<Vec<u8>>);

/// A server that takes no token but those that it is told, and a program beside its kubeconfig.
struct Test {
    server: Server,
    shown: Arc<Mutex<Vec<Shown>>>,
    refused: Arc<Mutex<Vec<String>>>,
}

impl Test {
    async fn start() -> Self {
        let (shown, refused) = (Arc::<Mutex<Vec<Shown>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (all, bad) = (shown.clone(), refused.clone());
        let server = Server::seeing(move |parts, _| {
            let token = parts.headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
            let certificates = &parts.extensions.get::<Credentials>().unwrap().certificates;
            all.lock().push((token.clone(), certificates.first().cloned()));
            let known = token.is_none_or(|token| !bad.lock().contains(&token));
            Some((if known { 200 } else { 401 }, "{}".into()))
        });
        Self { server: server.await, shown, refused }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.server.directory.path().join(name)
    }

    /// Lets the program do this, and returns a server that is called with what it says.
    fn with(&self, version: &str, script: &str, more: &str) -> Fixed {
        let program = self.file("program");
        std::fs::write(
            &program,
            format!("#!/bin/sh\necho run >> {}\n{script}\n", self.file("runs").display()),
        )
        .unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let exec = format!("command: ./program, apiVersion: {version}, interactiveMode: Never, {more}");
        Fixed::from_kubeconfig(&kubeconfig(&self.server, &format!("exec: {{{exec}}}"))).unwrap()
    }

    fn runs(&self) -> usize {
        std::fs::read_to_string(self.file("runs")).unwrap_or_default().lines().count()
    }

    fn tokens(&self) -> Vec<String> {
        self.shown.lock().iter().map(|(token, _)| token.clone().unwrap_or_default()).collect()
    }
}

fn kubeconfig(server: &Server, user: &str) -> PathBuf {
    let path = server.directory.path().join("with-exec.kubeconfig");
    let extension = "[{name: client.authentication.k8s.io/exec, extension: {audience: here}}]";
    let cluster =
        format!("server: '{}', certificate-authority: ca.crt, extensions: {extension}", server.url("/hook"));
    let text = format!(
        "clusters: [{{name: c, cluster: {{{cluster}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n\
         contexts: [{{name: x, context: {{cluster: c, user: u}}}}]\ncurrent-context: x\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// A command of a shell that writes an answer with this status.
fn writes(version: &str, status: &Value) -> String {
    let credential = json!({ "kind": "ExecCredential", "apiVersion": version, "status": status });
    format!("cat <<'end'\n{credential}\nend")
}

#[tokio::test]
async fn token_of_a_program_is_shown_and_asked_for_once() {
    for version in VERSIONS {
        let test = Test::start().await;
        let hook = test.with(version, &writes(version, &json!({ "token": "t" })), "");
        assert_eq!(test.runs(), 0, "it is not asked before it is needed");
        let calls = (0..8).map(|_| async { hook.ask(&json!({}), PATIENCE).await.unwrap() });
        futures::future::join_all(calls).await;
        assert_eq!(test.tokens(), ["Bearer t"; 8]);
        assert_eq!(test.runs(), 1);
    }
}

#[tokio::test]
async fn token_is_asked_for_again_when_it_is_over() {
    let stamp =
        |seconds: i64| (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds)).to_string();
    for (end, runs) in [(stamp(-1), 3), (stamp(3600), 1)] {
        let test = Test::start().await;
        let status = json!({ "token": "t", "expirationTimestamp": end });
        let hook = test.with(VERSIONS[0], &writes(VERSIONS[0], &status), "");
        for _ in 0..3 {
            hook.ask(&json!({}), PATIENCE).await.unwrap();
        }
        assert_eq!(test.runs(), runs, "{end}");
    }
}

#[tokio::test]
async fn token_that_is_refused_is_replaced_for_the_next_call() {
    let test = Test::start().await;
    let runs = test.file("runs");
    let script = writes(VERSIONS[0], &json!({ "token": "number" }));
    let hook =
        test.with(VERSIONS[0], &format!("({script}\n) | sed s/number/$(wc -l < {})/", runs.display()), "");
    hook.ask(&json!({}), PATIENCE).await.unwrap();
    test.refused.lock().push("Bearer 1".into());
    let why = hook.ask(&json!({}), PATIENCE).await.unwrap_err().why;
    assert!(matches!(why, Why::Code(401, _)), "{why}");
    hook.ask(&json!({}), PATIENCE).await.unwrap();
    assert_eq!(test.tokens(), ["Bearer 1", "Bearer 1", "Bearer 2"]);
    assert_eq!(test.runs(), 2);
}

#[tokio::test]
async fn program_is_given_what_the_file_says_and_told_of_the_server() {
    let test = Test::start().await;
    let (told, given) = (test.file("told"), test.file("given"));
    let script = format!(
        "echo \"$KUBERNETES_EXEC_INFO\" > {}\necho \"$1 $2 $NAME $PATH\" > {}\ncat\n{}",
        told.display(),
        given.display(),
        writes(VERSIONS[0], &json!({ "token": "t" }))
    );
    let more = "provideClusterInfo: true, args: [a, 'b c'], env: [{name: NAME, value: v}]";
    test.with(VERSIONS[0], &script, more).ask(&json!({}), PATIENCE).await.unwrap();
    let given = std::fs::read_to_string(given).unwrap();
    assert_eq!(given.trim_end(), format!("a b c v {}", std::env::var("PATH").unwrap()));
    let told: Value = serde_json::from_str(&std::fs::read_to_string(told).unwrap()).unwrap();
    let cluster = json!({
        "server": test.server.url("/hook"),
        "certificate-authority-data": STANDARD.encode(&test.server.ca),
        "config": { "audience": "here" },
    });
    assert_eq!(
        told,
        json!({
            "kind": "ExecCredential",
            "apiVersion": VERSIONS[0],
            "spec": { "interactive": false, "cluster": cluster },
        })
    );
}

/// The certificate and key of a node, as a file's user has them.
fn certificate(pki: &Path, out: &Path, node: &str) -> (String, String) {
    issue_node_credentials(pki, node, &[], "https://a", out, SystemTime::now()).unwrap();
    let text = std::fs::read(out.join("kubeconfig")).unwrap();
    let user = decode::parse(&text, Encoding::Yaml).unwrap().value["users"][0]["user"].clone();
    let pem =
        |field: &str| String::from_utf8(STANDARD.decode(user[field].as_str().unwrap()).unwrap()).unwrap();
    (pem("client-certificate-data"), pem("client-key-data"))
}

#[tokio::test]
async fn certificate_of_a_program_is_shown_and_another_one_makes_another_connection() {
    let test = Test::start().await;
    let directory = test.server.directory.path();
    let mut expected = Vec::new();
    for node in ["one", "two"] {
        let (certificate, key) = certificate(directory, &test.file("out"), node);
        let status = json!({
            "clientCertificateData": certificate,
            "clientKeyData": key,
            "token": node,
            "expirationTimestamp": "1970-01-01T00:00:00Z",
        });
        let answer = json!({ "kind": "ExecCredential", "apiVersion": VERSIONS[0], "status": status });
        std::fs::write(test.file(node), answer.to_string()).unwrap();
        expected.push(pem::parse(&certificate).unwrap().into_contents());
    }
    let (answer, one, two) = (test.file("answer"), test.file("one"), test.file("two"));
    let hook = test.with(VERSIONS[0], &format!("cat {}", answer.display()), "");
    for file in [&one, &one, &two] {
        std::fs::copy(file, &answer).unwrap();
        hook.ask(&json!({}), PATIENCE).await.unwrap();
    }
    let shown: Vec<_> =
        test.shown.lock().iter().map(|(_, certificate)| certificate.clone().unwrap()).collect();
    assert_eq!(shown, [expected[0].clone(), expected[0].clone(), expected[1].clone()]);
    assert_eq!(test.tokens(), ["Bearer one", "Bearer one", "Bearer two"]);
}

#[tokio::test]
async fn program_that_fails_is_named_and_the_server_not_called() {
    for (script, expected) in [
        ("exit 3", "failed with exit code 3"),
        ("echo nonsense", "decoding stdout: "),
        ("head -c 2000000 /dev/zero", "its answer is longer than 1048576 bytes"),
        ("kill -9 $$", "failed with exit code -1"),
    ] {
        let test = Test::start().await;
        let hook = test.with(VERSIONS[0], script, "");
        let failed = hook.ask(&json!({}), PATIENCE).await.unwrap_err();
        let said = failed.to_string();
        let url = test.server.url("/hook?timeout=30s");
        assert!(
            said.starts_with(&format!("Post {url:?}: getting credentials: ")) && said.contains(expected),
            "{said}"
        );
        assert_eq!((test.server.calls(), test.runs()), (0, 1), "{script}: it is not tried again");
    }
}

#[tokio::test]
async fn program_that_is_not_there_is_named_with_what_the_file_says_of_it() {
    let server = Server::start(|_, _| Some((200, "{}".into()))).await;
    let exec =
        "command: no-such-program, apiVersion: client.authentication.k8s.io/v1beta1, installHint: get it";
    let hook = Fixed::from_kubeconfig(&kubeconfig(&server, &format!("exec: {{{exec}}}"))).unwrap();
    let failed = hook.ask(&json!({}), PATIENCE).await.unwrap_err().to_string();
    assert!(failed.ends_with("exec: executable no-such-program not found\n\nget it"), "{failed}");
}

#[tokio::test]
async fn program_that_has_to_ask_its_user_is_not_run_without_one() {
    let server = Server::start(|_, _| Some((200, "{}".into()))).await;
    let exec = "command: 'true', apiVersion: client.authentication.k8s.io/v1, interactiveMode: Always";
    let hook = Fixed::from_kubeconfig(&kubeconfig(&server, &format!("exec: {{{exec}}}"))).unwrap();
    if std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        return;
    }
    let failed = hook.ask(&json!({}), PATIENCE).await.unwrap_err().to_string();
    assert!(
        failed.contains("exec plugin cannot support interactive mode: standard input is not a terminal"),
        "{failed}"
    );
}

#[tokio::test]
async fn program_outlives_the_call_that_asked_it() {
    let test = Test::start().await;
    let script = format!("sleep 0.3\n{}", writes(VERSIONS[0], &json!({ "token": "t" })));
    let hook = test.with(VERSIONS[0], &script, "");
    let early = hook.post("{}".into(), Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(early.why, Why::Timeout);
    hook.post("{}".into(), PATIENCE).await.unwrap();
    assert_eq!((test.tokens(), test.runs()), (vec!["Bearer t".to_owned()], 1));
}

#[tokio::test]
async fn program_is_asked_for_each_server_that_an_object_names() {
    let directory = tempfile::tempdir().unwrap();
    let (program, told) = (directory.path().join("program"), directory.path().join("told"));
    // The token is the port of the server that the program is told of.
    let script = format!(
        "#!/bin/sh\necho \"$KUBERNETES_EXEC_INFO\" >> {}\nport=$(echo \"$KUBERNETES_EXEC_INFO\" | \
         sed 's/.*127.0.0.1:\\([0-9]*\\)\".*/\\1/')\necho '{{\"kind\": \"ExecCredential\", \"apiVersion\": \"{}\", \
         \"status\": {{\"token\": \"'$port'\"}}}}'\n",
        told.display(),
        VERSIONS[0]
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    let file = directory.path().join("kubeconfig");
    let exec = format!(
        "command: ./program, apiVersion: {}, interactiveMode: Never, provideClusterInfo: true",
        VERSIONS[0]
    );
    std::fs::write(&file, format!("users: [{{name: '*', user: {{exec: {{{exec}}}}}}}]\n")).unwrap();
    let users = super::super::Credentials::read(&file).unwrap();
    let caller = super::super::Caller::new(Arc::new(crate::testing::Objects::default()));
    for _ in 0..2 {
        let hook = Hook::start(&[], |_| Reply::Json(json!({}))).await;
        let target = super::super::Target::of_webhook(&hook.client_config("/path")).unwrap();
        for _ in 0..2 {
            caller.post(&target, users.of(&target), "", "{}".into(), PATIENCE, 1 << 20).await.unwrap();
        }
        let shown: Vec<_> =
            hook.seen().iter().map(|seen| seen.headers[AUTHORIZATION].to_str().unwrap().to_owned()).collect();
        assert_eq!(shown, vec![format!("Bearer {}", hook.address.port()); 2]);
    }
    let told = std::fs::read_to_string(told).unwrap();
    assert_eq!(told.lines().count(), 2, "once for each: {told}");
    assert!(told.lines().all(|line| line.contains("certificate-authority-data") && !line.contains("/path")));
}
